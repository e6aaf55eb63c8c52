"""Weights from files: state dicts and safetensors load, everything else is one line."""

from __future__ import annotations

import io

import pytest
import torch
from safetensors.torch import save
from torch import nn

from spaces.errors import BadInputError
from trainables.probes.trained import load_state, read_state


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


def test_weights_that_do_not_fit_are_refused() -> None:
    network = nn.Conv2d(1, 2, 3)
    with pytest.raises(
        BadInputError, match=r"1 are missing, such as bias; 1 are unknown, such as x"
    ):
        load_state(network, {"weight": network.weight, "x": network.weight}, "net")
    other = {"weight": torch.zeros(2, 1, 5, 5), "bias": torch.zeros(2)}
    with pytest.raises(BadInputError, match=r"weight has \[2, 1, 5, 5\] instead of \[2, 1, 3, 3\]"):
        load_state(network, other, "net")
