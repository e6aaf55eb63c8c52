"""Stage 8: time of the kernels in twenty replayed steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from loops import AUGMENTATION, candidate, noise
from torch.profiler import DeviceType, ProfilerActivity, profile

from gpu_checks.records import Finding, Recorder, expect
from gpu_checks.subjects import Setting
from trainables.training.loop import Training

STEPS = 20
LISTED = 15
"""Number of listed kernels, slowest first."""


def profile_replays(setting: Setting, recorder: Recorder) -> None:
    """Profile an epoch of twenty steps of a small and of a large network."""
    for net, batch in (("small", 128), ("vgg16", 1024)):
        name = f"{STEPS} replays, {net} net, batch {batch}"
        recorder.check(name, partial(_profile, setting, net, batch))


def _profile(setting: Setting, net: str, batch: int) -> Finding:
    setting.need_gpu()
    trained = Training(
        candidate(net, batch),
        noise(STEPS * batch),
        epochs=4,
        seed=0,
        augmentation=AUGMENTATION,
        device="auto",
    )
    for _ in range(2):
        trained.run_epoch()
    expect(trained.is_captured, "steps are not captured")
    seconds = trained.run_epoch().epoch_seconds
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        trained.run_epoch()
        torch.cuda.synchronize(setting.device)
    kernels = [
        event
        for event in profiler.key_averages()
        if event.device_type == DeviceType.CUDA and event.self_device_time_total > 0
    ]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) / 1e6
    listed: list[dict[str, Any]] = [
        {
            "kernel": event.key[:160],
            "calls": event.count,
            "microseconds": round(event.self_device_time_total),
        }
        for event in kernels[:LISTED]
    ]
    busy = total / seconds
    figures = {"seconds": seconds, "busy": busy, "kernels": listed}
    expect(bool(kernels), "the profiler saw no kernel", figures)
    return Finding(f"{seconds / STEPS * 1e3:.2f} ms a step, device busy {busy:.0%}", figures)
