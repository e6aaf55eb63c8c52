"""User images: accepted and refused folders and archives."""

import io
import math
import os
import re
import stat
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.image_size import ImageSize
from trainables.images.archives import ARCHIVE_SUFFIXES
from trainables.images.decoding import digest
from trainables.images.errors import shown
from trainables.specs import DataSpec, Decoding

Files = Mapping[str, bytes]

GREY, RED, BLUE = (128, 128, 128), (255, 0, 0), (0, 0, 255)


def picture(
    colour: tuple[int, ...] | int = RED, size: tuple[int, int] = (8, 8), kind: str = "PNG"
) -> bytes:
    mode = "L" if isinstance(colour, int) else "RGB"
    return saved(Image.new(mode, size, colour), kind)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def class_folders(top: str = "", count: int = 4, **images: bytes) -> dict[str, bytes]:
    images = images or {"cat": picture(RED), "dog": picture(BLUE)}
    return {
        f"{top}{name}/{number}.png": content
        for name, content in images.items()
        for number in range(count)
    }


def write_folder(place: Path, files: Files) -> Path:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def write_tar(place: Path, files: Files) -> Path:
    mode = {".gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", ".xz": "w:xz"}.get(place.name[-3:], "w")
    with tarfile.open(place, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place


def write_zip(place: Path, files: Files) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place


def write_archive(place: Path, files: Files) -> Path:
    return (write_zip if place.suffix == ".zip" else write_tar)(place, files)


def load_files(
    tmp_path: Path, files: Files, resolution: int | None = None, **decoding: object
) -> Dataset:
    place = write_folder(tmp_path / "images", files)
    data = DataSpec(
        f"images:{place}", resolution, validation=0.1, test=0.1, decoding=Decoding(**decoding)
    )
    return load(data, cache=tmp_path / "cache")


def refusal(tmp_path: Path, place: Path, resolution: int | None = None) -> BadInputError:
    """Return the error for a path, after checking what all such errors have in common."""
    cache = tmp_path / "cache"
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(f"images:{place}", resolution), cache=cache)
    assert_plain(raised.value)
    assert leftovers(cache) == []
    return raised.value


def assert_plain(error: BadInputError) -> None:
    assert error.field in {"data", "resolution", "decoding.max_megapixels"}
    assert str(error).isprintable()
    assert error.problem
    assert error.remedy


def differ_at_most(most: int, pixels: np.ndarray, expected: object) -> bool:
    return int(np.abs(pixels.astype(int) - np.asarray(expected, dtype=int)).max()) <= most


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


# Classes and splits


def test_class_folders_become_classes_in_alphabetical_order(tmp_path):
    files = class_folders(dog=picture(BLUE), cat=picture(RED))
    data = load_files(tmp_path, files)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data.images.dtype == np.uint8
    assert data.images.shape == (8, 8, 8, 3)
    assert np.all(data.images[0] == RED)
    assert np.all(data.images[4] == BLUE)


@pytest.mark.parametrize("validation_folder", ["val", "validation", "valid", "Val"])
def test_split_folders_become_splits(tmp_path, validation_folder):
    files = (
        class_folders("train/", 4) | class_folders(f"{validation_folder}/", 2)
    ) | class_folders("test/", 3)
    data = load_files(tmp_path, files)
    assert [len(data.train), len(data.validation), len(data.test)] == [8, 4, 6]
    assert np.bincount(data.labels[data.test]).tolist() == [3, 3]


def test_missing_splits_are_drawn_from_train(tmp_path):
    data = load_files(tmp_path, class_folders("train/", 10))
    assert [len(data.train), len(data.validation), len(data.test)] == [16, 2, 2]


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
@pytest.mark.parametrize("layout", ["", "train/", "wrapper/", "wrapper/train/", "./", "./train/"])
def test_archive_equals_the_folder_it_was_made_from(tmp_path, suffix, layout):
    generator = np.random.default_rng(0)
    files = {
        f"{layout}{name}/{number}.png": saved(
            Image.fromarray(generator.integers(0, 256, (6, 5, 3), np.uint8))
        )
        for number in range(6)
        for name in ("zebra", "ant")
    }
    folder = load_files(tmp_path, files)
    place = write_archive(tmp_path / f"archive{suffix}", files)
    archive = load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
    assert archive.classes == folder.classes == ("ant", "zebra")
    assert np.array_equal(archive.images, folder.images)
    assert np.array_equal(archive.labels, folder.labels)
    assert np.array_equal(archive.train, folder.train)


