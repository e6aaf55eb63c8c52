"""`analyze` in continuous integration: schema, baseline, comparison, SARIF, annotations, hooks."""

import json
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from search.cli import app, main
from search.experiment.loading import load_experiment

ROOT = Path(__file__).resolve().parents[3]
VGG = ["analyze", "vgg16", "--resolution", "32"]
TINY = """
from torch import nn

def net():
    return nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range({depth})])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def written(path, capsys, *arguments):
    """Write the document of an analysis to a file."""
    assert main(["analyze", *arguments, "--json"]) == 0
    path.write_text(capsys.readouterr().out)
    return json.loads(path.read_text())


def network(folder, name, depth):
    """Write a module with a network of so many convolutions."""
    (folder / f"{name}.py").write_text(TINY.format(depth=depth))


# Schema


@pytest.mark.parametrize("options", [[], ["--effective"], ["--compare", "vgg11"]])
def test_document_follows_the_published_schema(folder, capsys, options):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "analyze.schema.json").read_text())
    model = "resnet14c" if "--effective" in options else "vgg16"
    document = written(folder / "x.json", capsys, model, *options)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert set(document) <= set(schema["properties"])
    del document["layers"][0]["productive"]
    with pytest.raises(jsonschema.ValidationError, match="productive"):
        jsonschema.validate(document, schema)


# Baseline


def test_known_findings_do_not_fail(folder, capsys):
    check = [*VGG, "--fail-on-unproductive", "--baseline", "known.json"]
    assert main([*VGG, "--baseline", "known.json", "--update-baseline"]) == 0
    assert main(check) == 0
    assert "6 unproductive layers, all in known.json" in capsys.readouterr().err
    content = json.loads((folder / "known.json").read_text())
    gone = content["findings"].pop(0)["layer"]
    (folder / "known.json").write_text(json.dumps(content))
    assert gone == "conv8"
    assert main(check) == 1
    assert "(1 not in known.json)" in capsys.readouterr().err


def test_finding_of_other_images_or_rule_is_new(folder, capsys):
    assert main([*VGG, "--baseline", "known.json", "--update-baseline"]) == 0
    check = ["analyze", "vgg16", "--fail-on-unproductive", "--baseline", "known.json"]
    assert main([*check, "--resolution", "24"]) == 1
    assert main([*check, "--rule", "direct-input"]) == 1
    capsys.readouterr()


def test_update_keeps_other_networks_and_drops_fixed_layers(folder, capsys):
    update = ["--baseline", "known.json", "--update-baseline"]
    assert main([*VGG, *update]) == 0
    network(folder, "shrinking", 9)
    own = ["analyze", "shrinking:net", "--resolution", "10"]
    assert main([*own, *update]) == 0
    content = json.loads((folder / "known.json").read_text())
    assert [each["layer"] for each in content["findings"][-4:]] == ["5", "6", "7", "8"]
    content["findings"].append(content["findings"][-1] | {"layer": "removed"})
    (folder / "known.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main([*own, "--fail-on-unproductive", "--baseline", "known.json"]) == 0
    assert "productive or gone since the baseline: removed" in capsys.readouterr().err
    assert main([*own, *update]) == 0
    layers = [each["layer"] for each in json.loads((folder / "known.json").read_text())["findings"]]
    assert "removed" not in layers
    assert len(layers) == 6 + 4


# Comparison


def test_comparison_names_added_removed_and_changed_layers(folder, capsys):
    (folder / "old.py").write_text(TINY.format(depth=3))
    (folder / "new.py").write_text(
        "from torch import nn\n"
        "class net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.add_module('0', nn.Conv2d(3, 3, 3, padding=1))\n"
        "        self.add_module('1', nn.Conv2d(3, 3, 5, padding=2))\n"
        "        self.last = nn.Conv2d(3, 3, 3, padding=1)\n"
        "    def forward(self, x):\n"
        "        for layer in self.children():\n"
        "            x = layer(x)\n"
        "        return x\n"
    )
    written(folder / "old.json", capsys, "old:net", "--resolution", "6")
    arguments = ["new:net", "--resolution", "6", "--compare"]
    stored = written(folder / "a.json", capsys, *arguments, "old.json")["comparison"]
    named = written(folder / "b.json", capsys, *arguments, "old:net")["comparison"]
    assert stored == named
    assert [(layer["name"], layer["change"]) for layer in stored["layers"]] == [
        ("1", "changed"),
        ("last", "added"),
        ("2", "removed"),
    ]
    assert stored["layers"][0]["old"]["kernel"] == [3, 3]
    assert stored["layers"][0]["new"]["kernel"] == [5, 5]
    assert stored["unproductive"] == [0, 1]
    assert main(["analyze", *arguments, "old.json"]) == 0
    assert "compared with old:net: border none -> 3, unproductive 0 -> 1" in capsys.readouterr().out


def test_comparison_says_that_images_differ(folder, capsys):
    written(folder / "old.json", capsys, "vgg16", "--resolution", "64")
    assert main([*VGG, "--compare", "old.json"]) == 0
    said = capsys.readouterr().out
    assert "images or rules differ: 64x64 px, rule previous-conv, now 32x32 px" in said


# Code review


def test_sarif_has_one_result_for_each_unproductive_layer(folder, capsys):
    network(folder, "deep", 9)
    own = ["analyze", "deep:net", "--resolution", "10"]
    assert main([*own, "--baseline", "known.json", "--update-baseline"]) == 0
    content = json.loads((folder / "known.json").read_text())
    content["findings"].pop()
    (folder / "known.json").write_text(json.dumps(content))
    assert main([*own, "--baseline", "known.json", "--sarif", "log.sarif"]) == 0
    capsys.readouterr()
    log = json.loads((folder / "log.sarif").read_text())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    results = run["results"]
    assert [each["baselineState"] for each in results] == ["new", *["unchanged"] * 3]
    assert [each["level"] for each in results] == ["warning", *["note"] * 3]
    assert {each["ruleId"] for each in results} == {run["tool"]["driver"]["rules"][0]["id"]}
    physical = results[0]["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "deep.py"
    assert physical["region"]["startLine"] == 4
    assert len({each["partialFingerprints"]["layer/v1"] for each in results}) == 4
    assert "Convolution 9 (8) of deep:net is unproductive" in results[0]["message"]["text"]


def test_annotation_of_github_names_file_and_new_layers(folder, capsys):
    network(folder, "noted", 9)
    assert main(["analyze", "noted:net", "--resolution", "10", "--github"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith("::warning file=noted.py,line=4,title=Unproductive layers::noted:net at")
    assert line.endswith("New: 5, 6, 7, 8")
    assert "44%25 of the parameters" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--update-baseline"], "add --baseline FILE"),
        (["--baseline", "missing.json"], "write it with --update-baseline"),
        (["--baseline", "other.json"], "is no baseline"),
        (["--github", "--json"], "leave one of them out"),
        (["--sarif", "no/log.sarif"], "--sarif = no/log.sarif"),
        (["--compare", "vgg17"], "--compare = vgg17"),
        (["--compare", "other.json"], "--compare = other.json"),
    ],
)
def test_unusable_option_is_reported_in_one_line(folder, capsys, arguments, said):
    (folder / "other.json").write_text("[1]")
    assert main([*VGG, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert said in err


def test_documented_network_with_an_effective_field_is_an_experiment():
    path = ROOT / "docs" / "effective.yaml"
    experiment = load_experiment(path)
    page = (ROOT / "docs" / "analyze.md").read_text()
    assert f"python search.py run {path.relative_to(ROOT)}\n" in page
    assert f"python search.py analyze {experiment.name}:0 " in page
    assert experiment.budget.trials == experiment.finalists.count == 1


# Hooks and workflows


def options_of_analyze():
    commands = typer.main.get_command(app).commands
    return {name for parameter in commands["analyze"].params for name in parameter.opts}


def test_pre_commit_hook_calls_an_existing_command():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, command, *options = shlex.split(hook["entry"])
    assert (program, command) == ("borderline", "analyze")
    assert set(options) <= options_of_analyze()
    assert hook["pass_filenames"] is False
    assert {"id", "name", "language"} <= set(hook)


def test_documented_workflow_uses_existing_options():
    text = (ROOT / "docs" / "analyze-workflow.yml").read_text()
    workflow = yaml.safe_load(text)
    steps = workflow["jobs"]["analyze"]["steps"]
    commands = "\n".join(step.get("run", "") for step in steps).replace("\\\n", " ")
    calls = [line for line in commands.splitlines() if "borderline analyze" in line]
    assert len(calls) == 3
    used = {word for line in calls for word in shlex.split(line) if word.startswith("--")}
    assert used <= options_of_analyze()
