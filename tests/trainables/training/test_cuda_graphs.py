"""Repeated steps: run directly, or captured once and replayed; none is lost or run twice.

Few machines have a GPU, so a fake below torch.cuda records its calls.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from trainables.training import cuda_graphs
from trainables.training.cuda_graphs import WARM_UP, WORTH, GraphedStep

CUDA = torch.device("cuda:0")


def test_step_on_the_cpu_runs_directly() -> None:
    taken: list[int] = []
    repeat = GraphedStep(torch.device("cpu"), 10 * WORTH)
    for number in range(2 * WORTH):
        repeat(lambda number=number: taken.append(number))
    assert taken == list(range(2 * WORTH))
    assert not repeat.is_captured


class FakeStream:
    def __init__(self, cuda: "FakeCuda", name: str) -> None:
        self.device = CUDA
        self.name = name
        self._cuda = cuda

    def wait_stream(self, other: "FakeStream") -> None:
        self._cuda.calls.append(f"{self.name} waits for {other.name}")


class FakeCuda:
    """Stands in for a GPU: ``calls`` records calls, ``executed`` counts steps that took effect.

    While a graph is captured, a step is recorded and does not execute; a replay executes it.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.executed = 0
        self.capture_error: RuntimeError | None = None
        """Raised at the end of a capture."""
        self.step_error: RuntimeError | None = None
        """Raised by the step while it is captured."""
        self.device_error: RuntimeError | None = None
        """Raised by calls that wait for the device."""
        self._current = FakeStream(self, "main")
        self._capturing = False

    def step(self) -> None:
        """Stand in for a training step."""
        if self._capturing:
            self.calls.append(f"record on {self.current_stream().name}")
            if self.step_error is not None:
                raise self.step_error
            return
        self.calls.append(f"step on {self.current_stream().name}")
        self.executed += 1

    def current_stream(self, device: torch.device | None = None) -> FakeStream:
        return self._current

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._current = before

    def graph_class(self) -> type:
        cuda = self

        class FakeGraph:
            def replay(self) -> None:
                cuda.calls.append(f"replay on {cuda.current_stream().name}")
                cuda.executed += 1

        return FakeGraph

    def end_allocate_to_pool(self, device: int, pool: object) -> None:
        """Close a pool; torch has closed it already if the capture ended normally."""
        if self.capture_error is None:
            raise RuntimeError("not recording")
        self.calls.append(f"close {pool}")

    def release_pool(self, device: int, pool: object) -> None:
        self.calls.append(f"release {pool}")

    @contextmanager
    def graph(
        self, graph: Any, pool: object, stream: FakeStream, capture_error_mode: str
    ) -> Iterator[None]:
        # Other threads copy images meanwhile.
        assert capture_error_mode == "thread_local"
        self.calls.append("capture")
        self._capturing = True
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._capturing = False
            if self.capture_error is not None:
                # Torch stays on the stream if ending the capture fails.
                raise self.capture_error
            self._current = before
        self.calls.append("captured")

    def renew_generator(self, device: torch.device) -> None:
        self.calls.append("renew generator")

    def synchronize(self, device: torch.device) -> None:
        self.calls.append("synchronize")
        if self.device_error is not None:
            raise self.device_error


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    cuda_graphs._side_stream.cache_clear()
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", fake.end_allocate_to_pool)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", fake.release_pool)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(fake, "side"))
    monkeypatch.setattr(torch.cuda, "stream", fake.stream)
    monkeypatch.setattr(torch.cuda, "current_stream", fake.current_stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.graph_class())
    monkeypatch.setattr(torch.cuda, "graph", fake.graph)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(cuda_graphs, "_renew_generator", fake.renew_generator)
    yield fake
    cuda_graphs._side_stream.cache_clear()


AS_IT_IS = ["side waits for main", "step on side", "main waits for side"]
CAPTURE = ["capture", "record on side", "captured"]