def test_equal_files_have_equal_digests_whatever_their_names(tmp_path):
    red, blue = picture(RED), picture(BLUE)
    # The same pixels in another file.
    other = picture(RED, kind="BMP")
    files = class_folders(cat=red, dog=blue) | {"cat/9.png": blue, "dog/9.png": other}
    for place in (write_folder(tmp_path / "folder", files), write_tar(tmp_path / "a.tar", files)):
        data = load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
        expected = [digest(content) for content in (*[red] * 4, blue, *[blue] * 4, other)]
        assert data.digests.dtype == np.uint64
        assert data.digests.tolist() == expected
        assert len(set(expected)) == 3


def test_archive_is_read_without_extracting_it(tmp_path, monkeypatch):
    place = write_tar(tmp_path / "a.tar.gz", class_folders("train/"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TMPDIR", str(work))
    load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
    assert list(work.iterdir()) == []
    assert not [path for path in leftovers(tmp_path / "cache") if path.suffix == ".png"]


def test_other_files_beside_the_images_are_ignored(tmp_path):
    beside = {
        "README.txt": b"read me",
        "preview.png": picture(GREY, (100, 50)),
        "__MACOSX/pets/train/cat/._0.png": b"resource fork",
        "pets/labels.csv": b"name,label",
        "pets/overview.png": b"not even an image",
        "pets/train/montage.jpg": b"not even an image",
        "pets/train/cat/.0.png.swp": b"editor",
        "pets/train/cat/._1.png": b"resource fork",
        "pets/train/cat/Thumbs.db": b"explorer",
        "pets/train/.ipynb_checkpoints/a.png": b"notebook",
        "pets/extra/cat/9.png": b"not even an image",
    }
    data = load_files(tmp_path, class_folders("pets/train/") | beside)
    assert len(data.images) == 8
    assert data.classes == ("cat", "dog")


def test_train_can_be_the_name_of_a_class(tmp_path):
    files = class_folders(train=picture(RED), plane=picture(BLUE))
    assert load_files(tmp_path, files).classes == ("plane", "train")


def test_images_deeper_in_a_class_folder_belong_to_it(tmp_path):
    files = class_folders("train/") | {"train/cat/images/more/9.png": picture(RED)}
    assert np.bincount(load_files(tmp_path, files).labels).tolist() == [5, 4]


def test_last_member_with_a_name_wins_as_on_extraction(tmp_path):
    place = write_tar(tmp_path / "a.tar", class_folders())
    with tarfile.open(place, "a") as archive:
        info = tarfile.TarInfo("cat/0.png")
        info.size = len(picture(BLUE))
        archive.addfile(info, io.BytesIO(picture(BLUE)))
    data = load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
    assert len(data.images) == 8
    assert np.all(data.images[0] == BLUE)


def test_paths_written_by_windows_tools_are_accepted(tmp_path):
    files = {name.replace("/", "\\"): content for name, content in class_folders().items()}
    place = write_zip(tmp_path / "a.zip", files)
    assert load(DataSpec(f"images:{place}"), cache=tmp_path / "cache").classes == ("cat", "dog")


def test_the_home_folder_can_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "pets", class_folders())
    assert len(load(DataSpec("images:~/pets"), cache=tmp_path / "cache").images) == 8


def test_links_between_folders_are_followed_without_cycles(tmp_path):
    place = write_folder(tmp_path / "pets", class_folders())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/9.png").write_bytes(picture())
    (place / "cat/more").symlink_to(tmp_path / "elsewhere")
    (place / "cat/circle").symlink_to(place)
    data = load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
    assert np.bincount(data.labels).tolist() == [5, 4]


# Pixels


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("jpg", "JPEG"),
        ("JPEG", "JPEG"),
        ("png", "PNG"),
        ("Bmp", "BMP"),
        ("gif", "GIF"),
        ("webp", "WEBP"),
        ("tif", "TIFF"),
        ("TIFF", "TIFF"),
    ],
)
def test_common_formats_are_read_with_suffix_of_any_case(tmp_path, suffix, kind):
    files = {
        f"{name}/{number}.{suffix}": picture(colour, kind=kind)
        for name, colour in (("cat", RED), ("dog", BLUE))
        for number in range(3)
    }
    data = load_files(tmp_path, files)
    assert differ_at_most(2, data.images[0], RED)
    assert differ_at_most(2, data.images[3], BLUE)


