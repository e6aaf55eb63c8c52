"""Loading a data set: the result, and a cache that survives failures."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.error
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from spaces.errors import BadInputError
from trainables.data import Dataset, load
from trainables.data_identity import DataIdentity
from trainables.folds import Folds
from trainables.images import decode_pool
from trainables.images import store as image_store
from trainables.images.decoding import Chunk, moments
from trainables.images.errors import UnusableDataError
from trainables.images.files import ImageArchive
from trainables.specs import DataSpec

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared/data"


def png(shade: int, size: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (size, size), shade).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(place: Path, per_class: int, shades: tuple[int, ...] = (40, 200)) -> Path:
    with tarfile.open(place, "w") as archive:
        for shade in shades:
            content = png(shade)
            for number in range(per_class):
                info = tarfile.TarInfo(f"shade{shade:03}/{number:05}.png")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return place


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """20 images, which this process decodes."""
    return write_tar(tmp_path / "small.tar", 10)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """3,000 images, which separate processes decode."""
    return write_tar(tmp_path / "large.tar", 1500)


class Calls:
    """A progress callback that records its calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))


def names_in(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file()}


# The result


def test_digits_load_without_network_access(tmp_path):
    data = load(DataSpec("digits", validation=0.1, test=0.1), cache=tmp_path)
    assert data.shape == (8, 8, 1)
    assert data.channels == 1
    assert data.classes == tuple("0123456789")
    assert len(data.images) == len(data.labels) == 1797
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert [len(data.train), len(data.validation), len(data.test)] == [1457, 161, 179]
    assert repr(data) == "Dataset(10 classes of 8x8x1: 1457 train, 161 validation, 179 test)"


def test_digits_can_be_enlarged(tmp_path):
    assert load(DataSpec("digits", 32), cache=tmp_path).shape == (32, 32, 1)


def test_images_are_mapped_read_only_from_the_cache(tmp_path):
    data = load(DataSpec("digits"), cache=tmp_path)
    assert isinstance(data.images, np.memmap)
    assert Path(data.images.filename).is_relative_to(tmp_path)
    assert not data.images.flags.writeable


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path):
    data = load(DataSpec("digits", subset=0.5, split_seed=3), cache=tmp_path)
    pixels = data.images[data.train] / 255
    assert data.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)))
    assert data.std == pytest.approx(pixels.std(axis=(0, 1, 2)))


def test_dataset_built_from_arrays_has_the_same_statistics():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)
    rows = np.arange(9)
    data = Dataset(images, rows % 2, ("a", "b"), rows[:5], rows[5:7], rows[7:])
    assert data.shape == (4, 5, 3)
    assert data.mean == pytest.approx(images[:5].mean(axis=(0, 1, 2)) / 255)
    assert data.std == pytest.approx(images[:5].std(axis=(0, 1, 2)) / 255)


def test_deviation_of_a_constant_channel_is_one():
    rows = np.arange(6)
    images = np.full((6, 4, 4, 1), 77, dtype=np.uint8)
    data = Dataset(images, rows % 2, ("a", "b"), rows[:2], rows[2:4], rows[4:])
    assert data.mean == (77 / 255,)
    assert data.std == (1.0,)


def test_moments_are_exact_for_the_largest_values():
    images = np.full((2, 300, 300, 3), 255, dtype=np.uint8)
    assert np.all(moments(images) == [300 * 300 * 255, 300 * 300 * 255**2])


# Arguments


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 0),
        ("resolution", -8),
        ("resolution", 100_000),
        ("subset", 0),
        ("subset", 1.5),
        ("subset", float("nan")),
        ("validation", 0),
        ("validation", 1),
        ("validation", float("nan")),
        ("test", -0.1),
        ("test", 1.0),
        ("split_seed", -1),
    ],
)
def test_argument_out_of_range_is_refused_by_name(tmp_path, field, value):
    with pytest.raises(BadInputError) as raised:
        load(DataSpec("digits", **{field: value}), cache=tmp_path)
    assert (raised.value.field, raised.value.value) == (field, value)
    assert names_in(tmp_path) == set()


def test_an_unknown_source_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(BadInputError) as raised:
        load(DataSpec("CIFAR-10"), cache=tmp_path)
    assert str(raised.value) == (
        "data = CIFAR-10: there is no such data set; did you mean cifar10? Otherwise use one of "
        "digits, cifar10, cifar100, mnist, fashion-mnist, svhn, images:PATH, "
        "csv:PATH, module:function"
    )


