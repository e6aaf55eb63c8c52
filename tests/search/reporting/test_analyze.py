"""The command `analyze`: networks, table, plot, remedies and exit code."""

import json
from xml.etree import ElementTree as ET

import pytest
from optuna.samplers import RandomSampler
from PIL import Image

from search.cli import main
from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.reporting.analysis import writing
from search.study.database import Database
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.task import Task

DIGITS = Task(channels=1, height=8, width=8, classes=10)
OWN = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.b = nn.Conv2d(8, 8, 5, stride=2, padding=2)
        self.c = nn.Conv2d(8, 16, 5, padding=2)
        self.d = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 7)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x))))
        x = F.relu(self.c(x))
        x = x + self.d(x)
        return self.head(x.mean((2, 3)))

class ByValue(Net):
    def forward(self, x):
        x = x if x.mean() > 0 else -x
        return super().forward(x)

def scripted():
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))

class Broken(nn.Module):
    def __init__(self):
        raise RuntimeError("no weights here")
"""

STANDARDISED = """
import torch
import torch.nn.functional as F
from torch import nn

class Standardised(nn.Conv2d):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.ones(sizes[1], 1, 1, 1))

    def forward(self, x):
        return F.conv2d(x, self.weight * self.gain, self.bias, padding=1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.mix = Standardised(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x):
        return self.mix(self.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
"""
POOLED = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)])
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        for layer in self.layers:
            x = F.max_pool2d(layer(x), 2, 1)
        return self.head(x.mean((2, 3)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def analysed(capsys, *arguments):
    assert main(["analyze", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_module_of_user_is_traced_and_analysed(own, capsys):
    document = analysed(capsys, "my_nets:Net", "--resolution", "16")
    assert [layer["name"] for layer in document["layers"]] == ["a", "b", "c", "d"]
    assert [layer["field_min"] for layer in document["layers"]] == [
        [3, 3],
        [11, 11],
        [27, 27],
        [35, 35],
    ]
    assert document["border"] == 4
    assert [layer["productive"] for layer in document["layers"]] == [True, True, True, False]
    assert document["params"] == sum(layer["params"] for layer in document["layers"]) + 16 * 7 + 7


def test_each_remedy_states_change_and_costs(own, capsys):
    remedies = analysed(capsys, "my_nets:Net", "--resolution", "16")["remedies"]
    assert remedies[0]["kind"] == "truncate"
    assert remedies[0]["macs"] < 1
    assert all(remedy["macs"] > 1 for remedy in remedies[1:])
    assert len(remedies) > 1
    assert {"kind", "description", "params", "macs", "memory"} == set(remedies[0])


def test_remedied_network_is_written_as_code(own, capsys):
    options = ["vgg16", "--write", "remedied.py", "--remedy", "3"]
    remedy = analysed(capsys, *options)["remedies"][2]
    assert remedy["kind"] == "rearrange"
    source = (own / "remedied.py").read_text()
    assert remedy["description"].split(";")[0] in source
    document = analysed(capsys, "remedied:Network", "--resolution", "32")
    assert document["border"] is None
    assert document["macs"] == round(remedy["macs"] * analysed(capsys, "vgg16")["macs"])


def test_own_network_is_patched_where_arguments_suffice(own, capsys):
    options = ["--resolution", "16", "--write", "better.py", "--remedy", "2"]
    assert main(["analyze", "my_nets:Net", *options]) == 0
    out, err = capsys.readouterr()
    assert "rearrange: no downsampling in a; stride 2 in c" in out
    assert "a: stride=(1, 1)\n" in err
    assert "c: stride=(2, 2)\n" in err
    assert "written: better.py, a patch that was verified" in err
    (own / "patched.py").write_text(
        "import better, my_nets\ndef net():\n    return better.patch(my_nets.Net())\n"
    )
    document = analysed(capsys, "patched:net", "--resolution", "16")
    assert document["border"] is None
    assert [layer["stride"][0] for layer in document["layers"]] == [1, 2, 2, 1]


def test_remedy_replaces_no_file(own, capsys):
    code = (own / "my_nets.py").read_text()
    options = ["--resolution", "16", "--write", "my_nets.py"]
    assert main(["analyze", "my_nets:Net", *options]) == 2
    assert "my_nets.py: exists, and may be your own code" in capsys.readouterr().err
    assert (own / "my_nets.py").read_text() == code


def test_remedy_that_fails_its_check_is_not_kept(own, capsys, monkeypatch):
    monkeypatch.setattr(writing, "_check", lambda *_: "has other fields")
    assert main(["analyze", "vgg16", "--write", "remedied.py"]) == 2
    assert "has other fields" in capsys.readouterr().err
    assert not (own / "remedied.py").exists()


def test_own_network_with_functional_pooling_is_written_whole(own, capsys):
    (own / "pooled.py").write_text(POOLED)
    arguments = ["pooled:Net", "--resolution", "8", "--write", "whole.py"]
    assert analysed(capsys, *arguments)["border"] == 4
    assert analysed(capsys, "whole:Network", "--resolution", "8")["border"] is None


def test_document_has_documented_keys(capsys):
    document = analysed(capsys, "vgg16", "--resolution", "32")
    keys = {"model", "resolution", "rule", "border", "layers", "params", "macs", "remedies"}
    assert set(document) == {*keys, "measured"}
    assert set(document["layers"][0]) == {
        "index", "name", "kind", "kernel", "stride",
        "field_min", "field_max", "exact", "productive", "params", "macs",
    }  # fmt: skip
    assert document["border"] == 8
    assert document["resolution"] == [32, 32]


def test_images_may_be_rectangular(capsys):
    assert analysed(capsys, "vgg16", "--resolution", "32x64")["border"] == 10
    assert analysed(capsys, "vgg16", "--resolution", "64x32")["border"] == 10


def test_module_that_cannot_be_traced_is_measured(own, capsys):
    assert main(["analyze", "my_nets:ByValue", "--resolution", "64", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["measured"]
    assert [layer["field_max"][0] for layer in document["layers"]] == [3, 11, 27, 35]
    assert not any(layer["exact"] for layer in document["layers"])
    assert document["params"] == analysed(capsys, "my_nets:Net")["params"]
    assert err.count("\n") == 1
    assert "control flow depends on the values" in err
    assert "measured" in err


@pytest.mark.parametrize(("model", "code"), [("vgg16", 1), ("resnet14c", 0)])
def test_exit_code_reports_unproductive_layers(model, code, capsys):
    assert main(["analyze", model, "--resolution", "32", "--fail-on-unproductive"]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == code
    assert ("6 unproductive" in error) == bool(code)


def test_plot_is_drawn_as_png_and_svg(own, capsys):
    assert main(["analyze", "resnet18", "--resolution", "32", "--picture", "growth"]) == 0
    with Image.open(own / "growth.png") as picture:
        width, height = picture.size
        assert width > height > 200
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert ET.parse(own / "growth.svg").getroot().tag.endswith("svg")


def test_effective_field_stands_beside_the_theoretical_one(own, capsys):
    document = analysed(
        capsys, "my_nets:Net", "--resolution", "48", "--effective", "--picture", "field"
    )
    assert document["weights"] == "weights as my_nets:Net returns them; 32 images of noise"
    for layer in document["layers"]:
        field = layer["effective"]
        assert (0, 0) < tuple(field["extent"]) <= tuple(layer["field_max"])
        assert 0 < field["radius"] <= len(field["within"]) - 1
        assert 1 <= field["side"] <= max(field["extent"])
        assert field["within"] == sorted(field["within"])
        assert field["within"][-1] == pytest.approx(1)
    assert (own / "field.png").exists()


def test_effective_fields_without_a_value_are_counted(own, capsys):
    (own / "standardised.py").write_text(STANDARDISED)
    arguments = ["standardised:Net", "--resolution", "9", "--effective", "--json"]
    assert main(["analyze", *arguments]) == 0
    out, err = capsys.readouterr()
    first, mixed = json.loads(out)["layers"]
    assert first["name"] == "a.conv2d"
    assert first["effective"]["extent"] == first["field_max"] == [3, 3]
    assert mixed["effective"] is None
    assert "1 of 2 effective fields are unknown" in err


@pytest.mark.parametrize("changed", [False, True])
def test_changed_space_of_a_trial_is_said(tmp_path, capsys, changed):
    home = Home(tmp_path)
    experiment = parse_experiment({"name": "done", "data": "digits"})
    home.folder("done").create(experiment.to_yaml(), DIGITS)
    study = Study("done", RandomSampler(seed=0))
    trial = study.ask()
    candidate = CandidateSpace(DIGITS, "vgg", {}, {}).draw(trial)
    database = Database(home.folder("done").study, "done")
    study.reject(trial, "params", 1.0, {"digest": "other" if changed else candidate.digest})
    database.enter(study.trial(0))
    database.close()

    assert main(["analyze", "done:0", "--json", "--home", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["params"] == candidate.costs.params
    assert bool(err) == changed
    assert not changed or "vgg changed: it draws another network than trial 0 trained" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["my_nets:Missing"], "Missing"),
        (["my_nets:Broken"], "no weights here"),
        (["my_nets:scripted"], "name the module that it was scripted from"),
        (["nowhere_at_all:Net"], "nowhere_at_all"),
        (["torchvision:resnet19"], "resnet18"),
        (["vgg17"], "vgg17"),
        (["vgg16", "--resolution", "0"], "--resolution = 0"),
        (["vgg16", "--resolution", "32x"], "--resolution = 32x"),
        (["vgg16", "--weights", "w.pt"], "add --effective"),
        (["vgg16", "--effective", "--weights", "w.pt"], "w.pt"),
        (["vgg16", "--remedy", "2"], "add --write FILE"),
        (["vgg16", "--write", "x.py", "--remedy", "9"], "use 1 to 5"),
        (["vgg16", "--write", "x.py", "--remedy", "0"], "use 1 to 5"),
        (["vgg16", "--write", "no/x.py"], "--write = no/x.py"),
        (["resnet14c", "--write", "x.py"], "no remedy"),
        (["vgg16", "--rule", "strict"], "--rule = strict"),
        (["torchvision:alexnet", "--resolution", "8"], "alexnet"),
    ],
)
def test_unusable_model_is_reported_in_one_line(own, capsys, arguments, said):
    assert main(["analyze", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err