def test_content_determines_the_format_not_the_suffix(tmp_path):
    files = class_folders(cat=picture(RED, kind="BMP"), dog=picture(BLUE, kind="WEBP"))
    assert load_files(tmp_path, files).images.shape == (8, 8, 8, 3)


def grey_picture(mode: str) -> bytes:
    if mode == "I;16":
        return saved(Image.fromarray(np.full((8, 8), 200 * 257, dtype=np.uint16)))
    grey = Image.new("L", (8, 8), 255 if mode == "1" else 200)
    return saved(grey.convert(mode))


@pytest.mark.parametrize(("mode", "value"), [("1", 255), ("L", 200), ("LA", 200), ("I;16", 200)])
def test_greyscale_images_keep_their_one_channel(tmp_path, mode, value):
    files = class_folders(cat=grey_picture(mode), dog=picture(0))
    data = load_files(tmp_path, files, value_range=[0, 65535])
    assert data.channels == 1
    assert np.all(data.images[0] == value)


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "CMYK"])
def test_one_colour_image_makes_the_whole_set_colour(tmp_path, mode):
    coloured = saved(Image.new("RGB", (8, 8), RED).convert(mode), "TIFF")
    # Last in order, so that all others are already written as greyscale.
    files = class_folders(cat=picture(50), dog=picture(200)) | {"dog/9.png": coloured}
    data = load_files(tmp_path, files)
    assert data.channels == 3
    assert np.all(data.images[0] == 50)
    assert np.all(data.images[7] == 200)
    assert differ_at_most(2, data.images[8], RED)