def test_path_given_as_source_is_refused_with_its_prefix(tmp_path, small):
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(str(small)), cache=tmp_path)
    assert raised.value.remedy == f"for your own images write images:{small}"


def test_source_unlike_all_others_is_refused_with_the_list(tmp_path):
    with pytest.raises(BadInputError, match="use one of digits, cifar10") as raised:
        load(DataSpec("?" * 5000 + "\0"), cache=tmp_path)
    assert "did you mean" not in str(raised.value)


# Splits do not depend on decoding


def test_other_splits_and_subsets_use_the_decoded_set(tmp_path, small):
    cache = tmp_path / "cache"
    load(DataSpec(f"images:{small}"), cache=cache)
    calls = Calls()
    for arguments in ({"subset": 0.5}, {"split_seed": 1}, {"validation": 0.3}, {"test": 0.4}):
        load(DataSpec(f"images:{small}", **arguments), cache=cache, progress=calls)
    assert calls.seen == []


def test_the_split_of_the_digits_is_pinned(tmp_path):
    data = load(DataSpec("digits", validation=0.1, test=0.1), cache=tmp_path)
    assert data.test[:8].tolist() == [2, 3, 11, 13, 20, 48, 53, 59]
    assert data.validation[:8].tolist() == [15, 21, 32, 55, 62, 66, 69, 88]


# Progress


@pytest.mark.parametrize("archive", ["small", "large"])
def test_progress_counts_up_to_the_total(tmp_path, request, archive):
    calls = Calls()
    place = request.getfixturevalue(archive)
    data = load(DataSpec(f"images:{place}"), cache=tmp_path / "cache", progress=calls)
    first, *rest = calls.seen
    assert first == (0, None)
    assert {total for _, total in rest} == {len(data.images)}
    counts = [done for done, _ in rest]
    assert counts == sorted(set(counts))
    assert counts[-1] == len(data.images)


def test_interruption_leaves_no_files(tmp_path, large):
    def interrupt(done: int, _total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        load(DataSpec(f"images:{large}"), cache=cache, progress=interrupt)
    assert names_in(cache) == set()
    assert len(load(DataSpec(f"images:{large}"), cache=cache).images) == 3000


# The cache


def decoded_again(place: Path, cache: Path, resolution: int | None = None) -> bool:
    calls = Calls()
    load(DataSpec(f"images:{place}", resolution), cache=cache, progress=calls)
    return calls.seen != []


def test_cached_set_is_not_decoded_again(tmp_path, small):
    cache = tmp_path / "cache"
    first = load(DataSpec(f"images:{small}"), cache=cache)
    calls = Calls()
    second = load(DataSpec(f"images:{small}"), cache=cache, progress=calls)
    assert calls.seen == []
    assert second.images.filename == first.images.filename
    assert np.array_equal(second.train, first.train)
    assert second.mean == first.mean


def test_notes_of_a_source_are_kept_with_the_cached_set(tmp_path, small, monkeypatch):
    listing = ImageArchive.listing
    monkeypatch.setattr(
        ImageArchive, "listing", lambda self: replace(listing(self), notes=("2 files left out",))
    )
    cache = tmp_path / "cache"
    for _ in range(2):
        assert "2 files left out" in load(DataSpec(f"images:{small}"), cache=cache).notes
    assert not decoded_again(small, cache)


def test_each_resolution_is_decoded_once(tmp_path, small):
    cache = tmp_path / "cache"
    assert decoded_again(small, cache, 4)
    assert decoded_again(small, cache, 5)
    assert not decoded_again(small, cache, 4)


def test_changed_archive_is_decoded_again(tmp_path, small):
    cache = tmp_path / "cache"
    load(DataSpec(f"images:{small}"), cache=cache)
    write_tar(small, 11)
    assert decoded_again(small, cache)
    status = small.stat()
    os.utime(small, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert decoded_again(small, cache)


def folder_of(archive: Path) -> Path:
    place = archive.with_suffix("")
    with tarfile.open(archive) as file:
        file.extractall(place, filter="data")
    return place


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image more": lambda place: (place / "shade040/more.png").write_bytes(png(1)),
    "an image less": lambda place: (place / "shade040/00000.png").unlink(),
    "other content": lambda place: (place / "shade040/00000.png").write_bytes(png(1) + b"\0"),
    "other time": lambda place: os.utime(place / "shade040/00000.png", ns=(0, 1)),
    "other name": lambda place: (place / "shade040").rename(place / "shade041"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_folder_is_decoded_again(tmp_path, small, change):
    place, cache = folder_of(small), tmp_path / "cache"
    load(DataSpec(f"images:{place}"), cache=cache)
    assert not decoded_again(place, cache)
    CHANGES[change](place)
    assert decoded_again(place, cache)


def test_new_empty_class_folder_is_noticed(tmp_path, small):
    place, cache = folder_of(small), tmp_path / "cache"
    load(DataSpec(f"images:{place}"), cache=cache)
    (place / "shade999").mkdir()
    with pytest.raises(BadInputError, match="the class folder shade999 has no images"):
        load(DataSpec(f"images:{place}"), cache=cache)


def test_changed_files_other_than_images_are_ignored(tmp_path, small):
    place, cache = folder_of(small), tmp_path / "cache"
    load(DataSpec(f"images:{place}"), cache=cache)
    (place / "notes.txt").write_text("seen")
    assert not decoded_again(place, cache)


@pytest.mark.parametrize(
    "name",
    ["images.npy", "moments.npy", "digests.npy", "labels.npy", "names.npy", "facts.json"],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "half"])
def test_damaged_cache_is_rebuilt(tmp_path, small, name, damage):
    cache = tmp_path / "cache"
    load(DataSpec(f"images:{small}"), cache=cache)
    path = next(cache.rglob(name))
    size = path.stat().st_size
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "empty" else size // 2)
    assert decoded_again(small, cache)
    assert path.stat().st_size == size


def test_the_cache_folder_can_be_set_in_the_environment(tmp_path, small, monkeypatch):
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "elsewhere"))
    load(DataSpec(f"images:{small}"))
    assert "images.npy" in names_in(tmp_path / "elsewhere")


