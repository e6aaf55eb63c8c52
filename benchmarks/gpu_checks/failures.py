"""Stage 4: a failure ends at most one training; the next one in the process succeeds."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from loops import noise
from torch import Tensor, nn

from gpu_checks.exact import compare, results
from gpu_checks.inside import Warnings, eager, float32
from gpu_checks.records import CheckFailedError, Finding, Recorder, expect
from gpu_checks.subjects import Setting
from spaces.candidate import Candidate
from trainables.training.loop import Training
from trainables.training.process import is_out_of_memory, release_memory

ENDLESS = 1 << 50
"""More bytes than any device has."""
SPARE = 64 << 20
"""Bytes that a process may use beyond its current memory when its limit is too small."""

Spoil = Callable[[Training], None]
"""Makes the steps of a training fail."""


def check_failures(setting: Setting, recorder: Recorder) -> None:
    """Let trainings fail, each followed by a normal one."""
    for name, work in (
        ("a capture that .item() invalidates", lambda: _failed_capture(setting, wait_in_step)),
        (
            "a capture that runs out of memory in the backward pass",
            lambda: _failed_capture(setting, exhaust_capture),
        ),
        ("a step that runs out of memory in the backward pass", lambda: _exhausted_step(setting)),
        ("a memory fraction that is too small", lambda: _small_fraction(setting)),
    ):
        recorder.check(name, work)
        recorder.check(f"a training with dropout after {name}", lambda: _good_training(setting))


def wait_in_step(trained: Training) -> None:
    """Make every step wait for the device, which a capture does not allow."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.sum().item()

    trained.network.register_forward_hook(hook)


def exhaust_capture(trained: Training) -> None:
    """Make the backward pass run out of memory during the capture."""
    _in_backward(trained, torch.cuda.is_current_stream_capturing)


def exhaust_step(trained: Training) -> None:
    """Make the backward pass run out of memory."""
    _in_backward(trained, lambda: True)


def _in_backward(trained: Training, fails: Callable[[], bool]) -> None:
    def exhaust(gradient: Tensor) -> None:
        if fails():
            torch.empty(ENDLESS, dtype=torch.uint8, device=gradient.device)

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(exhaust)  # type: ignore[no-untyped-call]

    # In the middle, after the gradients of later layers.
    convolutions = [m for m in trained.network.modules() if isinstance(m, nn.Conv2d)]
    convolutions[-1].register_forward_hook(hook)


def _failed_capture(setting: Setting, spoil: Spoil) -> Finding:
    """Expect a training with a failed capture to continue as if never captured."""
    setting.need_gpu()
    chosen = setting.candidate()
    with float32():
        with eager():
            expected = results(setting.train(chosen))
        trained = setting.train(chosen)
        spoil(trained)
        with Warnings() as warned:
            found = results(trained)
    expect(not trained.is_captured, "the capture did not fail")
    comparison = compare(found, expected)
    warning = "; ".join(warned.messages) or "no warning"
    return Finding(f"{warning}; {comparison.detail}", comparison.figures)


def _exhausted_step(setting: Setting) -> Finding:
    """Expect a training that runs out of memory to raise a recognised error."""
    chosen = setting.candidate()
    with eager():
        trained = setting.train(chosen)
    exhaust_step(trained)
    return _expect_exhaustion(trained.run_epoch)


def _small_fraction(setting: Setting) -> Finding:
    """Expect a training to exceed the memory limit of its process."""
    setting.need_gpu()
    release_memory()
    total = torch.cuda.get_device_properties(setting.device).total_memory
    allowed = torch.cuda.memory_reserved(setting.device) + SPARE
    torch.cuda.set_per_process_memory_fraction(allowed / total, setting.device)
    try:
        return _expect_exhaustion(lambda: _train_large(setting.candidate(batch_size=1024)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)


def _train_large(chosen: Candidate) -> None:
    """Train on images for which the activations of one batch exceed the spare memory."""
    Training(chosen, noise(24 * 1024), epochs=1, seed=0, device="auto").run_epoch()


def _expect_exhaustion(work: Callable[[], object]) -> Finding:
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        message = str(error).partition("\n")[0]
        expect(is_out_of_memory(error), f"not recognised as out of memory: {message}")
    else:
        raise CheckFailedError("the memory sufficed")
    finally:
        gc.collect()
        release_memory()
    return Finding(message)


def _good_training(setting: Setting) -> Finding:
    gc.collect()
    release_memory()
    trained = setting.train(setting.candidate(0.2))
    with Warnings() as warned:
        losses = [result.train_loss for result in results(trained)]
    if setting.on_gpu:
        expect(trained.is_captured, f"steps are not captured: {'; '.join(warned.messages)}")
    # Noise cannot be learned, but its mean can.
    expect(losses[-1] < 4, f"the losses are {losses}")
    return Finding(figures={"losses": losses})