def test_step_is_warmed_up_captured_once_and_replayed(cuda):
    repeat = GraphedStep(CUDA, WORTH)
    captured = []
    for _ in range(WORTH):
        repeat(cuda.step)
        captured.append(repeat.is_captured)
    replays = WORTH - WARM_UP
    assert cuda.calls == AS_IT_IS * WARM_UP + CAPTURE + ["replay on main"] * replays
    assert cuda.executed == WORTH
    assert captured == [False] * WARM_UP + [True] * replays


def test_every_call_runs_exactly_one_step(cuda):
    repeat = GraphedStep(CUDA, 10 * WORTH)
    for number in range(1, 2 * WORTH):
        repeat(cuda.step)
        assert cuda.executed == number


@pytest.mark.parametrize("steps", [0, 1, WARM_UP, WORTH - 1])
def test_training_of_few_steps_is_not_captured(cuda, steps):
    repeat = GraphedStep(CUDA, steps)
    for _ in range(steps):
        repeat(cuda.step)
    assert cuda.calls == AS_IT_IS * steps
    assert cuda.executed == steps
    assert not repeat.is_captured


@pytest.mark.parametrize("where", ["step_error", "capture_error"])
def test_failed_capture_runs_steps_without_graph_and_warns(cuda, caplog, where):
    setattr(cuda, where, RuntimeError("operation not permitted when stream is capturing"))
    repeat = GraphedStep(CUDA, WORTH)
    with caplog.at_level(logging.INFO, logger=cuda_graphs.__name__):
        for number in range(1, WORTH + 1):
            repeat(cuda.step)
            assert cuda.executed == number
            assert cuda.current_stream().name == "main"
    # A capture that failed to end has left its memory pool open.
    left = ["close pool", "release pool"] if where == "capture_error" else []
    tried = ["capture", "record on side", "synchronize", *left, "renew generator"]
    assert cuda.calls == AS_IT_IS * WARM_UP + tried + AS_IT_IS * (WORTH - WARM_UP)
    assert not repeat.is_captured
    assert [record.getMessage() for record in caplog.records] == [
        "steps run without a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_broken_device_ends_the_training(cuda):
    cuda.capture_error = RuntimeError("the capture failed")
    cuda.device_error = RuntimeError("an illegal memory access was encountered")
    repeat = GraphedStep(CUDA, WORTH)
    for _ in range(WARM_UP):
        repeat(cuda.step)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        repeat(cuda.step)
    assert cuda.executed == WARM_UP


def test_other_error_in_step_is_not_a_failed_capture(cuda):
    repeat = GraphedStep(CUDA, WORTH)
    for _ in range(WARM_UP):
        repeat(cuda.step)

    def wrong() -> None:
        raise TypeError("a mistake in the step")

    with pytest.raises(TypeError, match="a mistake in the step"):
        repeat(wrong)


@pytest.mark.parametrize("drawn", [0, 1, 7])
def test_renewed_generator_continues_the_random_numbers(monkeypatch, drawn):
    """Uses CPU generators, whose state a capture cannot hold."""
    generator = ReplacedGenerator()
    generator.manual_seed(5)
    expected = torch.Generator().manual_seed(5)
    for each in (generator.state, expected):
        torch.rand(drawn, generator=each)
    generator.offset = drawn
    old = generator.state
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch, "Generator", lambda device: ReplacedGenerator())
    cuda_graphs._renew_generator(CUDA)
    assert generator.state is not old
    found = torch.rand(3, generator=generator.state)
    assert torch.equal(found, torch.rand(3, generator=expected))


class ReplacedGenerator:
    """A generator like CUDA's: its state is a separate object with an offset."""

    def __init__(self) -> None:
        self.state = torch._C.Generator()
        self.offset = 0

    def manual_seed(self, seed: int) -> None:
        self.state.manual_seed(seed)

    def initial_seed(self) -> int:
        return self.state.initial_seed()

    def get_offset(self) -> int:
        return self.offset

    def set_offset(self, offset: int) -> None:
        torch.rand(offset, generator=self.state)

    def graphsafe_get_state(self) -> "ReplacedGenerator":
        return self

    def graphsafe_set_state(self, other: "ReplacedGenerator") -> None:
        self.state = other.state