def test_late_colour_image_keeps_earlier_images_and_mean(tmp_path):
    count = 1200
    files = class_folders("", count, cat=picture(50), dog=picture(200))
    data = load_files(tmp_path, files | {"dog/zebra.png": picture(RED)})
    assert data.images.shape == (2 * count + 1, 8, 8, 3)
    assert np.all(data.images[:count] == 50)
    assert np.all(data.images[count:-1] == 200)
    assert np.all(data.images[-1] == RED)
    assert data.mean == pytest.approx(data.images[data.train].mean(axis=(0, 1, 2)) / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.new("RGB", (8, 8), RED)
    upright.paste(BLUE, (0, 0, 4, 4))
    # As the sensor records it: the noted rotation restores the upright image.
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(upright.transpose(undo) if undo is not None else upright, exif=exif)
    data = load_files(tmp_path, class_folders(cat=content, dog=picture()))
    assert np.array_equal(data.images[0], np.asarray(upright))


def test_unreadable_metadata_is_ignored(tmp_path):
    content = saved(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert len(load_files(tmp_path, class_folders(cat=content, dog=picture())).images) == 8


def test_shorter_side_is_resized_and_centre_is_cropped(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8)
    wide = Image.fromarray(noise)
    tall = Image.fromarray(noise.swapaxes(0, 1))
    data = load_files(tmp_path, class_folders(cat=saved(wide), dog=saved(tall)), resolution=10)
    resized = np.asarray(wide.resize((30, 10), Image.Resampling.BICUBIC))
    assert differ_at_most(1, data.images[0], resized[:, 10:20])
    assert differ_at_most(1, data.images[4], resized[:, 10:20].swapaxes(0, 1))


def test_resizing_averages_pixels(tmp_path):
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    data = load_files(
        tmp_path, class_folders(cat=saved(Image.fromarray(stripes)), dog=picture(0)), 8
    )
    assert differ_at_most(8, data.images[0], 128)


def test_jpeg_decoded_at_reduced_size_matches_exact_resize(tmp_path):
    ramp = np.add.outer(np.arange(800), np.arange(800)) * (255 / 1598)
    image = Image.fromarray(ramp.astype(np.uint8))
    content = saved(image, "JPEG", quality=95)
    data = load_files(tmp_path, class_folders(cat=content, dog=picture(0)), 20)
    exact = np.asarray(image.resize((20, 20), Image.Resampling.BICUBIC))
    assert differ_at_most(3, data.images[0, :, :, 0], exact)


def test_images_may_have_sides_of_different_length(tmp_path):
    data = load_files(tmp_path, class_folders(), resolution=ImageSize(6, 4))
    assert data.shape == (6, 4, 3)


def test_forced_grey_gives_one_channel(tmp_path):
    assert load_files(tmp_path, class_folders(), resolution=8, grey=True).shape == (8, 8, 1)


def test_another_fit_decodes_other_images(tmp_path):
    wide = saved(Image.new("RGB", (20, 8), (200, 30, 10)))
    files = class_folders(cat=wide, dog=saved(Image.new("RGB", (20, 8))))
    cropped = load_files(tmp_path, files, resolution=8)
    padded = load_files(tmp_path, files, resolution=8, fit="pad")
    assert (cropped.images != padded.images).any()
    whole = Decoding()
    assert cropped.identify(whole) == cropped.identify(Decoding(fit="crop", grey=False))
    assert cropped.identify(whole) != cropped.identify(Decoding(fit="pad"))
    assert whole.identity == "background white, value_range None"


def test_images_smaller_than_the_resolution_are_enlarged(tmp_path):
    assert load_files(tmp_path, class_folders(), resolution=32).shape == (32, 32, 3)


# Refusals and their messages


def test_images_of_different_sizes_need_a_resolution(tmp_path):
    files = class_folders(cat=picture(size=(8, 8)), dog=picture(size=(9, 7)))
    error = refusal(tmp_path, write_folder(tmp_path / "images", files))
    assert error.field == "resolution"
    assert str(error) == (
        "resolution = None: the images differ in size (cat/0.png has 8x8 pixels, dog/0.png has "
        "9x7); set resolution to the common side in pixels"
    )


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"notes.txt": b""}, "there are no images (.jpg"),
        ({"0.png": picture(), "1.png": picture()}, "there are no images (.jpg"),
        (class_folders(cat=picture()), "there are images of only one class, cat"),
        (class_folders("train/", cat=picture()), "there are images of only one class, cat"),
        (class_folders() | {"bird/notes.txt": b""}, "the class folder bird has no images"),
        (
            class_folders("a/train/") | class_folders("a/test/") | {"a/test/ox/x.txt": b""},
            "the class folder test/ox has no images",
        ),
        (
            class_folders("train/") | class_folders("test/", cat=picture(), ox=picture()),
            "the class ox is in test/ but not in train/",
        ),
        (
            class_folders("train/") | class_folders("val/", cat=picture()),
            "the class dog is in train/ but has no images in validation/",
        ),
        (
            class_folders("train/") | class_folders("val/") | class_folders("validation/"),
            "val/ and validation/ are both the validation split",
        ),
        (class_folders(train=picture(), test=picture()), "there are no class folders inside"),
        (class_folders("", 2), "the class cat has 2 images to be shared by train, validation and"),
        (
            class_folders("train/", 1) | class_folders("test/"),
            "the class cat has 1 image to be shared by train and validation",
        ),
        (class_folders() | {"cat/bad.png": b""}, "the image cat/bad.png cannot be read (not in a"),
        (
            class_folders() | {"cat/bad.png": picture()[:45]},
            "the image cat/bad.png cannot be read (",
        ),
        (
            class_folders() | {"cat/nan.tif": saved(Image.new("F", (8, 8), math.nan), "TIFF")},
            "the image cat/nan.tif cannot be read (64 of its pixels are infinite or not a number)",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "tar.xz", "zip"])
