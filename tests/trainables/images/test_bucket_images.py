"""Images in a bucket: each node fetches missing files once and completely."""

from __future__ import annotations

import io
import lzma
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.s3 import BucketStore, open_bucket
from spaces.errors import BadInputError
from tests import s3
from trainables.data import Dataset, load
from trainables.images import staging
from trainables.images.store import Progress
from trainables.specs import DataSpec

ROOT = Path(__file__).resolve().parents[3]
CLASSES = ("cat", "dog")


def picture(shade: int) -> bytes:
    """Return a unique image file."""
    pixels = np.random.default_rng(shade).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def class_folders(count: int = 4) -> dict[str, bytes]:
    return {
        f"{name}/{number}.png": picture(100 * place + number)
        for place, name in enumerate(CLASSES)
        for number in range(count)
    }


def tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def folder(s3_place: str, s3_gate: s3.Gate) -> BucketStore:
    """Return a prefix with class folders, and clear the recorded requests."""
    store = open_bucket(s3_place)
    for name, content in class_folders().items():
        store.write(name, content)
    store.write("notes.txt", b"beside the images")
    store.write("cat/.hidden.png", b"not an image")
    s3_gate.asked.clear()
    return store


@pytest.fixture
def archive(s3_place: str, s3_gate: s3.Gate, monkeypatch: pytest.MonkeyPatch) -> BucketStore:
    """Return an archive in a bucket that is fetched in many parts."""
    monkeypatch.setattr(staging, "PART", 1000)
    store = open_bucket(f"{s3_place}/photos.tar")
    BucketStore(store.bucket).write(store.prefix, tar(class_folders()))
    s3_gate.asked.clear()
    return store


def images(
    store: BucketStore,
    cache: Path,
    resolution: int | None = None,
    *,
    version: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    slash = "" if store.prefix.endswith(".tar") else "/"
    data = DataSpec(f"images:{store.location}{slash}", resolution, version=version)
    return load(data, cache=cache, progress=progress)


def local(tmp_path: Path, files: Mapping[str, bytes]) -> Dataset:
    """Return the same images, read from a folder."""
    place = tmp_path / f"local-{secrets.token_hex(4)}"
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return load(DataSpec(f"images:{place}"), cache=tmp_path / "local-cache")


def assert_same(found: Dataset, expected: Dataset) -> None:
    assert found.classes == expected.classes
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.labels, expected.labels)
    for split in ("train", "validation", "test"):
        assert np.array_equal(getattr(found, split), getattr(expected, split))


def staged(cache: Path) -> list[Path]:
    return [path for path in (cache / "staged").rglob("*") if path.is_file()]


# Sources


def test_class_folders_in_a_bucket_equal_local_ones(folder: BucketStore, tmp_path: Path) -> None:
    assert_same(images(folder, tmp_path / "cache"), local(tmp_path, class_folders()))


def test_archive_in_a_bucket_equals_a_local_folder(archive: BucketStore, tmp_path: Path) -> None:
    assert_same(images(archive, tmp_path / "cache"), local(tmp_path, class_folders()))


@pytest.mark.parametrize("suffix", ["tar.xz", "TAR.XZ"])
def test_suffix_of_a_key_determines_how_it_is_read(
    s3_place: str, tmp_path: Path, suffix: str
) -> None:
    store = open_bucket(s3_place)
    store.write(f"photos.{suffix}", lzma.compress(tar(class_folders())))
    found = load(DataSpec(f"images:{s3_place}/photos.{suffix}"), cache=tmp_path / "cache")
    assert_same(found, local(tmp_path, class_folders()))


def test_split_folders_and_empty_folder_objects_are_accepted(s3_place: str, tmp_path: Path) -> None:
    files = {
        f"photos/{split}/{name}": content
        for split in ("train", "test")
        for name, content in class_folders().items()
    }
    store = open_bucket(s3_place)
    for name, content in files.items():
        store.write(name, content)
    store.write("photos/train/", b"")
    found = load(DataSpec(f"images:{s3_place}"), cache=tmp_path / "cache")
    assert_same(found, local(tmp_path, files))


