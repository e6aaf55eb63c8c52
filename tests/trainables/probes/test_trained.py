"""Weights from files: state dicts and safetensors load, everything else is one line."""

from __future__ import annotations

import io
import pickle
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from safetensors.torch import save
from torch import nn

from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.probes import trained
from trainables.probes.trained import load_state, read_state, train_again
from trainables.specs import TrainingSpec


def saved(value: object) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def test_state_dicts_checkpoints_and_safetensors_are_read() -> None:
    state = nn.Conv2d(1, 2, 3).state_dict()
    for content, name in (
        (saved(state), "a.pt"),
        (saved({"epoch": 3, "state_dict": state}), "a.pt"),
        (save(dict(state)), "a.safetensors"),
    ):
        found = read_state(content, name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_files_without_weights_are_refused() -> None:
    with pytest.raises(BadInputError, match="holds no state_dict"):
        read_state(saved({"epoch": 3}), "a.pt")
    with pytest.raises(BadInputError, match="cannot be read as weights"):
        read_state(b"nothing", "a.safetensors")
    # A whole module would run code when it is read.
    with pytest.raises(BadInputError, match="cannot be read as weights"):
        read_state(saved(nn.Linear(1, 1)), "a.pt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\x1b[31mgarbage", "it is neither a file of torch.save nor of safetensors"),
        (pickle.dumps({"epoch": 3}, protocol=4), "it is neither a file of torch.save"),
        (
            saved(nn.Linear(1, 1)),
            "a pickle of torch.nn.modules.linear.Linear, which would run code",
        ),
    ],
)
def test_unreadable_weights_are_one_line_in_words(content: bytes, expected: str) -> None:
    with pytest.raises(BadInputError) as refused:
        read_state(content, "net.pt")
    line = str(refused.value)
    assert line.startswith("--weights = net.pt: cannot be read as weights")
    assert expected in line
    assert line.isprintable()


def test_trial_trains_again_with_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "prepare_process", torch.set_num_threads)
    seen: list[int] = []

    def start(spec: TrainingSpec, candidate: Candidate, seed: int) -> SimpleNamespace:
        return SimpleNamespace(run_epoch=lambda: seen.append(torch.get_num_threads()) or seed)

    monkeypatch.setattr(trained, "start_finalist", start)
    spec = SimpleNamespace(threads=3, candidates=lambda: SimpleNamespace(rebuild=lambda *_: None))
    before = torch.get_num_threads()
    _, last = train_again(cast("TrainingSpec", spec), {}, "", 5, epochs=2)
    assert seen == [3, 3]
    assert last == 5
    assert torch.get_num_threads() == before


def test_weights_that_do_not_fit_are_refused() -> None:
    network = nn.Conv2d(1, 2, 3)
    with pytest.raises(
        BadInputError, match=r"1 are missing, such as bias; 1 are unknown, such as x"
    ):
        load_state(network, {"weight": network.weight, "x": network.weight}, "net")
    other = {"weight": torch.zeros(2, 1, 5, 5), "bias": torch.zeros(2)}
    with pytest.raises(
        BadInputError,
        match=r"^--weights = a.pt: .* weight has \[2, 1, 5, 5\] instead of \[2, 1, 3, 3\]",
    ):
        load_state(network, other, "net", "a.pt")
