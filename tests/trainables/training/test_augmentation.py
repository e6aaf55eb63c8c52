"""Augmentation: random draws for each image, and their effect on it.

Augmented images are compared with references that follow the definitions, one image or pixel at a
time. Draws are compared with the distributions of the papers.
"""

import itertools
import math
import random
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from spaces.errors import BadInputError
from trainables.specs import Augmentation
from trainables.training.augmentation import Variation, draw_variation, erase, mix, move

UNLIKELY = 1e-4
"""Probability that a correct distribution fails a test; fixed seeds make results repeatable."""
EVERYTHING = Augmentation(translate=0.3, flip="random", erase=0.5, cutout=3, mixup=0.4)
SAMPLED = EVERYTHING.model_copy(update={"zoom": (0.5, 1.0), "rotate": 20.0, "color": 0.4})
POLICY = EVERYTHING.model_copy(update={"policy": "trivial"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(
    augmentation: Augmentation,
    rows: Tensor | int,
    shape: tuple[int, int] = (8, 8),
    *,
    seed: int = 0,
    epoch: int = 0,
    numbers: torch.Generator | None = None,
) -> Variation:
    if isinstance(rows, int):
        rows = torch.arange(rows)
    numbers = generator() if numbers is None else numbers
    passes = torch.full_like(rows, epoch)
    return draw_variation(augmentation, rows, shape, seed=seed, passes=passes, generator=numbers)


def same(one: Variation, other: Variation) -> bool:
    pairs = itertools.zip_longest(one.tensors(), other.tensors())
    return all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)


def recognisable(count: int, height: int, width: int, channels: int) -> Tensor:
    """Images without symmetry or black, so that every change is visible."""
    values = np.arange(count * height * width * channels) % 251 + 1
    return torch.from_numpy(values.astype(np.uint8).reshape(count, height, width, channels))


def scattered(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Normalised images, float32 [n, channels, height, width], in the memory format of batches."""
    values = torch.randn(count, height, width, channels, generator=generator(seed))
    return values.permute(0, 3, 1, 2)


def seen_through_window(
    image: np.ndarray, shift: tuple[int, int], mirrored: bool, padding: tuple[int, int]
) -> np.ndarray:
    """Pad with black, crop at the shift, and mirror, pixel by pixel."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for row, column in np.ndindex(height, width):
        # Position of this result pixel on the unpadded image.
        seen_row = row + shift[0] - padding[0]
        seen_column = (width - 1 - column if mirrored else column) + shift[1] - padding[1]
        if 0 <= seen_row < height and 0 <= seen_column < width:
            result[row, column] = image[seen_row, seen_column]
    return result


sizes = st.integers(1, 7)
channel_amounts = st.sampled_from([1, 3])


# Valid settings


@pytest.mark.parametrize(
    ("augmentation", "shape", "field"),
    [
        (Augmentation(crop=8), (8, 8), "augmentation.crop"),
        (Augmentation(crop=5), (9, 5), "augmentation.crop"),
        (Augmentation(crop=1), (1, 1), "augmentation.crop"),
        (Augmentation(cutout=9), (8, 8), "augmentation.cutout"),
        (Augmentation(cutout=6), (5, 9), "augmentation.cutout"),
        (Augmentation(crop=2, translate=0.1), (8, 8), "augmentation.translate"),
        (Augmentation(color=0.1, policy="trivial"), (8, 8), "augmentation.color"),
    ],
)
def test_augmentation_beyond_the_images_is_refused_in_one_line(augmentation, shape, field):
    with pytest.raises(BadInputError) as caught:
        augmentation.check(*shape)
    assert caught.value.field == field
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert caught.value.remedy.startswith("use ")


@pytest.mark.parametrize(
    ("augmentation", "shape"),
    [
        (Augmentation(), (1, 1)),
        (Augmentation(crop=7, cutout=8), (8, 8)),
        (Augmentation(translate=0.99, flip="alternating", erase=1.0, mixup=1e-9), (1, 1)),
        (EVERYTHING, (3, 3)),
    ],
)
def test_augmentation_that_fits_the_images_is_accepted(augmentation, shape):
    augmentation.check(*shape)


@given(share=st.floats(0, 1, exclude_max=True), height=st.integers(1, 300), width=sizes)
def test_translation_is_limited_and_leaves_part_of_the_image(share, height, width):
    for most, side in zip(
        Augmentation(translate=share).padding(height, width), (height, width), strict=True
    ):
        assert 0 <= most < side
        assert abs(most - share * side) <= 0.5 or most == side - 1


def test_crop_pads_every_side_equally():
    assert Augmentation(crop=2).padding(9, 5) == (2, 2)
    assert Augmentation().padding(9, 5) == (0, 0)


# Shifts and flips


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 5),
    height=sizes,
    width=sizes,
    channels=channel_amounts,
    padding=st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)),
    flip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_image_has_its_own_crop_and_flip(count, height, width, channels, padding, flip, seed):
    images = recognisable(count, height, width, channels)
    original = images.clone()
    numbers = np.random.default_rng(seed)
    most = padding or (0, 0)
    shifts = numbers.integers(0, 2 * np.array(most) + 1, (count, 2))
    mirrored = numbers.integers(0, 2, count) if flip else np.zeros(count, int)
    results = move(
        images,
        torch.from_numpy(shifts) if padding else None,
        torch.from_numpy(mirrored) if flip else None,
        # Without shifts, the size of possible shifts is irrelevant.
        padding or (2, 1),
    )
    assert (results.shape, results.dtype) == (images.shape, torch.uint8)
    for image, result, shift, side in zip(images, results, shifts, mirrored, strict=True):
        expected = seen_through_window(image.numpy(), tuple(shift), bool(side), most)
        assert np.array_equal(result.numpy(), expected)
    assert torch.equal(images, original), "the images themselves were written to"