def test_cache_folder_belongs_to_the_user_by_default(tmp_path, small, monkeypatch):
    monkeypatch.delenv("BORDERLINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    load(DataSpec(f"images:{small}"))
    assert "images.npy" in names_in(platformdirs.user_cache_path("borderline"))


def test_unusable_cache_folder_is_refused_with_variable_to_set(tmp_path, small):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(f"images:{small}"), cache=tmp_path / "file/cache")
    assert str(raised.value) == (
        f"BORDERLINE_CACHE = {tmp_path / 'file/cache'}: the cache folder cannot be used "
        "(Not a directory); set BORDERLINE_CACHE to a folder that can be written and has room"
    )


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Let the kernel refuse files above 50 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files_only")
def test_full_disk_is_one_error_and_leaves_no_files(tmp_path, small):
    cache = tmp_path / "cache"
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(f"images:{small}", 64), cache=cache)
    assert (raised.value.field, raised.value.value) == ("BORDERLINE_CACHE", cache)
    assert "the cache folder cannot be used (File too large)" in str(raised.value)
    assert names_in(cache) == set()


def test_disk_with_too_little_room_is_refused_first(tmp_path, small, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10_000))
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(f"images:{small}", 2000), cache=tmp_path / "cache")
    assert raised.value.problem == "the decoded images need 0.1 GB, and 0.0 GB are free"
    assert names_in(tmp_path / "cache") == set()


# Several processes


DECODING_PAUSES = """
import sys, time
from pathlib import Path
from trainables.data import load
from trainables.specs import DataSpec

source, cache, release = sys.argv[1:]

def pause(done, total):
    if done and not Path(release).exists():
        print("decoding", flush=True)
        while not Path(release).exists():
            time.sleep(0.01)

print("asking", flush=True)
told = []
report = lambda *call: (told.append(call), pause(*call))
data = load(DataSpec(source), cache=Path(cache), progress=report)
print("decoded" if told else "cached", len(data.images), flush=True)
"""


class Loader:
    """Another process that loads, and pauses in the middle of decoding until released."""

    def __init__(self, source: Path, cache: Path, release: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DECODING_PAUSES, f"images:{source}", str(cache), str(release)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def loader(tmp_path: Path, large: Path) -> Iterator[Callable[[], Loader]]:
    started: list[Loader] = []

    def start() -> Loader:
        started.append(Loader(large, tmp_path / "cache", tmp_path / "release"))
        assert started[-1].says() == "asking"
        return started[-1]

    yield start
    for process in started:
        process.end()


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited 30 s in vain")


def test_one_of_two_concurrent_processes_decodes(tmp_path, loader):
    first = loader()
    assert first.says() == "decoding"
    second = loader()
    (tmp_path / "release").touch()
    assert first.says() == "decoded 3000"
    assert second.says() == "cached 3000"


def test_killed_process_leaves_the_cache_usable(tmp_path, large, loader):
    cache = tmp_path / "cache"
    killed = loader()
    assert killed.says() == "decoding"
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert len(load(DataSpec(f"images:{large}"), cache=cache).images) == 3000
    assert [path.suffix for path in (cache / "decoded").iterdir()] == [""]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds child processes in /proc")
def test_decoding_processes_end_with_their_killed_parent(loader):
    killed = loader()
    assert killed.says() == "decoding"
    workers = killed.children()
    assert workers
    killed.process.send_signal(signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in workers))


