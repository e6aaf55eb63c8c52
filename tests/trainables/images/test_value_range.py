"""The range of the values of deep images, and what is said about reading a whole data set."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.images import store
from trainables.images.findings import Findings
from trainables.images.value_range import Histogram, ValueRange, count_values
from trainables.specs import DataSpec, Decoding


def range_of(*parts: object) -> ValueRange:
    histogram = Histogram()
    for part in parts:
        histogram.add(count_values(np.asarray(part, dtype=np.float32).ravel()))
    return histogram.value_range()


def ends(*parts: object) -> tuple[float, float]:
    found = range_of(*parts)
    return found.low, found.high


# The range


@given(st.lists(st.integers(-32768, 65535), min_size=2, max_size=9))
def test_range_of_16_bit_values_is_exact(values):
    # Each value is so frequent that none is an outlier.
    assert ends(np.repeat(values, 10)) == (min(values), max(values))


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=9))
def test_range_of_floats_without_outliers_is_exact(values):
    assert ends(np.repeat(values, 10)) == (min(values), max(values))


@given(st.floats(1, 2.0**40), st.floats(1, 2.0**40))
def test_range_without_outliers_is_exact_to_one_in_32768(first, second):
    low, high = sorted((first, second * 1.01))
    found = range_of(np.repeat([-low, high], 50_000), [1e30], [-1e30])
    assert (found.low, found.high) == pytest.approx((-low, high), rel=2**-15)


def test_range_covers_all_parts():
    assert ends([30_000, 30_010] * 5, [30_020], [30_060] * 5) == (30_000, 30_060)


def test_single_hot_pixel_does_not_stretch_the_range():
    scene = np.arange(30_000, 30_060)
    assert ends(np.tile(scene, 1000), [65_535]) == (30_000, 30_059)
    assert ends(np.tile(scene, 1000), [0]) == (30_000, 30_059)
    assert ends(scene, [65_535]) == (30_000, 30_059)


def test_rare_value_near_the_others_stays_in_the_range():
    assert ends(np.tile(np.arange(100), 1000), [150], [-40]) == (-40, 150)


def test_extreme_value_of_few_pixels_stays_in_the_range():
    scene = np.tile(np.arange(30_000, 30_060), 100)
    assert ends(scene, np.full(5, 65_535)) == (30_000, 65_535)


@pytest.mark.parametrize("fraction", [0.003, 0.03, 0.3])
@pytest.mark.parametrize(
    ("missing", "low", "high"),
    [
        ([-9999], 0, 0.4),
        ([np.finfo(np.float32).min], -50, 0.4),
        ([65_535], 100, 4000),
        ([-32_768], 100, 4000),
        ([0, 65_535], 30_000, 30_060),
        ([-9999, 9999], -0.5, 0.5),
        ([-9999, -32_768], -0.5, 0.5),
    ],
)
def test_values_for_missing_data_are_left_out_of_the_range(missing, low, high, fraction):
    scene = np.linspace(low, high, 10_000)
    found = range_of(scene, *(np.full(int(10_000 * fraction), value) for value in missing))
    assert (found.low, found.high) == pytest.approx((low, high), rel=2**-15)
    assert sorted(note.split()[0] for note in found.notes()) == sorted(
        f"{np.float32(value):.10g}" for value in missing
    )


def test_value_for_missing_data_is_noted_with_its_share():
    assert range_of(np.linspace(0, 0.4, 970), np.full(30, -9999)).notes() == [
        "-9999 is in 3 % of the pixels with 16 or 32 bits and far from all others: it is left out "
        "of the range as a value for missing data (decoding.value_range)"
    ]


def test_hot_pixel_beyond_the_value_for_missing_data_changes_nothing():
    scene = np.linspace(0, 0.4, 20_000)
    assert ends(scene, np.full(900, -9999), [-20_000], [500]) == pytest.approx((0, 0.4), rel=1e-3)


@pytest.mark.parametrize("scene", [[0, 1], [0, 1, 2, 3], np.full(9, 5)])
def test_labels_have_no_value_for_missing_data(scene):
    found = range_of(np.repeat(scene, 100), np.full(100, 65_535))
    assert (found.low, found.high, found.missing) == (min(scene), 65_535, ())


def test_rare_values_on_a_constant_background_are_the_range():
    assert ends(np.full(100_000, 7), [9, 500]) == (7, 500)


def test_range_that_most_pixels_do_not_use_is_reported():
    scene = np.tile(np.arange(30_000, 30_060), 100)
    assert range_of(scene).notes() == []
    assert range_of(scene, np.full(5, 65_535)).notes() == [
        "98 % of the pixels with 16 or 32 bits lie in 30000 to 30059 and share 1 of 256 levels; "
        "set decoding.value_range to the values that matter"
    ]


def test_levels_between_two_crowds_are_not_counted_as_used():
    # A resampled border leaves values between the one for missing data and the rest.
    values = [np.linspace(0, 0.4, 970), np.full(30, -9999), np.linspace(-9000, -999, 9)]
    (note,) = range_of(*values).notes()
    assert note.startswith("98 % of the pixels with 16 or 32 bits lie in -9999 to 0.39")
    assert "share 11 of 256 levels" in note


def test_crowd_beside_a_large_background_is_reported():
    scene = np.tile(np.arange(30_000, 30_060), 16)
    assert range_of(np.zeros(200_000), scene).notes() == [
        "98 % of the pixels with 16 or 32 bits other than 0 lie in 30000 to 30059 and share 2 of "
        "256 levels; set decoding.value_range to the values that matter"
    ]


def test_images_with_few_values_lose_nothing_and_are_not_reported():
    assert range_of(np.repeat(np.arange(10), 99)).notes() == []


# Data sets


def deep(low: int, high: int, seed: int = 0) -> Image.Image:
    numbers = np.random.default_rng(seed)
    values = numbers.integers(low, high + 1, (8, 8), dtype=np.uint16)
    values[0, :2] = low, high
    return Image.fromarray(values)


def write(folder, images: dict[str, Image.Image]):
    for name, image in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return f"images:{folder}"


def two_classes(first: Image.Image, second: Image.Image, top: str = "") -> dict[str, Image.Image]:
    return {
        f"{top}{name}/{number}.png": image
        for name, image in (("cold", first), ("warm", second))
        for number in range(4)
    }


def load_images(tmp_path, images: dict[str, Image.Image], **decoding: object) -> Dataset:
    source = write(tmp_path / "images", images)
    return load(DataSpec(source, decoding=Decoding(**decoding)), cache=tmp_path / "cache")


def said(data: Dataset) -> list[str]:
    """Return the notes on decoding, without those on folders and splits."""
    return [line for line in data.notes if re.match(r"\d+ of \d+ images ha", line)]


def test_classes_that_differ_by_few_counts_stay_apart(tmp_path):
    data = load_images(tmp_path, two_classes(deep(30_000, 30_030), deep(30_060, 30_090)))
    assert (data.images[:4].max(), data.images[4:].min()) == (85, 170)
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert said(data) == [
        "8 of 8 images have 16 or 32 bits per pixel: the value 30000 becomes black and 30090 "
        "white, the range of all images (decoding.value_range)"
    ]


def test_range_is_found_in_the_training_images_only(tmp_path):
    images = two_classes(deep(1000, 1100), deep(1200, 1510), "train/") | two_classes(
        deep(0, 1000), deep(1510, 60_000), "test/"
    )
    data = load_images(tmp_path, images)
    train = load_images(tmp_path / "alone", two_classes(deep(1000, 1100), deep(1200, 1510)))
    assert np.array_equal(data.images[:8], train.images)
    (line,) = said(data)
    assert "the value 1000 becomes black and 1510 white, the range of the training images" in line
    assert line.endswith("; 49 % of their pixels lie outside")


def test_first_deep_image_may_come_late(tmp_path):
    images = two_classes(Image.new("L", (8, 8), 10), Image.new("L", (8, 8), 20))
    images["warm/9.png"] = deep(500, 755)
    data = load_images(tmp_path, images)
    assert np.unique(data.images[:8]).tolist() == [10, 20]
    assert np.array_equal(data.images[8, :, :, 0], np.asarray(images["warm/9.png"]) - 500)
    (line,) = said(data)
    assert line.startswith("1 of 9 images has 16 or 32 bits per pixel: the value 500 becomes")
    assert line.endswith("; images with 8 bits keep their values")


def test_given_range_is_used_as_set(tmp_path):
    images = two_classes(deep(0, 100), deep(155, 300))
    data = load_images(tmp_path, images, value_range=[0, 255])
    assert np.array_equal(data.images[0, :, :, 0], np.asarray(images["cold/0.png"]))
    (line,) = said(data)
    assert "the value 0 becomes black and 255 white, as set (decoding.value_range); " in line


def test_deep_images_in_test_alone_need_a_range(tmp_path):
    images = two_classes(Image.new("L", (8, 8), 1), Image.new("L", (8, 8), 2), "train/")
    images |= two_classes(deep(0, 9), deep(0, 9), "test/")
    with pytest.raises(BadInputError) as raised:
        load_images(tmp_path, images)
    assert raised.value.field == "decoding.value_range"
    assert "test/cold/0.png has 16 or 32 bits per pixel, and no training image" in str(raised.value)


def test_damaged_deep_image_is_named(tmp_path):
    source = write(tmp_path / "images", two_classes(deep(0, 9), deep(0, 9)))
    content = (tmp_path / "images/warm/3.png").read_bytes()
    (tmp_path / "images/warm/3.png").write_bytes(content[:80])
    with pytest.raises(BadInputError, match=r"the image warm/3\.png cannot be read \("):
        load(DataSpec(source), cache=tmp_path / "cache")


def test_parallel_survey_finds_the_same_range(tmp_path, monkeypatch):
    images = two_classes(deep(30_000, 30_030), deep(30_060, 30_090))
    alone = load_images(tmp_path, images)
    monkeypatch.setattr(store, "FEW_IMAGES", 1)
    source = f"images:{tmp_path / 'images'}"
    parallel = load(DataSpec(source), cache=tmp_path / "parallel")
    assert np.array_equal(parallel.images, alone.images)
    assert parallel.notes == alone.notes


@pytest.mark.parametrize(
    ("decoding", "is_decoded_again"),
    [
        ({}, False),
        ({"background": "#ffffff"}, False),
        ({"max_megapixels": 1}, False),
        ({"background": "black"}, True),
        ({"value_range": [0, 255]}, True),
    ],
)
def test_set_is_decoded_again_only_if_pixels_may_change(tmp_path, decoding, is_decoded_again):
    images = two_classes(Image.new("L", (8, 8), 1), Image.new("L", (8, 8), 2))
    load_images(tmp_path, images)
    calls = []
    load(
        DataSpec(f"images:{tmp_path / 'images'}", decoding=Decoding(**decoding)),
        cache=tmp_path / "cache",
        progress=lambda *call: calls.append(call),
    )
    assert bool(calls) == is_decoded_again


def test_what_reading_changes_is_said_with_counts(tmp_path):
    images = two_classes(Image.new("RGB", (8, 8), 1), Image.new("RGB", (8, 8), 2))
    images["cold/clear.png"] = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    frames = io.BytesIO()
    images["warm/1.png"].save(frames, "GIF", save_all=True, append_images=[images["cold/1.png"]])
    write(tmp_path / "images", {})
    (tmp_path / "images/warm").mkdir(parents=True)
    (tmp_path / "images/warm/moving.gif").write_bytes(frames.getvalue())
    data = load_images(tmp_path, images, background="grey")
    assert said(data) == [
        "1 of 10 images has transparent pixels, which show the background gray "
        "(decoding.background)",
        "1 of 10 images has more than one frame or page; only the first is read",
    ]
    assert np.all(data.images[4] == 128)
    again = load_images(tmp_path, {}, background="grey")
    assert again.notes == data.notes


def test_narrow_16_bit_colour_is_reported():
    found = Findings(images=3, deep_colour=3, colour_levels=(0, 15))
    assert found.notes("white", None, "") == [
        "3 of 3 images have 16 bits per colour; only the upper 8 are read, and they use only the "
        "levels 0 to 15 of 0 to 255: stretch them and save them with 8 bits"
    ]