def test_image_can_be_shifted_out_of_view():
    images = recognisable(2, 3, 4, 1)
    results = move(images, torch.tensor([[0, 6], [6, 6]]), None, (6, 6))
    assert not results[0].any()
    assert torch.equal(results[1], images[1])


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.integers(0, 99), min_size=1, max_size=9),
    steps=st.integers(1, 3),
    height=sizes,
    width=sizes,
    crop=st.integers(0, 3),
    translate=st.floats(0, 1, exclude_max=True),
    flip=st.sampled_from(["none", "random", "alternating"]),
    seed=st.integers(0, 2**63),
)
def test_shifts_and_flips_of_an_epoch_are_drawn_in_their_ranges(
    rows, steps, height, width, crop, translate, flip, seed
):
    asked = Augmentation(crop=crop, translate=0.0 if crop else translate, flip=flip)
    down, across = asked.padding(height, width)
    epoch = torch.tensor([rows] * steps)
    variation = drawn(asked, epoch, (height, width), seed=seed)
    assert (variation.boxes, variation.mixup_lambda) == (None, None)
    if variation.shift is None:
        assert (down, across) == (0, 0)
    else:
        assert (variation.shift.shape, variation.shift.dtype) == ((*epoch.shape, 2), torch.int64)
        assert variation.shift.min() >= 0
        assert (variation.shift <= torch.tensor([2 * down, 2 * across])).all()
    if variation.mirrored is None:
        assert flip == "none"
    else:
        assert (variation.mirrored.shape, variation.mirrored.dtype) == (epoch.shape, torch.int64)
        assert set(variation.mirrored.flatten().tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("augmentation", "shape", "shifts"),
    [
        (Augmentation(crop=2, flip="random"), (6, 6), (5, 5)),
        (Augmentation(translate=0.25, flip="random"), (12, 4), (7, 3)),
        (Augmentation(translate=0.25, flip="random"), (1, 8), (1, 5)),
    ],
)
def test_shifts_and_flips_are_independent_and_equally_likely(augmentation, shape, shifts):
    variation = drawn(augmentation, 5000, shape)
    taken = Counter(zip(*variation.shift.T.tolist(), variation.mirrored.tolist(), strict=True))
    cells = list(itertools.product(range(shifts[0]), range(shifts[1]), range(2)))
    assert set(taken) == set(cells)
    assert stats.chisquare([taken[cell] for cell in cells]).pvalue > UNLIKELY


# Alternating flips


def mirrored_by_image(rows: Tensor, **when: int) -> dict[int, int]:
    flips = drawn(Augmentation(flip="alternating"), rows, **when).mirrored
    return dict(zip(rows.flatten().tolist(), flips.flatten().tolist(), strict=True))