def test_waiting_process_takes_over_from_killed_one(tmp_path, loader):
    killed = loader()
    assert killed.says() == "decoding"
    waiting = loader()
    killed.process.send_signal(signal.SIGKILL)
    assert waiting.says() == "decoding"
    (tmp_path / "release").touch()
    assert waiting.says() == "decoded 3000"
    assert names_in(tmp_path / "cache") == {
        "images.npy",
        "moments.npy",
        "digests.npy",
        "labels.npy",
        "splits.npy",
        "names.npy",
        "similar.npy",
        "facts.json",
    }


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds child processes in /proc")
def test_dead_decoding_process_is_reported_with_its_images(monkeypatch):
    original = decode_pool._Worker.hand

    def hand_and_kill(worker: decode_pool._Worker, chunk: Chunk) -> None:
        worker._process.kill()
        original(worker, chunk)

    monkeypatch.setattr(decode_pool._Worker, "hand", hand_and_kill)
    chunk = Chunk((0, 1), ("cat/0.png", "cat/1.png"), (png(1), png(2)), (6, 6), fit=False)
    with pytest.raises(UnusableDataError) as raised:
        list(decode_pool.decode_in_parallel([chunk], workers=1))
    assert raised.value.problem == (
        "the process decoding the images cat/0.png to cat/1.png died (code -9)"
    )


def test_result_is_independent_of_the_number_of_processes(tmp_path, large, monkeypatch):
    parallel = load(DataSpec(f"images:{large}", 5), cache=tmp_path / "parallel")
    monkeypatch.setattr(image_store, "FEW_IMAGES", 10**6)
    alone = load(DataSpec(f"images:{large}", 5), cache=tmp_path / "alone")
    assert np.array_equal(parallel.images, alone.images)
    assert np.array_equal(parallel.moments, alone.moments)
    assert np.array_equal(parallel.digests, alone.digests)
    assert np.array_equal(parallel.labels, alone.labels)


def test_chunks_are_read_only_as_processes_become_free():
    drawn = 0

    def chunks() -> Iterator[Chunk]:
        nonlocal drawn
        for row in range(40):
            drawn += 1
            yield Chunk((row,), (f"{row}.png",), (png(row),), (6, 6), fit=False)

    for finished, _ in enumerate(decode_pool.decode_in_parallel(chunks(), workers=3), start=1):
        assert drawn <= finished + 3 + 1
    assert drawn == finished == 40


def test_bad_image_is_named_and_no_process_is_left(tmp_path, large):
    with tarfile.open(large, "a") as archive:
        info = tarfile.TarInfo("shade200/bad.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"bad"))
    with pytest.raises(BadInputError, match=r"the image shade200/bad\.png cannot be read"):
        load(DataSpec(f"images:{large}"), cache=tmp_path / "cache")
    assert names_in(tmp_path / "cache") == set()
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children")
    if children.exists():
        commands = [Path(f"/proc/{p}/cmdline").read_text() for p in children.read_text().split()]
        assert not any("trainables.images.decoding" in command for command in commands)


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_script_without_main_guard_can_load(tmp_path, large):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from trainables.data import load\n"
        "from trainables.specs import DataSpec\n"
        "print('once')\n"
        f"print(load(DataSpec('images:{large}'), cache=Path('{tmp_path / 'cache'}')))\n"
    )
    first, second = run_python(str(script)).splitlines()
    assert first == "once"
    assert second.startswith("Dataset(2 classes of 6x6x1")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(run_python("-c", code).split())


def test_importing_the_module_does_not_import_torch():
    modules = modules_after("import trainables.data")
    assert "numpy" in modules
    assert not modules & {"torch", "torchvision", "sklearn", "ray", "mlflow"}


