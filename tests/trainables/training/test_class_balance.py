"""Balanced classes: weights of the loss and passes with equally many images of each class."""

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from spaces.candidate import Candidate, CandidateSpace
from spaces.task import Task
from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training import loop
from trainables.training.class_balance import class_weights, draw_balanced
from trainables.training.device import Device
from trainables.training.image_order import ImageOrder
from trainables.training.loop import Training
from trainables.training.seeds import epoch_seed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(torch.device("cpu"), bfloat16=False)
    monkeypatch.setattr(loop, "select_device", lambda name: device)


@pytest.fixture(scope="module")
def unbalanced() -> Dataset:
    """Random images, 21 of one class, 6 and 3 of others, and none of the last to train on."""
    labels = np.array([0] * 21 + [1] * 6 + [2] * 3 + [0, 1, 2, 3])
    numbers = np.random.default_rng(0)
    return Dataset(
        images=numbers.integers(0, 256, (34, 6, 6, 1), np.uint8),
        labels=labels,
        classes=("a", "b", "c", "d"),
        train=np.arange(30),
        validation=np.arange(30, 32),
        test=np.arange(30, 34),
    )


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    space = {"depth": 1, "features": 4, "kernel": 3, "pools": 0, "convs_before_pool": 1}
    recipe = {"learning_rate": 0.1, "weight_decay": 0.0, "batch_size": 30, "schedule": "constant"}
    recipe |= {"label_smoothing": 0.1, "momentum": 0.0}
    return CandidateSpace(Task(1, 6, 6, 4), "vgg", space, recipe).rebuild({})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_each_class_has_the_same_sum_of_weights(labels):
    weights = class_weights(np.array(labels), 6)
    assert weights.dtype == np.float32
    images = Counter(labels)
    sums = [weights[label] * count for label, count in images.items()]
    assert sums == pytest.approx([len(labels) / len(images)] * len(images))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 99))
def test_balanced_pass_has_equally_many_images_of_each_class(labels, seed):
    rows = torch.arange(100, 100 + len(labels))
    drawn = draw_balanced(rows, torch.tensor(labels), generator(seed)).tolist()
    assert len(drawn) == len(labels)
    images = Counter(drawn)
    amounts = Counter(labels[row - 100] for row in drawn)
    assert max(amounts.values()) - min(amounts[label] for label in labels) <= 1
    for label in set(labels):
        times = [images[100 + place] for place, each in enumerate(labels) if each == label]
        assert max(times) - min(times) <= 1


def test_all_images_of_a_large_class_are_seen_in_time():
    labels = torch.tensor([0] * 50 + [1] * 2)
    numbers = generator()
    seen: set[int] = set()
    for _ in range(20):
        seen |= set(draw_balanced(torch.arange(52), labels, numbers).tolist())
    assert seen == set(range(52))


def test_batches_span_balanced_passes():
    labels = torch.tensor([0] * 8 + [1] * 2)
    order = ImageOrder(torch.arange(10), 4, 3, labels)
    epochs = [order.epoch(each, generator(epoch_seed(3, each)))[0] for each in range(4)]
    passes = torch.cat([epoch.flatten() for epoch in epochs]).view(4, 10)
    assert (labels[passes].sum(1) == 5).all()
    assert len({tuple(each.tolist()) for each in passes}) == 4


@pytest.mark.parametrize("mixup", [None, 0.8])
def test_weights_change_the_gradient_but_not_the_metrics(unbalanced, candidate, mixup):
    options: dict[str, Any] = {"epochs": 1, "seed": 0, "augmentation": Augmentation(mixup=mixup)}
    plain = Training(candidate, unbalanced, **options).run_epoch()
    trained = Training(candidate, unbalanced, balance="weights", **options)
    network = copy.deepcopy(trained.network).train()
    plan = trained._draw(0)
    result = trained.run_epoch()
    assert (result.train_loss, result.train_accuracy) == (
        pytest.approx(plain.train_loss),
        plain.train_accuracy,
    )

    images, labels = trained._batches.current(plan.rows[0], plan.variation.map(lambda t: t[0]))
    weight = {0: 30 / 3 / 21, 1: 30 / 3 / 6, 2: 30 / 3 / 3}
    shares = [1.0] * 30 if mixup is None else plan.variation.mixup_lambda[0].tolist()
    loss = torch.zeros(())
    for place, (logits, share) in enumerate(zip(network(images), shares, strict=True)):
        for label, part in ((labels[place], share), (labels[place - 1], 1 - share)):
            own = F.cross_entropy(logits, label, label_smoothing=0.1)
            loss = loss + part * weight[label.item()] * own / 30
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    for before, gradient, after in zip(
        network.parameters(), gradients, trained.network.parameters(), strict=True
    ):
        assert torch.allclose(before - 0.1 * gradient, after, atol=1e-5)


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_balanced_training_resumes_bitwise(unbalanced, candidate, balance):
    options: dict[str, Any] = {"epochs": 3, "seed": 1, "balance": balance}
    whole = Training(candidate, unbalanced, **options)
    whole.run_epoch()
    state = copy.deepcopy(whole.state_dict())
    for _ in range(2):
        whole.run_epoch()
    resumed = Training(candidate, unbalanced, **options)
    resumed.load_state_dict(state)
    for _ in range(2):
        resumed.run_epoch()
    plain = Training(candidate, unbalanced, epochs=3, seed=1)
    for _ in range(3):
        plain.run_epoch()
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
    assert any(
        not torch.equal(value, plain.network.state_dict()[name])
        for name, value in whole.network.state_dict().items()
    )