@settings(deadline=None, max_examples=40)
@given(
    images=st.lists(st.integers(0, 500), min_size=2, max_size=40, unique=True),
    epoch=st.integers(0, 300),
    seed=st.integers(0, 2**63),
    data=st.data(),
)
def test_alternating_flip_is_independent_of_the_batch(images, epoch, seed, data):
    seen = []
    for later in range(3):
        # Images that fill no batch are left out, different ones in every epoch.
        some = data.draw(st.permutations(images))[: len(images) // 2 * 2]
        rows = torch.tensor(some).view(2, -1)
        seen.append(mirrored_by_image(rows, seed=seed, epoch=epoch + later))
    now, following, after_that = seen
    for image in now.keys() & following.keys():
        assert following[image] == 1 - now[image]
    for image in now.keys() & after_that.keys():
        assert after_that[image] == now[image]


def test_first_alternating_flip_depends_on_training_seed():
    rows = torch.arange(10_000)
    first, second = (
        np.array([*mirrored_by_image(rows, seed=seed).values()], dtype=float) for seed in (0, 1)
    )
    for begins in (first, second):
        assert stats.binomtest(int(begins.sum()), len(begins)).pvalue > UNLIKELY
    # Neither seeds nor neighbouring images are correlated.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05


def test_alternating_flips_do_not_use_the_epoch_generator():
    numbers = generator()
    before = numbers.get_state()
    drawn(Augmentation(flip="alternating"), 9, numbers=numbers)
    assert torch.equal(numbers.get_state(), before)


# Random erasing


def erased_by_the_paper(height: int, width: int, count: int, seed: int = 0) -> np.ndarray:
    """Draw rectangles one by one, as Zhong et al., until one fits: top, bottom, left, right.

    The aspect is log-uniform, so wide and tall rectangles are equally likely.
    """
    numbers = np.random.default_rng(seed)
    boxes = []
    while len(boxes) < count:
        area = numbers.uniform(0.02, 0.33) * height * width
        aspect = math.exp(numbers.uniform(math.log(0.3), math.log(3.3)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 1 <= rows < height and 1 <= columns < width:
            top, left = (numbers.integers(0, room + 1) for room in (height - rows, width - columns))
            boxes.append((top, top + rows, left, left + columns))
    return np.array(boxes)


def erased(
    probability: float, count: int, shape: tuple[int, int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the drawn boxes, and whether each erases anything."""
    asked = Augmentation(erase=probability)
    boxes = drawn(asked, count, shape, numbers=generator(seed)).boxes
    assert boxes is not None
    assert (boxes.shape, boxes.dtype) == ((count, 1, 4), torch.int64)
    boxes = boxes[:, 0].numpy()
    height, width = sides_of(boxes)
    return boxes, (height > 0) & (width > 0)


def sides_of(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    probability=st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 1000),
)
def test_erased_rectangle_is_inside_and_below_full_side(height, width, probability, seed):
    boxes, something = erased(probability, 50, (height, width), seed)
    assert (boxes[~something] == 0).all(), "a spared image has an empty box"
    assert (boxes >= 0).all()
    assert (boxes[:, 1] <= height).all()
    assert (boxes[:, 3] <= width).all()
    rows, columns = (sides[something] for sides in sides_of(boxes))
    assert (rows < height).all()
    assert (columns < width).all()
    # Rounding to whole pixels changes a side by at most half a pixel.
    assert ((rows - 0.5) * (columns - 0.5) <= 0.33 * height * width + 1e-3).all()
    assert ((rows + 0.5) * (columns + 0.5) >= 0.02 * height * width - 1e-3).all()
    assert ((rows - 0.5) / (columns + 0.5) <= 3.3 + 1e-3).all()
    assert ((rows + 0.5) / (columns - 0.5) >= 0.3 - 1e-3).all()


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (28, 28), (32, 16)])
def test_sizes_of_erased_rectangles_match_the_paper(shape):
    boxes, something = erased(1.0, 20_000, shape)
    assert something.all(), "every image of a usual shape can be erased"
    expected = erased_by_the_paper(*shape, 20_000)
    taken, known = (Counter(zip(*sides_of(b), strict=True)) for b in (boxes, expected))
    common = [size for size in taken | known if taken[size] + known[size] >= 20]
    rest = [[sum(c.values()) - sum(c[size] for size in common)] for c in (taken, known)]
    table = np.array(
        [[c[size] for size in common] + r for c, r in zip((taken, known), rest, strict=True)]
    )
    table = table[:, table.sum(axis=0) > 0]
    assert stats.chi2_contingency(table).pvalue > UNLIKELY


def test_erased_area_is_uniform_and_the_aspect_log_uniform():
    # In large images few rectangles are too long, and rounding is negligible.
    boxes, something = erased(1.0, 20_000, (4000, 4000))
    rows, columns = sides_of(boxes[something])
    share = rows * columns / 4000**2
    logarithm = np.log(rows / columns)
    small = share < 0.25
    assert stats.kstest(share[small], stats.uniform(0.02, 0.23).cdf).pvalue > UNLIKELY
    low, high = math.log(0.3), math.log(3.3)
    assert stats.kstest(logarithm[small], stats.uniform(low, high - low).cdf).pvalue > UNLIKELY
    assert share.max() == pytest.approx(0.33, abs=0.002)
    assert abs(stats.spearmanr(share[small], logarithm[small]).statistic) < 0.05


@pytest.mark.parametrize("shape", [(8, 8), (9, 32)])
def test_erased_rectangles_are_uniformly_placed(shape):
    boxes, _ = erased(1.0, 20_000, shape)
    rooms = np.array(shape)[:, None] - sides_of(boxes)
    # Spread each position over its part of the range: the result is uniform if positions are.
    spread = np.random.default_rng(0).random(rooms.shape)
    places = (boxes[:, [0, 2]].T + spread) / (rooms + 1)
    for place in places:
        assert stats.kstest(place, "uniform").pvalue > UNLIKELY
    assert abs(np.corrcoef(*places)[0, 1]) < 0.05


@pytest.mark.parametrize("probability", [0.03, 0.5, 0.9])
def test_image_is_erased_with_the_given_probability(probability):
    _, something = erased(probability, 10_000, (8, 8))
    assert stats.binomtest(int(something.sum()), 10_000, probability).pvalue > UNLIKELY


def test_images_of_two_by_two_pixels_are_erased():
    boxes, something = erased(1.0, 1000, (2, 2))
    assert something.mean() > 0.99
    assert (np.array(sides_of(boxes[something])) == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1)])
def test_image_of_one_row_or_column_is_not_erased(shape):
    assert not erased(1.0, 100, shape)[1].any()


# Cutout


def cut_out_around(row: int, column: int, side: int, shape: tuple[int, int]) -> tuple[int, ...]:
    """Return the clipped square around a pixel, which is below the middle of an even side."""
    top, left = row - side // 2, column - side // 2
    ends = (top, top + side, left, left + side)
    limits = (shape[0], shape[0], shape[1], shape[1])
    return tuple(min(max(end, 0), limit) for end, limit in zip(ends, limits, strict=True))


@settings(deadline=None, max_examples=60)
@given(height=sizes, width=sizes, data=st.data(), seed=st.integers(0, 1000))
def test_cutout_is_centred_on_a_pixel_and_clipped(height, width, data, seed):
    side = data.draw(st.integers(1, min(height, width)))
    boxes = drawn(Augmentation(cutout=side), 30, (height, width), numbers=generator(seed)).boxes
    assert (boxes.shape, boxes.dtype) == ((30, 1, 4), torch.int64)
    legal = {cut_out_around(*centre, side, (height, width)) for centre in np.ndindex(height, width)}
    assert {tuple(box) for box in boxes[:, 0].tolist()} <= legal


@pytest.mark.parametrize(("side", "shape"), [(1, (5, 8)), (3, (7, 7)), (4, (6, 9)), (8, (8, 8))])
def test_cutout_centres_are_uniform(side, shape):
    boxes = drawn(Augmentation(cutout=side), 20_000, shape).boxes
    taken = Counter(tuple(box) for box in boxes[:, 0].tolist())
    pixels = [cut_out_around(*centre, side, shape) for centre in np.ndindex(*shape)]
    expected = Counter(pixels)
    assert set(taken) == set(expected)
    weight = 20_000 / len(pixels)
    observed = [taken[box] for box in expected]
    assert stats.chisquare(observed, [n * weight for n in expected.values()]).pvalue > UNLIKELY


def test_erasing_and_cutout_can_be_combined():
    boxes = drawn(Augmentation(erase=1.0, cutout=3), torch.zeros(2, 5, dtype=torch.int64)).boxes
    assert boxes.shape == (2, 5, 2, 4)


# Effect of erasing


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 5),
    channels=channel_amounts,
    height=sizes,
    width=sizes,
    amount=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_erase_zeroes_exactly_the_rectangles(count, channels, height, width, amount, seed):
    images = scattered(count, channels, height, width, seed)
    numbers = np.random.default_rng(seed)
    ends = [np.sort(numbers.integers(0, n + 1, (count, amount, 2))) for n in (height, width)]
    boxes = np.concatenate(ends, -1)
    expected = images.numpy().copy()
    for image, its_boxes in zip(expected, boxes, strict=True):
        for top, bottom, left, right in its_boxes:
            image[:, top:bottom, left:right] = 0
    results = erase(images, torch.from_numpy(boxes))
    assert (results.shape, results.dtype) == (expected.shape, torch.float32)
    assert np.array_equal(results.numpy(), expected)
    assert results.data_ptr() == images.data_ptr(), "a batch is erased in place"


# Mixup


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 5),
    channels=channel_amounts,
    height=sizes,
    width=sizes,
    seed=st.integers(0, 1000),
)
def test_image_is_mixed_with_previous_one_by_its_lambda(count, channels, height, width, seed):
    images = scattered(count, channels, height, width, seed)
    original = images.clone()
    shares = torch.rand(count, generator=generator(seed))
    results = mix(images, shares)
    assert (results.shape, results.dtype) == (images.shape, torch.float32)
    for index, (result, share) in enumerate(zip(results, shares.tolist(), strict=True)):
        # The last image precedes the first.
        expected = share * images[index].double() + (1 - share) * images[index - 1].double()
        assert torch.allclose(result.double(), expected, atol=1e-6)
    assert torch.equal(images, original), "the images themselves were written to"


def test_single_image_is_mixed_with_itself():
    image = scattered(1, 3, 5, 4)
    assert torch.equal(mix(image, torch.tensor([0.3])), image)


def test_lambdas_of_one_and_zero_are_exact():
    images = scattered(3, 1, 4, 4)
    assert torch.equal(mix(images, torch.ones(3)), images)
    assert torch.equal(mix(images, torch.zeros(3)), images.roll(1, 0))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 8.0])
def test_lambdas_are_drawn_from_the_beta_distribution(alpha):
    shares = drawn(Augmentation(mixup=alpha), torch.arange(20_000).view(100, 200)).mixup_lambda
    assert (shares.shape, shares.dtype) == ((100, 200), torch.float32)
    values = shares.flatten().double().numpy()
    assert stats.kstest(values, stats.beta(alpha, alpha).cdf).pvalue > UNLIKELY
    deviation = math.sqrt(1 / (4 * (2 * alpha + 1)))
    assert values.mean() == pytest.approx(0.5, abs=5 * deviation / math.sqrt(len(values)))
    assert values.std() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("alpha", [1e-3, 1e-12, 1e-100, 1e-300])
def test_very_small_alpha_selects_either_image(alpha):
    values = drawn(Augmentation(mixup=alpha), 10_000).mixup_lambda.numpy()
    assert ((values >= 0) & (values <= 1)).all()
    assert stats.binomtest(int((values > 0.5).sum()), 10_000).pvalue > UNLIKELY
    between = stats.beta(alpha, alpha).cdf([0.01, 0.99]) if alpha >= 1e-3 else (0.5, 0.5)
    mixed = int(((values > 0.01) & (values < 0.99)).sum())
    assert stats.binomtest(mixed, 10_000, between[1] - between[0]).pvalue > UNLIKELY


# All augmentations together


def test_all_random_draws_are_independent():
    variation = drawn(EVERYTHING, 20_001, (10, 12))
    boxes = variation.boxes
    columns = torch.stack(
        [
            *variation.shift.T,
            variation.mirrored,
            boxes[:, 0, 1] > 0,  # whether anything is erased
            boxes[:, 1, 0] + boxes[:, 1, 1],  # position of the crop
            boxes[:, 1, 2] + boxes[:, 1, 3],
            variation.mixup_lambda,
        ]
    ).double()
    limit = 5 / math.sqrt(20_000)
    alike = torch.corrcoef(columns) - torch.eye(len(columns))
    assert alike.abs().max() < limit
    # Draws of the next image are independent, too.
    both = torch.corrcoef(torch.cat([columns[:, :-1], columns[:, 1:]]))
    assert both[: len(columns), len(columns) :].abs().max() < limit


@pytest.mark.parametrize("asked", [EVERYTHING, SAMPLED, POLICY], ids=["moved", "sampled", "policy"])
def test_all_randomness_comes_from_the_generator(asked):
    rows = torch.arange(96).view(3, 32)
    first = drawn(asked, rows, numbers=generator(7))
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    again = drawn(asked, rows, numbers=generator(7))
    drawn(Augmentation(flip="alternating"), rows)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert same(first, again)


@pytest.mark.parametrize("asked", [EVERYTHING, SAMPLED, POLICY], ids=["moved", "sampled", "policy"])
def test_other_seed_or_epoch_gives_other_variations(asked):
    numbers = generator(7)
    first = drawn(asked, 64, numbers=numbers)
    for other in (
        drawn(asked, 64, numbers=numbers),
        drawn(asked, 64, numbers=generator(8)),
    ):
        assert not any(
            torch.equal(a, b) for a, b in zip(first.tensors(), other.tensors(), strict=True)
        )


@pytest.mark.parametrize(
    ("augmentation", "shape"), [(Augmentation(), (8, 8)), (Augmentation(translate=0.4), (1, 1))]
)
def test_no_augmentation_draws_nothing_and_copies_nothing(augmentation, shape):
    images = recognisable(4, *shape, 1)
    numbers = generator()
    before = numbers.get_state()
    variation = drawn(augmentation, 4, shape, numbers=numbers)
    assert torch.equal(numbers.get_state(), before)
    assert variation == Variation()
    assert variation.tensors() == []
    padding = augmentation.padding(*shape)
    assert move(images, variation.shift, variation.mirrored, padding) is images


@pytest.mark.parametrize("asked", [SAMPLED, POLICY], ids=["sampled", "policy"])
def test_other_options_do_not_change_earlier_draws(asked):
    before, after = drawn(EVERYTHING, 64), drawn(asked, 64)
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.mixup_lambda, after.mixup_lambda)


@pytest.mark.parametrize(
    ("augmentation", "present"),
    [
        (Augmentation(crop=1), {"shift"}),
        (Augmentation(translate=0.2), {"shift"}),
        (Augmentation(flip="random"), {"mirrored"}),
        (Augmentation(flip="alternating"), {"mirrored"}),
        (Augmentation(erase=0.1), {"boxes"}),
        (Augmentation(cutout=1), {"boxes"}),
        (Augmentation(mixup=0.1), {"mixup_lambda"}),
        (Augmentation(zoom=(0.5, 1.0)), {"affine"}),
        (Augmentation(rotate=1.0, crop=1, flip="random"), {"affine"}),
        (Augmentation(color=0.1), {"factors"}),
        (Augmentation(policy="trivial"), {"affine", "factors", "operation", "magnitude"}),
        (EVERYTHING, {"shift", "mirrored", "boxes", "mixup_lambda"}),
        (SAMPLED, {"affine", "factors", "boxes", "mixup_lambda"}),
    ],
)
def test_only_requested_variations_are_drawn(augmentation, present):
    variation = drawn(augmentation, 6)
    names = [f.name for f in fields(Variation)]
    assert {name for name in names if getattr(variation, name) is not None} == present
    assert len(variation.tensors()) == len(present)


def test_part_of_a_variation_selects_from_every_tensor():
    variation = drawn(EVERYTHING, torch.arange(12).view(3, 4))
    part = variation.map(lambda tensor: tensor[1])
    for whole, taken in zip(variation.tensors(), part.tensors(), strict=True):
        assert torch.equal(taken, whole[1])
    assert Variation().map(lambda tensor: tensor[1]) == Variation()