def test_unusable_images_are_refused(tmp_path, kind, files, problem):
    if kind == "folder":
        place = write_folder(tmp_path / "images", files)
    else:
        place = write_archive(tmp_path / f"images.{kind}", files)
    # Images that are too few to split are decoded first, and kept for other splits.
    if "to be shared" in problem:
        with pytest.raises(BadInputError) as raised:
            load(DataSpec(f"images:{place}"), cache=tmp_path / "cache")
        error = raised.value
    else:
        error = refusal(tmp_path, place)
    assert error.field == "data"
    assert error.value == f"images:{place}"
    assert error.problem.startswith(problem)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


@pytest.mark.parametrize("side", [10_000, 60_000], ids=["pillow warns", "pillow refuses"])
def test_a_decompression_bomb_is_not_decoded(tmp_path, side):
    files = class_folders() | {"cat/bomb.png": png_claiming(side, side)}
    error = refusal(tmp_path, write_folder(tmp_path / "images", files), resolution=8)
    size = side**2 // 10**6
    assert str(error) == (
        f"decoding.max_megapixels = 89.478485: the image cat/bomb.png has {size} megapixels; "
        f"if you trust it, set decoding.max_megapixels to {size}; otherwise remove it"
    )


def test_large_image_is_read_if_the_limit_allows_it(tmp_path):
    files = class_folders(cat=picture(RED, (20, 20)), dog=picture(BLUE, (20, 20)))
    with pytest.raises(BadInputError, match=r"0\.0004 megapixels"):
        load_files(tmp_path, files, max_megapixels=0.000399)
    limit = Image.MAX_IMAGE_PIXELS
    assert len(load_files(tmp_path, files, max_megapixels=0.0004).images) == 8
    assert limit == Image.MAX_IMAGE_PIXELS


def test_missing_path_is_named(tmp_path):
    error = refusal(tmp_path, tmp_path / "nowhere")
    assert error.problem == f"there is no file or folder {shown(str(tmp_path / 'nowhere'))}"


@pytest.mark.parametrize("name", ["images.rar", "images", "photo.png"])
def test_file_of_unknown_format_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"Rar!")
    error = refusal(tmp_path, tmp_path / name)
    assert error.problem.startswith("it is neither a folder nor an archive that is known (.tar")


def test_images_are_read_only_from_this_machine_or_s3(tmp_path):
    path = "https://example.com/images.zip"
    error = refusal(tmp_path, path)
    assert str(error) == (
        f"data = images:{path}: only local files and those in S3 are read; "
        "copy the images here and give images:PATH, or give images:s3://bucket/prefix/"
    )


@pytest.mark.parametrize("path", ["", "nul\0byte", "~nosuchuser/x", "x" * 5000, "\udcff"])
def test_paths_that_cannot_exist_are_refused_plainly(tmp_path, path):
    refusal(tmp_path, path)


def test_special_file_among_images_is_refused_at_once(tmp_path):
    place = write_folder(tmp_path / "images", class_folders())
    os.mkfifo(place / "cat/pipe.png")
    error = refusal(tmp_path, place)
    assert error.problem == "cat/pipe.png cannot be read (not a regular file)"


def test_broken_link_among_images_is_named(tmp_path):
    place = write_folder(tmp_path / "images", class_folders())
    (place / "cat/9.png").symlink_to("nowhere")
    error = refusal(tmp_path, place)
    assert error.problem == "cat/9.png cannot be read (No such file or directory)"


def test_image_that_vanishes_during_reading_is_named(tmp_path):
    place = write_folder(tmp_path / "images", class_folders())
    with pytest.raises(BadInputError) as raised:
        load(
            DataSpec(f"images:{place}"),
            cache=tmp_path / "cache",
            progress=lambda _done, _total: (place / "dog/3.png").unlink(missing_ok=True),
        )
    assert "dog/3.png" in str(raised.value)
    assert leftovers(tmp_path / "cache") == []


def test_archive_replaced_while_it_is_read_is_refused(tmp_path):
    place = write_tar(tmp_path / "images.tar", class_folders("", 300))

    def replace(_done: int, total: int | None) -> None:
        if total is not None:
            write_tar(place, class_folders("", 1))

    with pytest.raises(BadInputError, match=r"images\.tar|were gone"):
        load(DataSpec(f"images:{place}"), cache=tmp_path / "cache", progress=replace)
    assert leftovers(tmp_path / "cache") == []


