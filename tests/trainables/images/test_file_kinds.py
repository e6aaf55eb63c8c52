"""Which files are images, and how the others are noted."""

import inspect
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from trainables.images.errors import UnusableDataError
from trainables.images.file_kinds import HEAD_BYTES, begins_like_image
from trainables.images.files import open_images
from trainables.images.sources import Listing


def picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, kind)
    return buffer.getvalue()


def listed(tmp_path: Path, files: dict[str, bytes], kind: str = "folder") -> Listing:
    """Return the listing of two classes with a PNG each, and of more files."""
    files = {"cat/0.png": picture(), "dog/0.png": picture()} | files
    place = tmp_path / f"images.{kind}"
    if kind == "folder":
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    elif kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(place, "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return open_images(str(place)).listing()


def names(listing: Listing) -> list[str]:
    return [item.name for item in listing.items()]


kinds = pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])


@kinds
@pytest.mark.parametrize("name", ["1.jfif", "1.JPE", "1.apng", "1.dib"])
def test_any_suffix_of_a_known_format_is_taken_without_a_look(tmp_path, kind, name):
    # The content is wrong, so that decoding names the file instead of leaving it out.
    found = listed(tmp_path, {f"cat/{name}": b"no image"}, kind)
    assert f"cat/{name}" in names(found)
    assert found.notes == ()


@kinds
def test_content_decides_about_files_with_unknown_suffix(tmp_path, kind):
    files = {
        "cat/1": picture("JPEG"),
        "cat/2.image": picture("WEBP"),
        "cat/3.0": picture("BMP"),
        "cat/4.dat": b"BMW, a text",
        "cat/5": b"",
    }
    found = listed(tmp_path, files, kind)
    assert sorted(names(found))[:4] == ["cat/0.png", "cat/1", "cat/2.image", "cat/3.0"]
    assert found.notes == (
        "2 files are not images: 1 .dat (e.g. cat/4.dat), 1 without suffix (e.g. cat/5)",
        "images without the suffix of one are recognised by content: 3 (e.g. cat/1)",
    )


@kinds
def test_files_left_out_are_counted_by_kind_with_an_example(tmp_path, kind):
    files = {f"cat/{number}.txt": b"" for number in range(3)} | {"dog/1.JSON": b"{}"}
    assert listed(tmp_path, files, kind).notes == (
        "4 files are not images: 3 .txt (e.g. cat/0.txt), 1 .json (e.g. dog/1.JSON)",
    )


@kinds
def test_formats_that_are_not_read_are_noted_with_the_remedy(tmp_path, kind):
    # Raw photos begin like TIFF, but hold a preview.
    files = {"cat/1.HEIC": b"", "cat/2.nef": picture("TIFF"), "dog/3.heic": b""}
    assert listed(tmp_path, files, kind).notes == (
        "3 images are in a format that is not read: 2 .heic (e.g. cat/1.HEIC), "
        "1 .nef (e.g. cat/2.nef); convert them to PNG or JPEG to use them",
    )


@pytest.mark.parametrize("name", ["0.jpg_original", "0.png.bak", "0.png~", "MVI_1.THM", "a.part"])
def test_copies_and_previews_of_files_are_not_taken(tmp_path, name):
    found = listed(tmp_path, {f"cat/{name}": picture("JPEG")})
    assert names(found) == ["cat/0.png", "dog/0.png"]
    assert found.notes[0].startswith("1 file is not an image: 1 ")


@kinds
@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found", ".Trash-1000"),
        *("System Volume Information", ".ipynb_checkpoints", "cat/@EADIR/0.png"),
    ],
)
def test_folders_of_systems_and_file_servers_are_skipped(tmp_path, kind, folder):
    found = listed(tmp_path, {f"{folder}/SYNOPHOTO_THUMB_M.png": picture()}, kind)
    assert found.classes == ("cat", "dog")
    assert len(found.labels) == 2
    part = "cat/@EADIR" if "cat" in folder else folder
    assert found.notes == (f"hidden and system files and folders are skipped: 1 (e.g. {part})",)


def test_leftovers_of_file_managers_are_skipped_silently(tmp_path):
    leftovers = ["Thumbs.db", "cat/._0.png", ".DS_Store", "desktop.ini", "__MACOSX/cat/._0.png"]
    found = listed(tmp_path, dict.fromkeys(leftovers, picture()))
    assert len(found.labels) == 2
    assert found.notes == ()


def test_refusal_also_names_the_files_left_out(tmp_path):
    with pytest.raises(UnusableDataError) as raised:
        listed(tmp_path, {"ox/1.heic": b"", "ox/2.heic": b""})
    assert raised.value.problem == (
        "the class folder ox has no images; 2 images are in a format that is not read: "
        "2 .heic (e.g. ox/1.heic); convert them to PNG or JPEG to use them"
    )


def test_pipes_and_broken_links_without_suffix_are_not_opened(tmp_path):
    place = tmp_path / "images.folder"
    (place / "cat").mkdir(parents=True)
    os.mkfifo(place / "cat/pipe")
    (place / "cat/link").symlink_to("nowhere")
    assert listed(tmp_path, {}).notes == (
        "2 files are not images: 2 without suffix (e.g. cat/link)",
    )


def test_links_that_lead_outside_the_folder_are_noted(tmp_path):
    place = tmp_path / "images.folder"
    for folder in ("images.folder/cat", "outside/dog"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/dog/1.png").write_bytes(picture())
    (place / "dog").symlink_to(tmp_path / "outside/dog")
    (place / "cat/1.png").symlink_to("0.png")
    (place / "cat/2.png").symlink_to(tmp_path / "outside/dog/1.png")
    found = listed(tmp_path, {})
    assert len(found.labels) == 5
    assert found.notes == ("links that lead outside the folder are followed: 2 (e.g. cat/2.png)",)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_in_an_archive_are_noted(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in ("cat/0.png", "dog/0.png", "cat/0.png", "cat/0.png"):
            archive.writestr(name, picture())
    found = open_images(str(tmp_path / "images.zip")).listing()
    assert len(found.labels) == 2
    assert found.notes == (
        "files of one name occur repeatedly in the archive, and the last of each counts: 1 (e.g. "
        "cat/0.png)",
    )


def test_folders_deeper_than_the_recursion_limit_are_read(tmp_path):
    top = f"{tmp_path}/images.folder/cat"
    os.makedirs(top)
    # A lower limit, because the time to make folders grows with the square of their depth.
    limit, lower = sys.getrecursionlimit(), len(inspect.stack()) + 150
    folders = [top + "/a" * depth for depth in range(1, lower)]
    for folder in folders:
        os.mkdir(folder)
    try:
        sys.setrecursionlimit(lower)
        assert len(listed(tmp_path, {}).labels) == 2
    finally:
        sys.setrecursionlimit(limit)
        # pytest's own cleaning is recursive.
        for folder in reversed(folders):
            os.rmdir(folder)


def test_listing_twice_gives_the_same_notes(tmp_path):
    listed(tmp_path, {"cat/1": b"text"})
    source = open_images(str(tmp_path / "images.folder"))
    assert source.listing().notes == source.listing().notes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_image_is_recognised_by_its_first_bytes(kind):
    assert begins_like_image(picture(kind)[:HEAD_BYTES])


@pytest.mark.parametrize(
    "head", [b"", b"BM", b"GIF", b"RIFF....WAVEfmt ", b"\x28\0\0\0" * 8, b"II*", b"%PDF-1.7"]
)
def test_other_first_bytes_are_no_image(head):
    assert not begins_like_image(head)
