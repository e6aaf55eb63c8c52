"""The speed record's network: as a plain script, and as one of our architectures."""

import argparse
import itertools
from typing import Any

import against_record
import numpy as np
import pytest
import speed_record
import torch
from against_record import TARGET, measure_record, record_network, seconds_to_target, train_ours
from harness import Table
from loops import noise
from speed_record import Run, Split
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.builder import Network
from trainables.data import Dataset
from trainables.training.device import select_device

NARROW = (4, 6, 6)


@pytest.fixture
def images() -> Dataset:
    """Return noise of two brightnesses, one for each class; it is also the test split."""
    given = noise(96)
    labels = given.labels % 2
    pixels = given.images // 4 + 128 * labels[:, None, None, None].astype(np.uint8)
    return Dataset(pixels, labels, given.classes, given.train, given.validation, given.train)


def split_of(images: Dataset, rows: Any) -> Split:
    return Split(torch.from_numpy(images.images[rows]), torch.from_numpy(images.labels[rows]))


@pytest.mark.parametrize("train", ["script", "ours"])
def test_both_learn_classes_of_different_brightness(images, train, monkeypatch):
    # A narrow network learns nothing in so few steps at the record's rates.
    monkeypatch.setattr(speed_record, "RATE", 60)
    monkeypatch.setattr(speed_record, "BIAS_FACTOR", 1)
    if train == "script":
        splits = [split_of(images, rows) for rows in (images.train, images.test)]
        run = speed_record.train(*splits, seed=0, epochs=3, batch=16, widths=NARROW)
    else:
        run = train_ours(record_network(NARROW, 16), images, "cpu", 3, 0)
    assert run.accuracy > 0.8
    assert run.seconds > 0


def test_architecture_has_the_layers_of_the_script():
    ours = Network(record_network().architecture)
    plain = speed_record.build(speed_record.WIDTHS, 10)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GELU, nn.MaxPool2d, nn.Linear)

    def described(network: nn.Module) -> list[tuple[object, ...]]:
        return [
            (kind, *[tuple(p.shape) for p in module.parameters()])
            for module in network.modules()
            for kind in kinds
            if isinstance(module, kind)
        ]

    assert described(ours) == described(plain)
    # The paper states 1.97 million parameters.
    assert sum(p.numel() for p in plain.parameters()) == pytest.approx(1.97e6, rel=0.01)
    values = torch.randn(2, 3, 32, 32)
    assert ours(values).shape == plain(values).shape == (2, 10)


def test_whitened_patches_are_uncorrelated():
    base = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = base + base.mean(1, keepdim=True)
    layer = nn.Conv2d(3, 24, 2)
    speed_record.whiten(layer, images)
    found = layer(images).detach().transpose(0, 1).flatten(1)[:12]
    covariance = found @ found.T / found.shape[1]
    assert torch.allclose(covariance, torch.eye(12), atol=0.02)
    assert torch.equal(layer.weight[:12], -layer.weight[12:])
    assert not layer.weight.requires_grad


def test_shift_moves_images_by_whole_pixels_in_all_directions():
    ramp = torch.arange(36.0).view(1, 1, 6, 6).expand(400, 1, 6, 6)
    shifted = speed_record.shifted(ramp, 2)
    corners = set(shifted[:, 0, 0, 0].tolist())
    assert corners == {6.0 * row + column for row, column in itertools.product(range(5), range(5))}
    assert torch.equal(shifted[:, 0, 1, 1], shifted[:, 0, 0, 0] + 7)


def test_learning_rate_rises_to_its_peak_and_falls_to_the_end():
    rates = [speed_record.triangle(position) for position in (0, 0.23, 1)]
    assert rates == pytest.approx([0.2, 1, 0.07])


def test_predictions_run_on_a_fake_gpu():
    with FakeTensorMode(), torch.device("cuda:0") as device:
        images = torch.zeros(8, 32, 32, 3, dtype=torch.uint8)
        values = speed_record.normalised(images, images, torch.float32)
        network = speed_record.build(NARROW, 10)
        padded = torch.nn.functional.pad(values, (2,) * 4, "reflect")
        assert speed_record.shifted(padded, 32).device == device
        found = speed_record.predict(network.eval(), values)
    assert (found.device, found.shape) == (device, (8,))


def test_our_network_runs_on_a_fake_gpu():
    with FakeTensorMode(), torch.device("cuda:0") as device:
        network = Network(record_network(NARROW).architecture)
        logits = network(torch.zeros(8, 3, 32, 32))
    assert (logits.device, logits.shape) == (device, (8, 10))


# The rows


def test_time_counts_for_the_shortest_training_that_reaches_the_target():
    def train(epochs: int, seed: int) -> Run:
        return Run(TARGET + 0.01 * (epochs - 13.5), epochs + 0.5 * seed)

    assert seconds_to_target(train, [Run(0.5, 1.0)], range(2)) == 14.25
    assert seconds_to_target(train, [Run(TARGET, 1.0)], range(2)) == 1.0


def test_target_that_is_never_reached_is_an_error_with_the_accuracy():
    with pytest.raises(RuntimeError, match=r"50.00% after 30 epochs in 2.0 s"):
        seconds_to_target(lambda epochs, seed: Run(0.5, 2.0), [Run(0.4, 1.0)], range(1))


def test_cpu_measures_a_narrow_network(images, monkeypatch):
    monkeypatch.setattr(against_record, "load", lambda _: images)
    table = Table()
    measure_record(table, argparse.Namespace(data="", quick=True), select_device("cpu"))
    (row,) = table.figures
    assert row.error is None
    assert "narrow" in row.figure
    assert not torch.backends.cudnn.benchmark
