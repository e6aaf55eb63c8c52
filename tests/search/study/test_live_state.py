"""The state that a running search tells other processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.study.live_state import LiveState

STATE = LiveState(1000.0, False, 90.0, 2, 16.0, 8.0, 0.0, 0.0)


def test_time_left_goes_on_after_the_state_was_written(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    STATE.write(path)
    found = LiveState.read(path, now=1020.0)
    assert found is not None
    assert found.seconds_left == 70.0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"nodes": 1}'])
def test_damaged_state_says_nothing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    path.write_text(text)
    assert LiveState.read(path) is None


def test_old_state_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "live.json"
    STATE.write(path)
    assert LiveState.read(path, now=1061.0) is None
    assert LiveState.read(tmp_path / "absent.json") is None


def test_devices_are_gpus_where_there_are_any() -> None:
    assert STATE.devices == "2 nodes, 8 of 16 CPUs in use"
    gpus = LiveState(0.0, False, None, 1, 16.0, 8.0, 4.0, 2.5)
    assert gpus.devices == "1 node, 2.5 of 4 GPUs in use"