# Malicious and damaged archives

UNSAFE_NAMES = [
    "/etc/cat/0.png",
    "../cat/0.png",
    "cat/../../0.png",
    "cat/..",
    "..\\cat\\0.png",
    "C:\\cat\\0.png",
    "//host/cat/0.png",
    "\x1b[2Jcat\n/../0.png",
]


@pytest.mark.parametrize("name", UNSAFE_NAMES)
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_member_with_a_path_outside_is_refused(tmp_path, suffix, name):
    place = write_archive(tmp_path / f"a{suffix}", class_folders() | {name: picture()})
    error = refusal(tmp_path, place)
    assert error.problem == f"the archive member {shown(name)} leads outside the archive"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "C:", "\\", "\x1b"]), max_size=5))
def test_member_path_is_refused_exactly_if_it_leads_outside(parts):
    name = "/".join(parts)
    # With this suffix the rest of the name is an ignored file, never a class folder.
    name = f"{name}/.hidden"
    files = class_folders("", 3) | {name: b""}
    with tempfile.TemporaryDirectory() as folder:
        place = write_tar(Path(folder) / "a.tar", files)
        plain = name.replace("\\", "/")
        leaves = plain.startswith(("/", "C:/")) or ".." in plain.split("/")
        if leaves:
            assert "leads outside" in refusal(Path(folder), place).problem
        else:
            assert len(load(DataSpec(f"images:{place}"), cache=Path(folder) / "cache").images) == 6


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_link_or_device_in_a_tar_is_refused(tmp_path, kind):
    place = write_tar(tmp_path / "a.tar", class_folders())
    with tarfile.open(place, "a") as archive:
        info = tarfile.TarInfo("cat/passwd.png")
        info.type = kind
        info.linkname = "/etc/passwd"
        archive.addfile(info)
    error = refusal(tmp_path, place)
    assert error.problem == (
        "the archive member cat/passwd.png is a link or a device, not a file or folder"
    )


