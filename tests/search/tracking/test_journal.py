"""The journal of a search: writing and reading, also after crashes."""

import errno
import json
import math
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.tracking import journal
from search.tracking.journal import Journal
from search.tracking.journal_events import (
    PARENT,
    Close,
    Event,
    Finish,
    Metrics,
    Open,
    Retrain,
    Start,
    Update,
    decode,
    encode,
)
from search.tracking.journal_reader import (
    ended,
    read,
    worked_seconds,
)

names = st.text(max_size=8)
times = st.integers(0, 2**53)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names
texts = st.dictionaries(names, names, max_size=3)
finite = scalars.filter(lambda value: not isinstance(value, float) or math.isfinite(value))
events = st.one_of(
    st.builds(Open, times),
    st.builds(Start, names, times, names, st.dictionaries(names, finite, max_size=3), texts, texts),
    st.builds(
        Metrics,
        names,
        times,
        st.integers(0, 2**62),
        st.dictionaries(names, st.floats(), max_size=3),
    ),
    st.builds(Update, names, times, texts, texts),
    st.builds(Finish, names, times, st.sampled_from(["FINISHED", "FAILED", "KILLED"])),
    st.builds(Retrain, times),
    st.builds(Close, times),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal") / "journal.jsonl"


def without_sessions(path: Path) -> list[Event]:
    return [event for event in read(path)[0] if not isinstance(event, Open | Close)]


@given(st.lists(events))
def test_events_are_read_as_written(scratch: Path, written: list[Event]) -> None:
    scratch.write_bytes(b"".join(encode(event) for event in written))

    found, end = read(scratch)

    # repr: NaN equals nothing, itself included.
    assert repr(found) == repr(written)
    assert end == scratch.stat().st_size


@given(st.lists(events, min_size=1), st.data())
def test_truncation_loses_only_later_events(
    scratch: Path, written: list[Event], data: st.DataObject
) -> None:
    lines = [encode(event) for event in written]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    scratch.write_bytes(whole[:cut])

    found, end = read(scratch)

    kept = [event for n, event in enumerate(written) if len(b"".join(lines[: n + 1])) <= cut]
    assert repr(found) == repr(kept)
    assert end == len(b"".join(lines[: len(kept)]))


@given(st.lists(events), st.binary(max_size=40), st.booleans())
def test_event_is_never_appended_to_torn_line(
    scratch: Path, written: list[Event], torn: bytes, newline: bool
) -> None:
    whole = b"".join(encode(event) for event in written)
    torn = b"\xff" + torn.replace(b"\n", b"") + (b"\n" if newline else b"")
    scratch.write_bytes(whole + torn)

    with Journal(scratch) as opened:
        opened.finish("7", "FINISHED", time=5)

    assert scratch.read_bytes().startswith(whole + b'{"event": "open"')
    assert repr(read(scratch)[0][len(written) + 1]) == repr(Finish("7", 5, "FINISHED"))


@given(st.lists(events), st.integers(1, 200))
def test_reading_in_parts_returns_each_event_once(
    scratch: Path, written: list[Event], limit: int
) -> None:
    scratch.write_bytes(b"".join(encode(event) for event in written))

    found: list[Event] = []
    offset = 0
    while (step := read(scratch, offset, limit))[1] > offset:
        found += step[0]
        offset = step[1]

    assert repr(found) == repr(written)


def test_long_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as opened:
        opened.update(PARENT, artifacts={"report.html": "<p>" * 100_000}, time=1)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:250_000].replace(b"\n", b""))

    Journal(path).close()

    assert path.read_bytes().startswith(whole + b'{"event": "open"')


def test_torn_line_between_whole_lines_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(encode(Close(1)) + b'{"event": "fin\n' + encode(Close(2)))

    assert read(path) == ([Close(1), Close(2)], path.stat().st_size)


def test_events_and_fields_of_later_versions_are_skipped() -> None:
    assert decode(b'{"event": "cheer", "time": 3}') is None
    assert decode(b'{"event": "close", "time": 3, "mood": "good"}') == Close(3)
    assert decode(b'{"event": "close"}') is None
    assert decode(b'{"event": "metrics", "run": "", "time": 3, "step": 0, "metrics": 5}') is None


def test_every_line_is_strict_json_also_for_nan_and_infinity(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as opened:
        opened.metrics("7", 3, {"loss": math.nan, "up": math.inf, "down": -math.inf}, time=1)
        opened.start("8", "trial 8", params={"rate": math.inf, "shape": (3, 4)}, time=2)

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    reported, started = without_sessions(path)
    assert isinstance(reported, Metrics)
    assert repr(dict(reported.metrics)) == "{'loss': nan, 'up': inf, 'down': -inf}"
    assert isinstance(started, Start)
    assert started.params == {"rate": "inf", "shape": "(3, 4)"}


def test_events_carry_time_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal.clock, "time_ns", lambda: 1_700_000_000_123_456_789)

    with Journal(tmp_path / "journal.jsonl") as opened:
        opened.finish("7", "KILLED")

    assert read(opened.path)[0] == [
        Open(1_700_000_000_123),
        Finish("7", 1_700_000_000_123, "KILLED"),
        Close(1_700_000_000_123),
    ]


def test_driver_time_excludes_pauses_and_finalists(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    assert worked_seconds(path) == 0
    killed = [Open(1_000), Metrics("0", 11_000, 1, {})]
    whole = [Open(500_000), Retrain(520_000), Finish("finalist-0", 900_000, "FINISHED")]
    last = [Close(901_000), Open(950_000), Metrics("1", 955_000, 1, {})]
    path.write_bytes(b"".join(map(encode, [*killed, *whole, *last])))
    assert worked_seconds(path) == 10 + 20 + 5


def test_journal_has_ended_between_two_drivers(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "quickstart" / "journal.jsonl"
    assert not ended(path)

    first = Journal(path)
    assert not ended(path)
    first.update(PARENT, artifacts={"report.html": "x" * 5000})
    assert not ended(path)
    first.close()
    first.close()
    assert ended(path)
    assert [type(event) for event in read(path)[0]] == [Open, Update, Close]

    second = Journal(path)
    assert not ended(path)
    second.close()
    assert ended(path)

    path.write_bytes(path.read_bytes()[:-1])
    assert not ended(path)


def test_absent_journal_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "journal.jsonl", 0) == ([], 0)


def test_full_disk_raises_and_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Journal(tmp_path / "journal.jsonl")
    opened.finish("7", "FINISHED", time=1)
    before = opened.path.read_bytes()
    write = os.write
    left = 20

    def write_until_full(file: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[:left])
        left -= done
        return done

    with monkeypatch.context() as full:
        full.setattr(os, "write", write_until_full)
        with pytest.raises(OSError, match="No space left on device"):
            opened.finish("8", "FINISHED", time=2)
    assert opened.path.read_bytes() == before

    opened.finish("9", "FINISHED", time=3)
    opened.close()
    assert without_sessions(opened.path) == [Finish("7", 1, "FINISHED"), Finish("9", 3, "FINISHED")]


def test_closed_journal_refuses_events(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "journal.jsonl")
    opened.close()

    with pytest.raises(ValueError, match="is closed"):
        opened.finish("7", "FINISHED")


def test_threads_can_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as opened:
        threads = [
            threading.Thread(
                target=lambda run=run: [opened.finish(run, "FINISHED", time=n) for n in range(50)]
            )
            for run in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = without_sessions(opened.path)
    assert len(found) == 200
    for run in "abcd":
        mine = [event.time for event in found if isinstance(event, Finish) and event.run == run]
        assert mine == list(range(50))
