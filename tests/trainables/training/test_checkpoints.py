"""Checkpoints: complete or absent, even if process, disk or files fail."""

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainables.training import checkpoints as module
from trainables.training.checkpoints import WRITING_FRACTION, Checkpoints

ROOT = Path(__file__).resolve().parents[3]


def state(epoch: int, size: int = 100) -> dict[str, object]:
    return {
        "epoch": epoch,
        "network": {"weight": torch.full((size,), float(epoch))},
        "history": [{"epoch": each, "accuracy": each / 10} for each in range(1, epoch + 1)],
    }


def epochs(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "7"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock by one that advances by ``clock.writing`` per written file."""
    clock = SimpleNamespace(now=100.0, writing=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    write = Path.write_bytes

    def slow(path: Path, data: bytes) -> int:
        clock.now += clock.writing
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    return clock


# Kept checkpoints


def test_saved_state_loads_in_another_process(folder: Path) -> None:
    Checkpoints(folder).save(3, 0.5, state(3))
    found = Checkpoints(folder).load()
    assert found is not None
    assert torch.equal(found["network"]["weight"], torch.full((100,), 3.0))
    assert (found["epoch"], found["history"]) == (3, state(3)["history"])


def test_load_without_checkpoint_creates_no_folder(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    assert checkpoints.load() is None
    assert not checkpoints.exist
    assert not folder.exists()
    checkpoints.save(1, 0.5, state(1))
    assert checkpoints.exist


@pytest.mark.parametrize(
    ("accuracies", "kept"),
    [
        ((0.1, 0.2, 0.3, 0.4), [3, 4]),
        ((0.1, 0.9, 0.3, 0.4), [2, 3, 4]),
        ((0.9, 0.8, 0.7, 0.6, 0.5), [1, 4, 5]),
        ((0.9, 0.1, 0.9, 0.1, 0.1), [3, 4, 5]),
        ((float("nan"), 0.1, float("nan"), 0.0), [2, 3, 4]),
        ((0.0, 1.0, 0.0, 0.0), [2, 3, 4]),
    ],
)
def test_last_two_and_best_are_kept(
    folder: Path, accuracies: tuple[float, ...], kept: list[int]
) -> None:
    checkpoints = Checkpoints(folder)
    for epoch, accuracy in enumerate(accuracies, start=1):
        checkpoints.save(epoch, accuracy, state(epoch))
    assert epochs(folder) == kept
    found = Checkpoints(folder).load()
    assert found is not None
    assert found["epoch"] == len(accuracies)


def test_saved_epoch_is_not_written_again(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, 0.5, state(1))
    (written,) = folder.iterdir()
    before = written.stat()
    checkpoints.save(1, 0.5, state(1))
    again = Checkpoints(folder)
    again.load()
    again.save(1, 0.5, state(1))
    assert list(folder.iterdir()) == [written]
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


# Frequency


def test_fast_checkpoints_are_written_after_every_epoch(
    folder: Path, clock: SimpleNamespace
) -> None:
    checkpoints = Checkpoints(folder)
    for epoch in range(1, 5):
        clock.now += 0.001
        checkpoints.offer(epoch, 0.1 * epoch, state(epoch))
        assert epochs(folder)[-1] == epoch


def test_slow_checkpoints_take_a_small_fraction_of_the_time(
    folder: Path, clock: SimpleNamespace
) -> None:
    checkpoints = Checkpoints(folder)
    clock.writing = 2.0
    began, written = clock.now, []
    for epoch in range(1, 201):
        clock.now += 3.0
        before = clock.now
        checkpoints.offer(epoch, 0.5, state(epoch))
        if clock.now > before:
            written.append(epoch)
    assert written[0] == 1
    assert len(written) * clock.writing / (clock.now - began) <= WRITING_FRACTION * 1.1
    # Not less often either: at most half a minute is lost.
    assert max(b - a for a, b in itertools.pairwise(written)) * 3.0 <= (
        clock.writing / WRITING_FRACTION + 3.0
    )


def test_save_writes_regardless_of_the_last_write(folder: Path, clock: SimpleNamespace) -> None:
    checkpoints = Checkpoints(folder)
    clock.writing = 1000.0
    checkpoints.offer(1, 0.5, state(1))
    checkpoints.offer(2, 0.5, state(2))
    assert epochs(folder) == [1]
    checkpoints.save(2, 0.5, state(2))
    assert epochs(folder) == [1, 2]


# Damaged files


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [torn, emptied, flipped, lengthened, a_folder])
def test_damaged_file_falls_back_to_the_previous_one(folder: Path, spoil) -> None:
    checkpoints = Checkpoints(folder)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, 0.1 * epoch, state(epoch))
    spoil(max(folder.iterdir()))
    later = Checkpoints(folder)
    found = later.load()
    assert found is not None
    assert found["epoch"] == 2
    # The epoch is trained again and can be saved again.
    if spoil is not a_folder:
        later.save(3, 0.3, state(3))
        found = Checkpoints(folder).load()
        assert found is not None
        assert found["epoch"] == 3


def test_load_returns_none_if_every_file_is_damaged(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    for epoch in (1, 2):
        checkpoints.save(epoch, 0.5, state(epoch))
    for path in folder.iterdir():
        torn(path)
    assert Checkpoints(folder).load() is None


def test_every_flipped_byte_of_a_small_file_is_detected(folder: Path) -> None:
    Checkpoints(folder).save(1, 0.5, {"epoch": 1})
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert Checkpoints(folder).load() is None
    path.write_bytes(whole)
    assert Checkpoints(folder).load() == {"epoch": 1}


def test_other_files_beside_the_checkpoints_are_ignored(folder: Path) -> None:
    folder.mkdir(parents=True)
    beside = ["notes.txt", ".123.part", "epoch-00009-accuracy-0.500000-nothing.pt", "epoch-9.pt"]
    for name in beside:
        (folder / name).write_bytes(b"x")
    checkpoints = Checkpoints(folder)
    assert checkpoints.load() is None
    for epoch in range(1, 5):
        checkpoints.save(epoch, 0.1 * epoch, state(epoch))
    assert {path.name for path in folder.iterdir()} > set(beside)
    found = Checkpoints(folder).load()
    assert found is not None
    assert found["epoch"] == 4


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_file_that_would_run_code_counts_as_damaged(folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, 0.5, state(1))
    # Its name contains the correct digest.
    checkpoints.save(2, 0.5, state(2) | {"network": Intruder(trace)})
    assert epochs(folder) == [1, 2]
    found = Checkpoints(folder).load()
    assert found is not None
    assert found["epoch"] == 1
    assert not trace.exists()


def test_gpu_tensors_load_on_a_machine_without_a_gpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        Checkpoints(folder).save(1, 0.5, state(1))
    found = Checkpoints(folder).load()
    assert found is not None
    assert found["network"]["weight"].device.type == "cpu"


# Failing disks and processes


@pytest.mark.parametrize("where", ["write_bytes", "replace", "mkdir"])
def test_full_disk_is_reported_and_keeps_old_checkpoints(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    checkpoints = Checkpoints(folder)
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, 0.5, state(epoch))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write = Path.write_bytes

    def full(path: Path, *arguments: object, **_: object) -> None:
        if where == "write_bytes":
            write(path, bytes(arguments[0])[:50])  # A partial write.
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, where, full)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(4, 0.9, state(4))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # Once space is free, the checkpoint is written.
    checkpoints.save(4, 0.9, state(4))
    found = Checkpoints(folder).load()
    assert found is not None
    assert found["epoch"] == 4


WRITER = """
import sys
from pathlib import Path
import torch
from trainables.training.checkpoints import Checkpoints

checkpoints = Checkpoints(Path(sys.argv[1]))
state = checkpoints.load() or {"epoch": 0}
epoch = state["epoch"]
while True:
    epoch += 1
    weight = torch.full((2_000_000,), float(epoch))
    checkpoints.save(epoch, 0.5, {"epoch": epoch, "weight": weight})
    print(epoch, flush=True)
"""


def test_killed_process_keeps_its_written_checkpoints(
    folder: Path,
) -> None:
    last = 0
    for wait in (1, 2, 3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(wait):
                told = int(writer.stdout.readline())
                assert told > last
                last = told
            # It spends nearly all its time writing.
            while not list(folder.glob(".*.part")):
                pass
            os.kill(writer.pid, signal.SIGKILL)
            last = max([last, *map(int, writer.stdout.read().split())])
        found = Checkpoints(folder).load()
        assert found is not None
        # A checkpoint may be written but not yet reported.
        assert found["epoch"] in (last, last + 1)
        assert torch.equal(found["weight"], torch.full((2_000_000,), float(found["epoch"])))
        last = found["epoch"]