def test_a_link_in_a_zip_is_refused(tmp_path):
    place = write_zip(tmp_path / "a.zip", class_folders())
    with zipfile.ZipFile(place, "a") as archive:
        info = zipfile.ZipInfo("cat/passwd.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "cat/passwd.png is a link" in refusal(tmp_path, place).problem


def test_an_encrypted_zip_is_refused(tmp_path):
    place = write_zip(tmp_path / "a.zip", class_folders())
    content = bytearray(place.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    place.write_bytes(content)
    assert refusal(tmp_path, place).problem == "the member cat/0.png is encrypted"


def test_member_claiming_a_huge_size_is_not_read_into_memory(tmp_path):
    files = class_folders() | {"cat/huge.png": bytes(257 * 2**20)}
    place = write_zip(tmp_path / "a.zip", files)
    assert place.stat().st_size < 2**20
    error = refusal(tmp_path, place)
    assert error.problem == "the image cat/huge.png has 269484032 bytes, more than 268435456"


def test_bad_header_in_the_middle_is_not_treated_as_the_end(tmp_path):
    place = write_tar(tmp_path / "a.tar", class_folders("", 8))
    content = bytearray(place.read_bytes())
    content[content.index(b"dog/6.png")] ^= 0xFF
    place.write_bytes(content)
    assert refusal(tmp_path, place).problem.startswith("the archive a.tar is damaged")


def test_negative_size_does_not_cause_an_endless_loop(tmp_path):
    place = write_tar(tmp_path / "a.tar", class_folders())
    info = tarfile.TarInfo("dog/9.png")
    info.size = -2048
    with open(place, "r+b") as file:
        content = file.read()
        file.seek(content.index(b"dog/3.png"))
        file.write(info.tobuf(tarfile.GNU_FORMAT))
    assert refusal(tmp_path, place).problem.startswith("the archive a.tar is damaged")


def test_damage_detectable_only_by_final_checksum_is_found(tmp_path):
    place = write_tar(tmp_path / "a.tar.gz", class_folders())
    content = bytearray(place.read_bytes())
    content[-8] ^= 0xFF
    place.write_bytes(content)
    assert refusal(tmp_path, place).problem.startswith("the archive a.tar.gz is damaged")


def archive_bytes(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        files = class_folders("train/", 3) | class_folders("test/", 1)
        return write_archive(Path(folder) / f"a{suffix}", files).read_bytes()


ARCHIVES = {suffix: archive_bytes(suffix) for suffix in ARCHIVE_SUFFIXES}


def assert_refused_or_valid(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"a{suffix}"
        place.write_bytes(content)
        cache = Path(folder) / "cache"
        try:
            data = load(DataSpec(f"images:{place}"), cache=cache)
        except BadInputError as error:
            assert_plain(error)
            # A completely decoded set stays in the cache even if it cannot be split.
            if "to be shared" not in error.problem:
                assert leftovers(cache) == []
            return
        assert_valid(data)


def assert_valid(data: Dataset) -> None:
    rows = np.concatenate([data.train, data.validation, data.test])
    assert np.array_equal(np.sort(rows), np.arange(len(data.images)))
    assert data.images.dtype == np.uint8
    assert len(data.classes) >= 2
    for part in (data.train, data.validation, data.test):
        assert set(data.labels[part]) == set(range(len(data.classes)))


suffixes = st.sampled_from(ARCHIVE_SUFFIXES)


@settings(max_examples=100, deadline=None)
@given(suffixes, st.floats(0, 1, exclude_max=True))
@example(".zip", 0.0)
def test_truncated_archive_is_refused_or_read_as_shorter_one(suffix, kept):
    content = ARCHIVES[suffix]
    assert_refused_or_valid(content[: int(kept * len(content))], suffix)


@settings(max_examples=150, deadline=None)
@given(
    suffixes,
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=8),
)
def test_an_archive_with_changed_bytes_is_refused_or_valid(suffix, changes):
    content = bytearray(ARCHIVES[suffix])
    for position, change in changes:
        content[position % len(content)] ^= change
    assert_refused_or_valid(bytes(content), suffix)


def tar_with_header(edit: Callable[[bytearray], None], member: int) -> bytes:
    """Change one member's header and correct its checksum."""
    content = bytearray(ARCHIVES[".tar"])
    starts = [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]
    start = starts[member % len(starts)]
    header = content[start : start + 512]
    edit(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[start : start + 512] = header
    return bytes(content)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100), st.integers(0, 511), st.binary(min_size=1, max_size=24))
@example(3, 124, b"\xff" * 12)
@example(3, 124, b"\x80" + b"\x7f" * 11)
@example(0, 156, b"x")
@example(0, 156, b"L")
@example(0, 156, b"S")
@example(0, 0, b"/")
@example(0, 0, b"\xff\xfe")
def test_tar_header_with_valid_checksum_is_refused_or_valid(member, offset, change):
    def edit(header: bytearray) -> None:
        header[offset : offset + len(change)] = change[: 512 - offset]

    assert_refused_or_valid(tar_with_header(edit, member), ".tar")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), suffixes)
def test_bytes_other_than_an_archive_are_refused(content, suffix):
    assert_refused_or_valid(content, suffix)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=6),
    st.floats(0.3, 1),
)
def test_damaged_image_is_either_decoded_or_refused(kind, changes, kept):
    content = bytearray(picture(RED, (12, 12), kind))
    for position, change in changes:
        content[position % len(content)] ^= change
    damaged = bytes(content[: int(kept * len(content))])
    files = class_folders("", 3) | {"cat/damaged.png": damaged}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        place = write_folder(Path(folder) / "images", files)
        try:
            data = load(DataSpec(f"images:{place}", 8), cache=Path(folder) / "cache")
        except BadInputError as error:
            assert_plain(error)
            problem = error.problem
        else:
            assert_valid(data)
            return
    # A damaged header may claim any size.
    assert re.match(
        r"the image cat/damaged\.png (cannot be read \(|has [\d.]+ megapixels$)", problem
    )