def test_objects_without_the_suffix_of_an_image_are_noted(
    s3_place: str, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    store = open_bucket(s3_place)
    files = class_folders() | {"cat/5.jfif": picture(5)}
    beside = {"cat/6": picture(6), "notes.txt": b"", "cat/@eaDir/0.png": picture(0)}
    for name, content in (files | beside).items():
        store.write(name, content)
    found = load(DataSpec(f"images:{s3_place}"), cache=tmp_path / "cache")
    assert_same(found, local(tmp_path, files))
    assert found.notes[1:4] == (
        "1 file is not an image: 1 .txt (e.g. notes.txt)",
        "1 file has no suffix of an image: 1 without suffix (e.g. cat/6); "
        "add a suffix such as .jpg to use them",
        "hidden and system files and folders are skipped: 1 (e.g. cat/@eaDir)",
    )
    assert not s3_gate.count("GET", "cat/6")


# Fetching once, and only missing objects


def test_complete_files_are_not_fetched_again(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    first = images(folder, tmp_path / "cache")
    assert s3_gate.count("GET", ".png") == 8
    assert_same(images(folder, tmp_path / "cache"), first)
    # At another resolution the same files are decoded again.
    assert images(folder, tmp_path / "cache", resolution=4).shape == (4, 4, 3)
    assert s3_gate.count("GET", ".png") == 8


def test_only_changed_objects_are_fetched_again(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    images(folder, tmp_path / "cache")
    files = class_folders()
    folder.write("cat/1.png", picture(999))
    folder.remove("dog/3.png")
    files["cat/1.png"] = picture(999)
    del files["dog/3.png"]
    s3_gate.asked.clear()
    assert_same(images(folder, tmp_path / "cache"), local(tmp_path, files))
    assert s3_gate.count("GET", ".png") == 1
    assert len(staged(tmp_path / "cache")) == 7


def test_changed_archive_is_fetched_again(archive: BucketStore, tmp_path: Path) -> None:
    images(archive, tmp_path / "cache")
    files = class_folders(5)
    BucketStore(archive.bucket).write(archive.prefix, tar(files))
    assert_same(images(archive, tmp_path / "cache"), local(tmp_path, files))
    assert len(staged(tmp_path / "cache")) == 1


PROGRAM = """
import sys
from pathlib import Path
from trainables.data import load
from trainables.images import staging
from trainables.specs import DataSpec

staging.PART, staging._CONNECTIONS = 1000, 2
found = load(DataSpec(sys.argv[1]), cache=Path(sys.argv[2]))
print(len(found.labels))
"""


def start(source: str, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, str(cache)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_one_process_fetches_while_others_wait(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    source = f"images:{folder.location}/"
    others = [start(source, tmp_path / "cache") for _ in range(3)]
    for each in others:
        out, err = each.communicate(timeout=200)
        assert (out.strip(), each.returncode) == ("8", 0), err
    assert s3_gate.count("GET", ".png") == 8


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_next_process_reuses_parts_of_a_killed_one(
    request: pytest.FixtureRequest, s3_gate: s3.Gate, tmp_path: Path, kind: str
) -> None:
    store = request.getfixturevalue(kind)
    source = f"images:{store.location}{'/' if kind == 'folder' else ''}"
    part = ".png" if kind == "folder" else ".tar"
    cache = tmp_path / "cache"

    def slowly(method: str, path: str) -> None:
        if method == "GET" and part in path:
            time.sleep(0.3)

    s3_gate.answer = slowly
    with start(source, cache) as process:
        while s3_gate.count("GET", part) < 5:
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.5)
    s3_gate.asked.clear()
    s3_gate.answer = lambda method, path: None
    with start(source, cache) as process:
        out, err = process.communicate(timeout=200)
    assert out.strip() == "8", err
    whole = 8 if kind == "folder" else -(-len(tar(class_folders())) // 1000)
    # Of the five requested parts, the two in transit are requested again.
    assert 0 < s3_gate.count("GET", part) <= whole - 3
    assert_same(images(store, cache), local(tmp_path, class_folders()))


def test_progress_counts_fetched_bytes_then_decoded_images(
    archive: BucketStore, tmp_path: Path
) -> None:
    told: list[tuple[int, int | None]] = []
    images(archive, tmp_path / "cache", progress=lambda *each: told.append(each))
    size = len(tar(class_folders()))
    fetched = [done for done, total in told if total == size]
    assert fetched == sorted(fetched)
    assert (len(fetched), fetched[-1]) == (-(-size // 1000), size)
    assert told[-1] == (8, 8)


# Unavailable buckets


def test_staged_images_load_without_the_bucket(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    first = images(folder, tmp_path / "cache")
    assert first.version is not None
    s3_gate.shut()
    assert_same(images(folder, tmp_path / "cache", version=first.version), first)


def test_search_does_not_continue_with_changed_images(folder: BucketStore, tmp_path: Path) -> None:
    first = images(folder, tmp_path / "cache")
    folder.write("cat/1.png", picture(999))
    assert images(folder, tmp_path / "cache").version != first.version
    with pytest.raises(BadInputError) as raised:
        images(folder, tmp_path / "another node", version=first.version)
    assert raised.value.problem == "the images have changed since the search started"


def test_fetch_waits_for_unavailable_bucket(
    folder: BucketStore,
    s3_gate: s3.Gate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(staging, "_PAUSE", 0.1)
    s3_gate.answer = lambda method, path: (
        (503, "SlowDown") if ".png" in path and s3_gate.count("GET", ".png") < 60 else None
    )
    assert_same(images(folder, tmp_path / "cache"), local(tmp_path, class_folders()))
    said = capsys.readouterr().err.splitlines()
    assert said
    expected = f"data: {folder.location}: the server asks to slow down (SlowDown); waiting for it"
    assert set(said) == {expected}


def test_retries_of_an_unavailable_bucket_end_at_the_timeout(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "RETRY_TIMEOUT", 0.0)
    s3_gate.answer = lambda method, path: (503, "SlowDown") if ".png" in path else None
    error = refusal(f"images:{folder.location}/", tmp_path)
    assert error.problem == "the server asks to slow down (SlowDown)"


# Refused sources


def refusal(source: str, tmp_path: Path) -> BadInputError:
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(source), cache=tmp_path / "cache")
    assert raised.value.field == "data"
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("s3://", "'s3://' is not the name of a bucket: write s3://bucket/prefix"),
        (
            f"s3://{s3.BUCKET}/nowhere/",
            f"there is nothing below nowhere/ in the bucket {s3.BUCKET}",
        ),
        (f"s3://{s3.BUCKET}/no.zip", f"there is no no.zip in the bucket {s3.BUCKET}"),
        ("s3://no-such-bucket/x/", "there is no such bucket"),
    ],
)
def test_missing_location_is_refused(
    s3_gate: s3.Gate, tmp_path: Path, location: str, problem: str
) -> None:
    assert refusal(f"images:{location}", tmp_path).problem == problem


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [("deny", "access is denied (ListObjectsV2)"), ("shut", "its server does not answer (")],
)
def test_unreadable_bucket_is_refused_at_once(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path, spoil: str, problem: str
) -> None:
    if spoil == "shut":
        s3_gate.shut()
    else:
        s3_gate.answer = s3_gate.deny
    assert refusal(f"images:{folder.location}/", tmp_path).problem.startswith(problem)


def test_object_that_changes_during_fetch_is_not_mixed(
    archive: BucketStore, s3_gate: s3.Gate, tmp_path: Path
) -> None:
    def change(method: str, path: str) -> None:
        if s3_gate.count("GET", ".tar") == 5:
            s3_gate.answer = lambda method, path: None
            BucketStore(archive.bucket).write(archive.prefix, tar(class_folders(5)))

    s3_gate.answer = change
    error = refusal(f"images:{archive.location}", tmp_path)
    assert error.problem == f"{archive.prefix} was changed or removed while it was fetched"
    assert_same(images(archive, tmp_path / "cache"), local(tmp_path, class_folders(5)))


def test_content_damaged_in_transit_is_fetched_again(
    folder: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = BucketStore.read_key
    damaged: list[str] = []

    def damaging(store: BucketStore, key: str, version: str) -> bytes:
        content = read(store, key, version)
        if key not in damaged:
            damaged.append(key)
            return content[:-1] + bytes([content[-1] ^ 1])
        return content

    monkeypatch.setattr(BucketStore, "read_key", damaging)
    assert_same(images(folder, tmp_path / "cache"), local(tmp_path, class_folders()))
    assert len(damaged) == 8


def test_truncated_local_file_is_fetched_again(folder: BucketStore, tmp_path: Path) -> None:
    images(folder, tmp_path / "cache")
    for path in staged(tmp_path / "cache"):
        path.write_bytes(path.read_bytes()[:-1])
    found = images(folder, tmp_path / "cache", resolution=8)
    assert_same(found, local(tmp_path, class_folders()))


def test_full_disk_is_reported_before_fetching(
    folder: BucketStore, s3_gate: s3.Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: full)
    with pytest.raises(BadInputError, match=r"are to be fetched, and .* are free"):
        images(folder, tmp_path / "cache")
    assert s3_gate.count("GET", ".png") == 0