def test_decoding_process_imports_only_numpy_and_pillow():
    modules = modules_after("import trainables.images.decoding")
    assert {"numpy", "PIL"} <= modules
    assert not modules & {"torch", "torchvision", "sklearn", "ray", "optuna", "spaces"}


# Data sets that torchvision downloads


def unreachable(*_: object, **__: object) -> None:
    raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))


def gives_up(*_: object, **__: object) -> None:
    raise RuntimeError("Error downloading train.gz:\nTried https://x, got:\n<urlopen error>\n")


@pytest.mark.parametrize("failure", [unreachable, gives_up])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cifar10", "CIFAR10"),
        ("cifar100", "CIFAR100"),
        ("mnist", "MNIST"),
        ("fashion-mnist", "FashionMNIST"),
        ("svhn", "SVHN"),
    ],
)
def test_failed_download_is_one_plain_error(tmp_path, monkeypatch, name, kind, failure):
    monkeypatch.setattr(f"torchvision.datasets.{kind}", failure)
    with pytest.raises(BadInputError) as raised:
        load(DataSpec(name), cache=tmp_path)
    assert raised.value.field == "data"
    assert str(raised.value).startswith(f"data = {name}: the data set {name} could not be down")
    assert "check the network, or give images you have as images:PATH" in str(raised.value)
    assert str(raised.value).isprintable()
    assert names_in(tmp_path) == set()


class Cifar:
    """Stands in for torchvision's CIFAR classes."""

    classes = ("airplane", "frog")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        assert download
        root.mkdir(parents=True, exist_ok=True)
        count = 20 if train else 6
        self.data = np.arange(count * 32 * 32 * 3).reshape(count, 32, 32, 3).astype(np.uint8)
        self.targets = [number % 2 for number in range(count)]


class Mnist:
    """Stands in for torchvision's MNIST classes."""

    classes = ("0 - zero", "1 - one")

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        assert download
        count = 20 if train else 6
        self.data = torch.arange(count * 28 * 28).reshape(count, 28, 28).to(torch.uint8)
        self.targets = torch.arange(count) % 2


class Svhn:
    """Stands in for torchvision's SVHN class."""

    def __init__(self, root: Path, split: str, download: bool) -> None:
        assert download
        count = {"train": 40, "test": 10}[split]
        self.data = np.zeros((count, 3, 32, 32), dtype=np.uint8)
        self.data[:, 2] = 255
        self.labels = np.arange(count) % 10


def test_cifar_matches_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Cifar)
    data = load(DataSpec("cifar10", validation=0.1), cache=tmp_path)
    assert data.classes == ("airplane", "frog")
    assert data.shape == (32, 32, 3)
    assert [len(data.train), len(data.validation), len(data.test)] == [18, 2, 6]
    assert data.test.tolist() == list(range(20, 26))
    assert np.array_equal(data.images[:20], Cifar(tmp_path, train=True, download=True).data)
    assert data.labels.tolist() == [number % 2 for number in (*range(20), *range(6))]


def test_mnist_has_one_channel_and_plain_class_names(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.MNIST", Mnist)
    data = load(DataSpec("mnist"), cache=tmp_path)
    assert data.classes == ("0", "1")
    assert data.shape == (28, 28, 1)
    expected = Mnist(tmp_path, train=False, download=True).data.numpy()
    assert np.array_equal(data.images[20:, :, :, 0], expected)


def test_svhn_has_its_channels_last(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.SVHN", Svhn)
    data = load(DataSpec("svhn"), cache=tmp_path)
    assert data.classes == tuple("0123456789")
    assert np.all(data.images == (0, 0, 255))
    assert len(data.test) == 10


def test_downloaded_set_loads_without_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Cifar)
    load(DataSpec("cifar10"), cache=tmp_path)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", unreachable)
    assert len(load(DataSpec("cifar10"), cache=tmp_path).images) == 26


# Real archives


def shared_archive(name: str) -> pytest.MarkDecorator:
    place = SHARED_DATA / name
    return pytest.mark.skipif(not place.exists(), reason=f"needs shared/data/{name}")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoded")


@pytest.mark.needs_data
@shared_archive("cifar10-images.tar.xz")
def test_cifar10_archive_matches_published_statistics(shared_cache):
    source = f"images:{SHARED_DATA / 'cifar10-images.tar.xz'}"
    data = load(DataSpec(source, validation=0.1), cache=shared_cache)
    assert data.images.shape == (60_000, 32, 32, 3)
    assert len(data.classes) == 10
    assert data.classes[:2] == ("airplane", "automobile")
    assert [len(data.train), len(data.validation), len(data.test)] == [45_000, 5_000, 10_000]
    assert set(np.bincount(data.labels[data.train])) == {4500}
    assert set(np.bincount(data.labels[data.test])) == {1000}
    # Published statistics of the training images.
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.002)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.003)
    calls = Calls()
    tenth_of = DataSpec(source, subset=0.1, validation=0.1, split_seed=5)
    tenth = load(tenth_of, cache=shared_cache, progress=calls)
    assert [len(tenth.train), len(tenth.validation), len(tenth.test)] == [4500, 500, 1000]
    assert calls.seen == []


