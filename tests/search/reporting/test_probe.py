"""The command `probe`, its table and its picture."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from optuna.trial import TrialState, create_trial
from rich.console import Console

from search.cli import main
from search.reporting.probe import ProbeRequest
from search.reporting.probe_table import describe_probes, show_probes
from search.reporting.rendering import as_markdown, print_report
from search.reporting.trained_networks import describe_difference
from search.study.probes import ProbeStore
from search.study.records import TrialRecord
from search.tracking.journal import Journal
from search.tracking.journal_events import Metrics
from search.tracking.journal_reader import read_all
from search.tracking.probe_events import is_of_probes, record_probes
from search.tracking.probe_plot import probe_plot
from trainables.epoch_metrics import EpochMetrics
from trainables.probes.records import LayerProbes, NetworkProbes, NormShare

FOUND = NetworkProbes(
    title="trial 3",
    weights="finalist with seed 1",
    split="test",
    images=200,
    training_images=500,
    resolution=(8, 8),
    rule="previous-conv",
    border=2,
    accuracy=0.9,
    layers=(
        LayerProbes("a", (3, 3), 8, (3, 3), (3, 3), True, 0.5, 0.6, 0.1, 0.2, "n", 0.25, 1.5),
        LayerProbes("b<", (1, 3), 4, (9, 9), (9, 9), False, 0.25, 0.7, 0.8, 0.9, "", None, 2.0),
    ),
    norms=(NormShare("n", 8, 2),),
    notes=("something is left out",),
)


def printed(probes: NetworkProbes) -> str:
    console = Console(file=io.StringIO(), width=160)
    show_probes(probes, console)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_table_shows_losses_against_the_baseline() -> None:
    out = printed(FOUND)
    assert "0.1000 (-80.0)" in out
    assert "0.9000 (+0.0)" in out
    assert "1 of 2 convolutions is trivial" in out
    assert "25.0% of 8 features of batch norms are disabled" in out
    assert "note: something is left out" in out


def test_picture_marks_the_border_and_leaves_out_missing_probes() -> None:
    drawn = ET.fromstring(probe_plot(FOUND))
    edges = [e for e in drawn.iter() if e.get("class") == "edge" and e.tag.endswith("line")]
    assert len(edges) == 3
    tails = [e for e in drawn.iter() if e.get("class") == "tail"]
    assert all(e.get("x") == edges[0].get("x1") for e in tails)
    titles = [e.text or "" for e in drawn.iter() if e.tag.endswith("title")]
    assert "b<: saturation 0.25" in titles
    plain = dataclasses.replace(
        FOUND, border=None, accuracy=None, layers=(LayerProbes("a", (3, 3), 8, saturation=1.0),)
    )
    drawn = ET.fromstring(probe_plot(plain))
    assert not [e for e in drawn.iter() if e.get("class") in ("edge", "base", "tail")]
    assert len([e for e in drawn.iter() if e.tag.endswith("polyline")]) == 1


def test_stored_probes_are_read_again_and_damaged_ones_left_out(tmp_path: Path) -> None:
    store = ProbeStore(tmp_path)
    for name in ("trial-10", "trial-3"):
        store.write(name, FOUND, probe_plot(FOUND))
    (tmp_path / "trial-4.json").write_text("{")
    assert list(store.all()) == [("trial-3", FOUND), ("trial-10", FOUND)]
    summary, *pictures = describe_probes(store.all())
    assert summary.files[:2] == ("probes/trial-3.svg", "probes/trial-3.json")
    assert len(pictures) == 2
    console = Console(width=200)
    with console.capture() as captured:
        print_report(console, [summary])
    assert "Files in the folder of the search: probes/trial-3.svg" in captured.get()
    assert "Files in the folder of the search: probes/trial-3.svg" in as_markdown("x", [summary])


def request(only: str | None) -> ProbeRequest:
    return ProbeRequest("s:3", 1000, only, None, None, None)


def bare(probes: NetworkProbes, **known: float) -> NetworkProbes:
    """Return probes of one kind alone, as a command with --only makes them."""
    layers = tuple(
        LayerProbes(each.name, each.kernel, each.channels, norm=each.norm, **known)
        for each in probes.layers
    )
    return dataclasses.replace(probes, layers=layers, norms=(), notes=("new",))


def test_only_replaces_the_probes_asked_for(tmp_path: Path) -> None:
    request(None).write(FOUND, "trial-3", tmp_path)
    stored = request("saturation").write(bare(FOUND, saturation=0.1), "trial-3", tmp_path)
    assert stored == ProbeStore(tmp_path).read("trial-3")
    assert [layer.saturation for layer in stored.layers] == [0.1, 0.1]
    assert stored.layers[1].zero_kernel_accuracy == 0.8
    assert stored.norms == FOUND.norms
    assert stored.notes == ("something is left out", "new")
    # An empty result replaces what was known, too.
    stored = request("disabled").write(bare(FOUND), "trial-3", tmp_path)
    assert stored.layers[0].disabled_features is None
    assert stored.norms == ()


@pytest.mark.parametrize(
    "other", [{"weights": "trained again"}, {"images": 100}, {"accuracy": 0.8}, {"split": "x"}]
)
def test_probes_of_other_weights_or_images_are_replaced_with_a_note(
    other: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request(None).write(FOUND, "trial-3", tmp_path)
    new = dataclasses.replace(bare(FOUND, saturation=0.1), **other)
    assert request("saturation").write(new, "trial-3", tmp_path) == new
    assert (
        "replaced: the stored probes of trial 3 (finalist with seed 1), measured on 200 test images"
    ) in capsys.readouterr().err


def test_other_accuracy_of_a_trial_trained_again_is_stated() -> None:
    epoch = EpochMetrics(2, 0.5, 0.5, 0.5, 0.4, 1.0)
    attributes = {"history": {"2": epoch.as_dict()}}
    trial = TrialRecord.of(
        create_trial(state=TrialState.COMPLETE, value=0.4, user_attrs=attributes)
    )
    assert describe_difference(trial, epoch, 1) == ""
    again = dataclasses.replace(epoch, validation_accuracy=0.475)
    assert describe_difference(trial, again, 2).startswith(
        "trained again with 2 CPU threads, the network reaches a validation accuracy of 0.4750 "
        "instead of 0.4000"
    )


def test_each_convolution_is_one_step_of_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        record_probes(journal, "finalist-3", FOUND)
    metrics = [event for event in read_all(path) if isinstance(event, Metrics)]
    assert [event.step for event in metrics] == [1, 2]
    assert metrics[1].metrics["zero_kernel_accuracy"] == 0.8
    assert "disabled_features" not in metrics[1].metrics
    assert all(map(is_of_probes, metrics))
    assert not is_of_probes(Metrics("", 0, 1, {"validation_accuracy": 1.0}))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere"),
        (["nowhere:3"], "nowhere"),
        (["mine:net"], "add --data images:PATH"),
        (["mine:net", "--only", "fields"], "did you mean field?"),
        (["nowhere", "--weights", "x.pt"], "--weights = x.pt: nowhere is a network of a search"),
        (["mine:net", "--data", "digits", "--normalize", "x"], "use data, imagenet, none"),
        (["torchvision:resnet18", "--data", "digits"], "takes 3 channels, but the images have 1"),
        (
            ["torchvision:resnet18", "--data", "digits", "--weights", "missing.pt"],
            "cannot be read (No such file",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["probe", *arguments, "--home", "home"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "search.py" in each]
    assert expected in line
