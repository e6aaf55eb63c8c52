"""The latency of a network: the median of many rounds, without side effects."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from trainables.training import latency
from trainables.training.device import Device, select_device
from trainables.training.latency import REPEATS, WARM_UP_ROUNDS, measure_latency

CPU = Device(torch.device("cpu"), bfloat16=False)
devices = [
    pytest.param(CPU, id="float32"),
    pytest.param(Device(torch.device("cpu"), bfloat16=True), id="bfloat16"),
]


def convolutional(features: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, features, 3, padding=1),
        nn.BatchNorm2d(features),
        nn.Dropout(0.5),
        nn.Conv2d(features, features, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, 10),
    )


class Watched(nn.Module):
    """Records its inputs; ``take`` advances a clock by the duration of each call."""

    def __init__(self, take: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.now = 0.0
        self.calls: list[Tensor] = []
        self.modes: set[tuple[bool, bool, bool]] = set()
        self._take = take

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(images)
        self.modes.add((self.training, torch.is_inference_mode_enabled(), autocasts()))
        self.now += self._take()
        return images


def autocasts() -> bool:
    return torch.is_autocast_enabled("cpu")


def measured(take: Callable[[], float]) -> tuple[float, int]:
    """Return the latency on a clock that only the network advances, and the number of calls."""
    network = Watched(take)
    found = measure_latency(network, (1, 2, 2), 1, CPU, clock=lambda: network.now)
    return found, len(network.calls)


@pytest.mark.parametrize("device", devices)
def test_measuring_leaves_the_network_unchanged(device: Device) -> None:
    network = convolutional()
    network.train()
    network[1].eval()  # A frozen part.
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    measure_latency(network, (3, 8, 8), 2, device)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    after = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(after) == len(gradients) > 0
    assert all(map(torch.equal, after, gradients))
    # Training continues unaffected.
    network(torch.randn(2, 3, 8, 8)).sum().backward()


def test_measuring_latency_keeps_random_generators() -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images + torch.randn_like(images)

    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    measure_latency(Noisy(), (1, 2, 2), 1, CPU)
    assert torch.equal(torch.randn(3), expected)


def test_failed_measurement_leaves_the_network_unchanged() -> None:
    class Failing(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("too much")

    network = Failing().train()
    with pytest.raises(RuntimeError, match="too much"):
        measure_latency(network, (1, 2, 2), 1, CPU)
    assert network.training
    assert not torch.is_inference_mode_enabled()
    assert not autocasts()


@pytest.mark.parametrize("device", devices)
def test_latency_measures_inference_on_a_deployed_batch(
    device: Device,
) -> None:
    network = Watched()
    network.train()
    measure_latency(network, (3, 5, 4), 6, device)
    assert network.modes == {(False, True, device.bfloat16)}
    first = network.calls[0]
    assert first.shape == (6, 3, 5, 4)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert all(images is first for images in network.calls)


def test_weights_are_cast_once_and_restored() -> None:
    """Autocast would cast the weights in every round."""
    network = convolutional()
    formats: set[torch.dtype] = set()
    network[0].register_forward_pre_hook(lambda layer, _: formats.add(layer.weight.dtype))
    before = dict(network.named_parameters())
    measure_latency(network, (3, 8, 8), 2, Device(torch.device("cpu"), bfloat16=True))
    assert formats == {torch.bfloat16}
    after = dict(network.named_parameters())
    assert all(after[name] is weight for name, weight in before.items())
    assert after.keys() == before.keys()
    assert all(weight.dtype == torch.float32 for weight in after.values())


def test_forward_pass_is_captured_if_possible(monkeypatch) -> None:
    made: list[tuple[torch.device, int]] = []

    replayed: list[Callable[[], None]] = []

    def graphed_step(device: torch.device, steps: int) -> Callable[[Callable[[], None]], None]:
        made.append((device, steps))

        def replay(step: Callable[[], None]) -> None:
            replayed.append(step)
            step()

        return replay

    monkeypatch.setattr(latency, "GraphedStep", graphed_step)
    found, calls = measured(lambda: 0.002)
    assert found == pytest.approx(2.0)
    assert made == [(CPU.device, REPEATS[1])]
    assert len(replayed) == calls, "every pass goes through the graph"
    assert len(set(replayed)) == 1


def test_latency_is_the_median_in_milliseconds() -> None:
    def slow_now_and_then() -> Iterator[float]:
        while True:
            yield from (0.003, 0.003, 0.003, 0.5)

    times = slow_now_and_then()
    found, _ = measured(lambda: next(times))
    assert found == pytest.approx(3.0)


def test_slow_warm_up_rounds_are_not_counted() -> None:
    taken = iter([0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03] + [0.02] * 1000)
    found, _ = measured(lambda: next(taken))
    assert found == pytest.approx(20.0)


def test_number_of_rounds_is_bounded() -> None:
    _, steady = measured(lambda: 0.0001)
    assert steady == WARM_UP_ROUNDS[0] + REPEATS[1]
    swinging = iter([0.0001, 0.0002] * 1000)
    _, unsteady = measured(lambda: next(swinging))
    assert unsteady == WARM_UP_ROUNDS[1] + REPEATS[1]


def test_slow_network_is_measured_ten_times_after_two_rounds() -> None:
    found, calls = measured(lambda: 2.0)
    assert found == pytest.approx(2000.0)
    assert calls == 2 + REPEATS[0]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads would wait for each other while other programs use their CPUs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_larger_network_and_larger_batch_take_longer() -> None:
    """Both require at least a thousand times the arithmetic."""
    small = measure_latency(convolutional(4), (3, 16, 16), 1, CPU)
    assert small > 0
    assert measure_latency(convolutional(160), (3, 16, 16), 4, CPU) > 2 * small
    assert measure_latency(convolutional(4), (3, 16, 16), 1024, CPU) > 2 * small


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_gpu_rounds_synchronise_and_keep_random_generators() -> None:
    device = select_device("cuda")
    network = convolutional(256).to(device.device)
    torch.manual_seed(7)
    expected = torch.randn(3, device=device.device)
    torch.manual_seed(7)
    one = measure_latency(network, (3, 64, 64), 1, device)
    many = measure_latency(network, (3, 64, 64), 512, device)
    assert many > 2 * one > 0
    assert torch.equal(torch.randn(3, device=device.device), expected)