@pytest.mark.needs_data
@shared_archive("mnist-images.tar.xz")
def test_mnist_archive_matches_published_statistics(shared_cache):
    source = f"images:{SHARED_DATA / 'mnist-images.tar.xz'}"
    data = load(DataSpec(source, validation=0.1), cache=shared_cache)
    assert data.images.shape == (70_000, 28, 28, 1)
    assert data.classes == tuple("0123456789")
    assert [len(data.train), len(data.validation), len(data.test)] == [54_000, 6_000, 10_000]
    assert data.mean == pytest.approx((0.1307,), abs=0.002)
    assert data.std == pytest.approx((0.3081,), abs=0.002)


def test_folds_hold_each_training_image_out_once_per_repetition(tmp_path):
    data = load(DataSpec("digits", validation=Folds(5, 2), test=0.1), cache=tmp_path)
    assert repr(data).endswith("1618 train, validation by folds=5x2, 179 test)")
    assert len(data.parts) == 10
    for repetition in (data.parts[:5], data.parts[5:]):
        held_out = np.concatenate([part.validation for part in repetition])
        assert np.array_equal(np.sort(held_out), data.train)
        for part in repetition:
            rows = np.concatenate([part.train, part.validation])
            assert np.array_equal(np.sort(rows), data.train)
            assert np.array_equal(part.test, data.test)
    assert data.training_images == min(len(part.train) for part in data.parts) == 1294
    assert data.finalist_part(13) is data.parts[3]
    assert data.notes[0].endswith(": test is drawn from train")
    assert data.notes[1] == (
        "validation by folds=5x2: each of the 1,618 training images is held out 2 times; each "
        "trial trains 10 networks, so the search costs about 10 times as much"
    )


def test_folds_belong_to_the_identity_of_data(tmp_path):
    def identify(validation, seed=0):
        spec = DataSpec("digits", validation=validation, split_seed=seed)
        return load(spec, cache=tmp_path).identify(spec.decoding)

    split, five, again, twice = map(identify, (0.15, Folds(5), Folds(5), Folds(5, 2)))
    assert five == again == DataIdentity.from_json(five.to_json())
    assert five.difference(again) == []
    assert five.difference(twice) == ["validation by folds=5x2 instead of folds=5"]
    assert "validation by folds=5 instead of a split" in split.difference(five)
    assert (split.validation_images, five.validation_images, twice.validation_images) == (
        *(229, 1528, 1528),
    )
    assert five.finalist_validation_images([1, 2, 6]) == 1528 * 2 // 5
    assert split.finalist_validation_images([1, 2, 6]) == 229
    assert "validation by folds=5, " in five.describe()
    # Digests of data without folds must not depend on this feature.
    assert "folds" not in split.to_json()
    moved = replace(five, folds=replace(five.folds, digest="other"))
    assert five.difference(moved) == ["the same images in other folds"]


def test_folds_keep_exact_copies_together(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number, image in enumerate([*images[label::2], *images[label::2]]):
            Image.fromarray(image).save(folder / f"{number:02}.png")
    data = load(
        DataSpec(f"images:{tmp_path}/images", validation=Folds(3)), cache=tmp_path / "cache"
    )
    for part in data.parts:
        assert not set(data.digests[part.train]) & set(data.digests[part.validation])


def test_folds_beside_a_validation_split_are_refused(tmp_path):
    listed = DataSpec("digits", validation=Folds(5), validation_list="held_out.txt")
    with pytest.raises(BadInputError, match="validation is folds=5, which holds every training"):
        load(listed, cache=tmp_path)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                pixels = np.full((4, 4), number * 20 + len(split + name), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    spec = DataSpec(f"images:{tmp_path}/images", validation=Folds(5))
    with pytest.raises(BadInputError, match="validation = folds=5: the data has a validation spl"):
        load(spec, cache=tmp_path / "cache")
