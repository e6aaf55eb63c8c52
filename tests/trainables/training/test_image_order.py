"""The order of the images: no image is left out, whatever the batch size."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.training.image_order import ImageOrder
from trainables.training.seeds import epoch_seed


def order(images: int, batch: int, seed: int = 3) -> ImageOrder:
    return ImageOrder(torch.arange(100, 100 + images), batch, seed)


def epoch(order: ImageOrder, number: int) -> tuple[Tensor, Tensor]:
    return order.epoch(number, torch.Generator().manual_seed(epoch_seed(order.seed, number)))


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    images = draw(st.integers(1, 60))
    return images, draw(st.integers(1, images))


@given(sizes(), st.integers(1, 6))
def test_every_epoch_completes_a_pass_over_all_images(size: tuple[int, int], epochs: int) -> None:
    images, batch = size
    drawn = order(images, batch)
    seen: Counter[int] = Counter()
    for number in range(epochs):
        rows, passes = epoch(drawn, number)
        assert rows.shape == passes.shape == (drawn.steps(number + 1) - drawn.steps(number), batch)
        assert len(rows) in (images // batch, -(-images // batch))
        for row, earlier in zip(rows.flatten().tolist(), passes.flatten().tolist(), strict=True):
            assert seen[row] == earlier
            seen[row] += 1
        assert set(seen) == set(range(100, 100 + images))
        assert set(seen.values()) <= {number + 1, number + 2}
        assert seen.total() - (number + 1) * images < batch


@given(sizes())
def test_first_epoch_has_the_most_steps(size: tuple[int, int]) -> None:
    drawn = order(*size)
    assert all(drawn.steps(e + 1) - drawn.steps(e) <= drawn.steps(1) for e in range(9))


def test_each_pass_has_another_order() -> None:
    drawn = order(12, 4)
    first, second = (epoch(drawn, number)[0].flatten().tolist() for number in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second
    assert first != epoch(order(12, 4, seed=4), 0)[0].flatten().tolist()
