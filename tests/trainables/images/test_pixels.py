"""Pixels of one image file: every mode and format gives the values that a viewer shows."""

import io
import logging
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from trainables.images.findings import Findings
from trainables.images.pixels import RangeNeededError, Rules, read_deep_values, read_pixels

WHITE = Rules()
GREY = Rules(background=(200, 200, 200))
BLUE = Rules(background=(10, 20, 240))
DEEP = Rules(value_range=(0, 65535))
COLOUR = (50, 60, 70)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str, left: object, right: object, kind: str = "PNG", **options: object) -> bytes:
    """Return an image whose left half has one colour and whose right half has another."""
    image = Image.new(mode, (4, 4), left)
    image.paste(right, (2, 0, 4, 4))
    if mode == "P":
        image.putpalette([9, 9, 9, *COLOUR])
    return saved(image, kind, **options)


def png(depth: int, kind: int, row: bytes, width: int, transparent: bytes = b"") -> bytes:
    """Return a PNG of four equal rows with any bit depth, as Pillow writes only some."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 4, depth, kind, 0, 0, 0))
    key = chunk(b"tRNS", transparent) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 4))
    return b"\x89PNG\r\n\x1a\n" + header + key + pixels + chunk(b"IEND", b"")


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """Set the value of a short tag of a TIFF, which Pillow chooses itself."""
    at = tiff.index(struct.pack("<HHI", tag, 3, 1)) + 8
    return tiff[:at] + struct.pack("<H", value) + tiff[at + 2 :]


def deep_halves(left: float, right: float, kind: str = "PNG", **options: object) -> bytes:
    values = np.full((4, 4), left, dtype=np.uint16)
    values[:, 2:] = right
    return saved(Image.fromarray(values), kind, **options)


def corners(content: bytes, rules: Rules) -> list[list[int]]:
    pixels, _ = read_pixels(content, None, rules)
    assert pixels.shape[:2] == (4, 4)
    assert np.all(pixels[:, :2] == pixels[0, 0])
    assert np.all(pixels[:, 2:] == pixels[0, 3])
    return [pixels[0, 0].tolist(), pixels[0, 3].tolist()]


# Transparency

CLEAR = (0, 0, 0, 0)
SOLID = (*COLOUR, 255)
TRANSPARENT_COLOUR: dict[str, Callable[[], bytes]] = {
    "RGBA PNG": lambda: halves("RGBA", CLEAR, SOLID),
    "RGBA WebP": lambda: halves("RGBA", CLEAR, SOLID, "WEBP", lossless=True),
    "RGBA TIFF": lambda: halves("RGBA", CLEAR, SOLID, "TIFF"),
    "RGBa TIFF": lambda: with_tag(halves("RGBA", CLEAR, SOLID, "TIFF"), 338, 1),
    "PA TIFF": lambda: saved(
        Image.open(io.BytesIO(halves("RGBA", CLEAR, SOLID))).convert("PA"), "TIFF"
    ),
    "P PNG, one clear entry": lambda: halves("P", 0, 1, transparency=0),
    "P PNG, an alpha per entry": lambda: halves("P", 0, 1, transparency=b"\x00\xff"),
    "P GIF": lambda: halves("P", 0, 1, "GIF", transparency=0),
    "RGB PNG, one clear colour": lambda: halves("RGB", (1, 2, 3), COLOUR, transparency=(1, 2, 3)),
}


def grey_palette() -> bytes:
    image = Image.new("P", (4, 4), 0)
    image.paste(1, (2, 0, 4, 4))
    image.putpalette([255, 0, 255, 51, 51, 51])
    return saved(image, transparency=0)


TRANSPARENT_GREY: dict[str, Callable[[], bytes]] = {
    "LA PNG": lambda: halves("LA", (0, 0), (51, 255)),
    "LA TIFF": lambda: halves("LA", (0, 0), (51, 255), "TIFF"),
    "La TIFF": lambda: with_tag(halves("LA", (0, 0), (51, 255), "TIFF"), 338, 1),
    "L GIF": lambda: halves("L", 0, 51, "GIF", transparency=0),
    "L PNG, one clear value": lambda: halves("L", 7, 51, transparency=7),
    "P PNG, grey entries": grey_palette,
    "16-bit LA PNG": lambda: png(16, 4, b"\0\0\0\0" * 2 + b"\x33\x33\xff\xff" * 2, 4),
    "I;16 PNG, one clear value": lambda: deep_halves(9, 51 * 257, transparency=9),
}


@pytest.mark.parametrize("name", TRANSPARENT_COLOUR)
@pytest.mark.parametrize("rules", [WHITE, GREY, BLUE], ids=["white", "grey", "blue"])
def test_transparent_pixels_show_the_background(name, rules):
    content = TRANSPARENT_COLOUR[name]()
    assert corners(content, rules) == [list(rules.background), list(COLOUR)]
    assert read_pixels(content, None, rules)[1].transparent == 1


@pytest.mark.parametrize("name", TRANSPARENT_GREY)
@pytest.mark.parametrize("grey", [255, 200, 0])
def test_grey_on_grey_background_stays_one_channel(name, grey):
    rules = Rules(background=(grey, grey, grey), value_range=(0, 65535))
    content = TRANSPARENT_GREY[name]()
    assert corners(content, rules) == [[grey], [51]]
    assert read_pixels(content, None, rules)[1].transparent == 1


@pytest.mark.parametrize("name", TRANSPARENT_GREY)
def test_grey_on_a_coloured_background_is_colour(name):
    rules = Rules(background=BLUE.background, value_range=(0, 65535))
    assert corners(TRANSPARENT_GREY[name](), rules) == [[10, 20, 240], [51, 51, 51]]


def test_one_bit_image_with_a_clear_value_shows_the_background():
    assert corners(halves("1", 0, 255, transparency=0), GREY) == [[200], [255]]


@pytest.mark.parametrize(
    ("depth", "row", "clear", "solid"),
    [(2, [0b10_10_01_01], b"\0\2", 85), (4, [0x33, 0x88], b"\0\3", 136)],
)
def test_clear_value_with_few_bits_is_compared_as_stored(depth, row, clear, solid):
    assert corners(png(depth, 0, bytes(row), 4, clear), GREY) == [[200], [solid]]


def test_partial_transparency_is_blended():
    content = halves("RGBA", (100, 0, 200, 51), (100, 0, 200, 255))
    assert corners(content, WHITE) == [[224, 204, 244], [100, 0, 200]]


def test_shape_in_alpha_alone_is_visible():
    icon = Image.new("RGBA", (8, 8), CLEAR)
    icon.putpixel((3, 4), (0, 0, 0, 255))
    pixels, _ = read_pixels(saved(icon), None, WHITE)
    expected = np.full((8, 8, 3), 255)
    expected[4, 3] = 0
    assert np.array_equal(pixels, expected)


def test_resizing_leaves_no_fringe_of_invisible_colour():
    # White discs on invisible black: on white nothing of them may remain.
    icon = Image.new("RGBA", (32, 32), CLEAR)
    icon.paste((255, 255, 255, 255), (9, 9, 22, 22))
    pixels, _ = read_pixels(saved(icon), (8, 8), WHITE)
    assert np.all(pixels == 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_changes_nothing_and_is_not_counted(mode):
    image = Image.effect_noise((8, 8), 50).convert(mode)
    pixels, found = read_pixels(saved(image), None, BLUE)
    assert np.array_equal(pixels, np.asarray(image)[:, :, : pixels.shape[2]])
    assert found == Findings(images=1)


def test_clear_16_bit_colour_is_refused():
    content = png(16, 2, b"\1\2\1\2\1\2" * 4, 4, b"\1\2\1\2\1\2")
    with pytest.raises(ValueError, match="16-bit colours is transparent"):
        read_pixels(content, None, WHITE)


# Deep images


def test_values_are_scaled_by_the_range():
    rules = Rules(value_range=(30_000, 30_051))
    content = deep_halves(30_000, 30_010)
    assert corners(content, rules) == [[0], [50]]
    with pytest.raises(RangeNeededError):
        read_pixels(content, None, WHITE)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.array([[-1000, 0], [500, 1000]], dtype=np.int32), {}),
        (np.array([[-1000, 0], [500, 1000]], dtype=np.float32), {}),
        (np.array([[-1000, 0], [500, 1000]], dtype=np.float32), {"compression": "tiff_lzw"}),
    ],
    ids=["I", "F", "F compressed"],
)
def test_32_bit_values_are_scaled_by_the_range(values, options):
    content = saved(Image.fromarray(values), "TIFF", **options)
    pixels, found = read_pixels(content, None, Rules(value_range=(-1000, 1000)))
    assert pixels[:, :, 0].tolist() == [[0, 128], [191, 255]]
    assert (found.deep, found.deep_pixels, found.clipped) == (1, 4, 0)


def test_large_unsigned_values_are_not_read_as_negative():
    values = np.array([[0, 2**32 - 1]], dtype=np.uint32)
    content = with_tag(saved(Image.fromarray(values.view(np.int32)), "TIFF"), 339, 1)
    pixels, _ = read_pixels(content, None, Rules(value_range=(0, 2**32 - 1)))
    assert pixels.ravel().tolist() == [0, 255]


def test_signed_16_bit_values_keep_their_sign():
    values = np.array([[-1000, 1000]], dtype=np.int16).view(np.uint16)
    content = saved(Image.fromarray(values), "TIFF", tiffinfo={339: 2})
    pixels, _ = read_pixels(content, None, Rules(value_range=(-1000, 1000)))
    assert pixels.ravel().tolist() == [0, 255]


def test_16_bit_tiff_in_which_zero_is_white_is_inverted():
    content = deep_halves(0, 65535, "TIFF", tiffinfo={262: 0})
    assert corners(content, DEEP) == [[255], [0]]
    assert read_deep_values(content).max() == 65535


def test_values_outside_the_range_are_clipped_and_counted():
    rules = Rules(value_range=(100, 200))
    pixels, found = read_pixels(deep_halves(99, 201), None, rules)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (found.deep_pixels, found.clipped) == (16, 16)


def test_outlier_does_not_spread_to_neighbours_on_resizing():
    values = np.full((16, 16), 1000, dtype=np.uint16)
    values[5, 5] = 65535
    rules = Rules(value_range=(1000, 1010))
    pixels, _ = read_pixels(saved(Image.fromarray(values)), (8, 8), rules)
    # One of four pixels is white; unclipped, it would outweigh the others a thousand times.
    assert pixels[2, 2] < 100


def test_resizing_averages_deep_values_before_rounding():
    # The levels are 2.4, 2.4, 2.4 and 3.4: their mean is 2.65, that of the rounded ones 2.25.
    stripes = np.tile(np.array([240, 240, 240, 340], dtype=np.uint16), (64, 16))
    rules = Rules(value_range=(0, 25_500))
    pixels, _ = read_pixels(saved(Image.fromarray(stripes)), (4, 4), rules)
    assert np.all(pixels[:, 1:-1] == 3)


def test_clear_values_are_not_among_the_values():
    assert np.unique(read_deep_values(deep_halves(7, 300, transparency=7))).tolist() == [300]
    assert read_deep_values(halves("L", 0, 1)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(value):
    values = np.array([[0, value]], dtype=np.float32)
    content = saved(Image.fromarray(values), "TIFF")
    with pytest.raises(ValueError, match="1 of its pixels are infinite or not a number"):
        read_pixels(content, None, DEEP)
    with pytest.raises(ValueError, match="1 of its pixels are infinite or not a number"):
        read_deep_values(content)


def test_16_bit_colour_is_counted_with_its_levels():
    content = png(16, 2, b"\x05\xff\x0a\xff\x07\xff" * 4, 4)
    pixels, found = read_pixels(content, None, WHITE)
    assert pixels[0, 0].tolist() == [5, 10, 7]
    assert (found.deep_colour, found.colour_levels) == (1, (5, 10))


# Other modes and formats


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", (0, 255, 255)),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 204)), "JPEG", (51, 51, 51)),
        (Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF", (0, 255, 255)),
        (Image.new("YCbCr", (8, 8), (76, 85, 255)), "TIFF", (254, 0, 0)),
        (Image.new("LAB", (8, 8), (128, 128, 128)), "TIFF", (119, 119, 119)),
        (Image.new("LAB", (8, 8), (136, 208, 195)), "TIFF", (254, 0, 0)),
    ],
    ids=["CMYK JPEG cyan", "CMYK JPEG grey", "CMYK TIFF", "YCbCr", "LAB grey", "LAB red"],
)
def test_colour_spaces_are_converted_to_rgb(image, kind, expected):
    pixels, _ = read_pixels(saved(image, kind), None, WHITE)
    assert np.abs(pixels[4, 4].astype(int) - expected).max() <= 12


def test_grey_palette_gives_one_channel_of_its_entries():
    image = Image.new("P", (4, 4), 0)
    image.paste(1, (2, 0, 4, 4))
    image.putpalette([90, 90, 90, 50, 50, 50])
    assert corners(saved(image), WHITE) == [[90], [50]]


def test_one_bit_tiff_in_which_zero_is_white_is_inverted():
    content = halves("1", 0, 255, "TIFF", compression="group4", tiffinfo={262: 0})
    assert corners(content, WHITE) == corners(halves("1", 0, 255), WHITE) == [[0], [255]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_only_the_first_frame_is_read_and_the_others_are_counted(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [Image.new("L", (4, 4), shade) for shade in (51, 102, 153)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    pixels, found = read_pixels(content, None, WHITE)
    assert np.all(pixels == 51)
    assert found.with_frames == 1
    assert read_pixels(saved(frames[0], kind, **options), None, WHITE)[1].with_frames == 0


def test_image_without_pixels_is_refused():
    with pytest.raises(UnidentifiedImageError):
        read_pixels(png(8, 0, b"", 0), None, WHITE)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("fitted", [None, (8, 8)], ids=["own size", "resized"])
def test_jpeg_whose_data_end_early_is_refused_despite_its_end_mark(mode, options, fitted):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise).convert(mode), "JPEG", **options)
    read_pixels(content, fitted, WHITE)
    # A progressive file begins with a coarse image; it is cut within that.
    kept = content.index(b"\xff\xda") + 34 if options else len(content) // 2
    with pytest.raises(ValueError, match="its pixels end early"):
        read_pixels(content[:kept] + b"\xff\xd9", fitted, WHITE)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_complete_jpeg_that_ends_in_grey_is_read(mode, options):
    image = Image.new("RGB", (48, 40), (128, 128, 128))
    image.paste((200, 30, 40), (3, 3, 20, 20))
    pixels, _ = read_pixels(saved(image.convert(mode), "JPEG", **options), None, WHITE)
    assert np.abs(pixels[-1, -1].astype(int) - 128).max() <= 1


def test_intact_tiff_of_an_unknown_kind_is_not_called_damaged_alone():
    content = with_tag(saved(Image.new("F", (4, 4)), "TIFF"), 258, 64)
    with pytest.raises(ValueError, match="a kind of TIFF that is not read, such as one with 64"):
        read_pixels(content, None, WHITE)


NOISE = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "PNG", {}),
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "GIF", {}),
        ("RGB", "BMP", {}),
        ("RGB", "WEBP", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "TIFF", {}),
    ],
    ids=["PNG", "JPEG", "progressive JPEG", "GIF", "BMP", "WebP", "lossless WebP", "TIFF"],
)
def test_truncated_image_is_refused_unless_only_its_end_mark_is_lost(mode, kind, options):
    content = saved(Image.fromarray(NOISE).convert(mode), kind, **options)
    complete, _ = read_pixels(content, None, WHITE)
    refused = 0
    for length in range(len(content)):
        try:
            pixels, _ = read_pixels(content[:length], None, WHITE)
        except Exception:
            refused += 1
        else:
            assert np.array_equal(pixels, complete)
    assert refused > 0.9 * len(content)


def many_channels(channels: int, photometric: int = 2) -> bytes:
    """Return a TIFF file of 2x2 pixels whose channels beside colour mean nothing."""
    bits = 22 + 12 * 9 + 6
    extra = bits + 2 * channels
    pixels = extra + 2 * channels
    entries = [
        *((256, 3, 1, 2), (257, 3, 1, 2), (258, 3, channels, bits), (259, 3, 1, 1)),
        *((262, 3, 1, photometric), (273, 4, 1, pixels), (277, 3, 1, channels)),
        *((278, 3, 1, 2), (279, 4, 1, 4 * channels)),
    ]
    count = channels - 3
    entries.append((338, 3, count, extra if count > 2 else 0))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    tags = b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    before = (head + tags).ljust(bits, b"\0") + struct.pack("<H", 8) * channels
    return before.ljust(pixels, b"\0") + bytes(range(4 * channels))


@pytest.mark.parametrize("channels", [4, 5, 6])
def test_channels_beside_colour_are_noted(channels):
    pixels, found = read_pixels(many_channels(channels), None, Rules())
    assert pixels[0].tolist() == [[0, 1, 2], [channels, channels + 1, channels + 2]]
    assert (found + found).notes("white", None, "") == [
        f"2 of 2 images have {channels} channels; only the first 3 are read"
    ]


@pytest.mark.parametrize(("channels", "photometric"), [(8, 2), (8, 1), (4, 1)])
def test_tiff_with_too_many_channels_names_their_number_once(
    channels, photometric, capfd, monkeypatch
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # As without pytest.
    with pytest.raises(ValueError, match=f"^it has {channels} channels, save the 3 or 1"):
        read_pixels(many_channels(channels, photometric), None, Rules())
    assert capfd.readouterr().err == ""


# Size


def columns(**rules: object) -> list[int]:
    """Return the middle row of a 12x4 image, black, white and black in thirds, at 4x4 pixels."""
    image = Image.new("L", (12, 4), 0)
    image.paste(255, (4, 0, 8, 4))
    pixels, _ = read_pixels(saved(image), (4, 4), Rules(**rules))
    assert pixels.shape == (4, 4, 1)
    return pixels[2, :, 0].tolist()


def test_crop_keeps_the_centre_at_the_full_height() -> None:
    assert columns() == columns(fit="crop") == [255, 255, 255, 255]


def test_squash_shows_the_whole_image_without_borders() -> None:
    left, *middle, right = columns(fit="squash")
    assert left < 40
    assert right < 40
    assert min(middle) > 150


def test_pad_shows_the_whole_image_on_the_background() -> None:
    image = Image.new("RGB", (12, 4), COLOUR)
    pixels, _ = read_pixels(saved(image), (6, 6), Rules(background=(10, 20, 240), fit="pad"))
    assert pixels.shape == (6, 6, 3)
    assert [tuple(row[0]) for row in pixels] == [
        *[(10, 20, 240)] * 2,
        *[COLOUR] * 2,
        *[(10, 20, 240)] * 2,
    ]


def test_pad_of_a_grey_image_takes_the_grey_of_the_background() -> None:
    pixels, _ = read_pixels(
        saved(Image.new("L", (4, 8), 7)), (8, 8), Rules(background=(200, 200, 200), fit="pad")
    )
    assert pixels[0, :, 0].tolist() == [200, 200, 7, 7, 7, 7, 200, 200]


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_size_is_width_and_height(fit: str) -> None:
    pixels, _ = read_pixels(saved(Image.new("RGB", (30, 20), COLOUR)), (12, 7), Rules(fit=fit))
    assert pixels.shape == (7, 12, 3)


def test_grey_converts_colour_as_viewers_do() -> None:
    image = Image.new("RGB", (4, 4), COLOUR)
    pixels, _ = read_pixels(saved(image), None, Rules(grey=True))
    assert pixels.shape == (4, 4, 1)
    assert pixels[0, 0, 0] == image.convert("L").getpixel((0, 0))
