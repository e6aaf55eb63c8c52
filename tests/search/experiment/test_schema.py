"""The experiment file: what it accepts, and how it refuses the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from search.experiment.loading import load_experiment, parse_experiment
from search.experiment.schema import Experiment
from search.experiment.sections import BorderRule
from search.experiment.training_spec import describe_data, describe_training
from spaces.border import Rule
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.folds import Folds
from trainables.image_size import ImageSize
from trainables.specs import Augmentation

ROOT = Path(__file__).resolve().parents[3]

COMPLETE = """\
name: complete
data: images:photos.tar.xz
resolution: 32
subset: 0.5
validation: 0.2
test: 0.1
decoding: {background: "#102030", value_range: [0, 4095], max_megapixels: 200}
seed: 3
space: {name: vgg, depth: [2, 8], features: [8, 48], kernel: [3, 5], bias: true}
recipe: {learning_rate: [0.02, 0.5], batch_size: [64, 128]}
epochs: 9
augmentation:
  {crop: 4, translate: 0.1, flip: alternating, zoom: [0.5, 1], rotate: 15, color: 0.4,
  policy: trivial, erase: 0.25, cutout: 8, mixup: 0.2}
screens:
  border: direct-input
  allow_beyond: 1
  max_params: 1000000
  max_macs: 100000000
  max_memory_mb: 512.5
  duplicates: false
objectives: [accuracy, macs, batch_latency]
latency_batch: 64
sampler: random
scheduler: {name: none, grace_epochs: 2, reduction: 4, hopeless_after: 3}
budget: {trials: 27, wall_clock: 90m}
device: cuda
compile: true
resources: {cpus: 2, gpus: 0.5, concurrent: 4}
finalists: {count: 2, seeds: 5}
tracking: {enabled: false, experiment: nightly}
"""


def written(folder: Path, text: str | bytes, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path, *overrides: str) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        load_experiment(path, overrides)
    assert_one_line(caught.value)
    return caught.value


def assert_one_line(error: BadInputError) -> None:
    line = str(error)
    assert line.splitlines() == [line]
    assert line.startswith(f"{' '.join(str(error.field).split())} = ".lstrip())
    assert error.problem
    assert error.remedy
    assert "Traceback" not in line
    assert "pydantic" not in line


def test_empty_file_searches_digits_under_its_own_name(
    tmp_path: Path,
) -> None:
    found = load_experiment(written(tmp_path, "", "nightly-3.yaml"))
    assert found == Experiment(name="nightly-3")
    assert (found.data, found.space.name, found.space.options) == ("digits", "vgg", {})
    assert (found.sampler, found.scheduler.name) == ("auto", "asha")
    assert (found.objectives, found.scheduler.hopeless_after) == (["accuracy"], None)
    assert (found.screens.border, found.screens.allow_beyond) == (BorderRule.PREVIOUS_CONV, 0)
    assert (found.budget.trials, found.budget.wall_clock) == (30, None)
    assert (found.finalists.count, found.finalists.seeds) == (3, 3)
    assert found.finalists.most_seeds == 6
    assert found.tracking.enabled


def test_every_field_of_a_file_is_read(tmp_path: Path) -> None:
    found = load_experiment(written(tmp_path, COMPLETE))
    assert found.name == "complete"
    assert found.data == "images:photos.tar.xz"
    assert (found.resolution, found.subset, found.validation, found.test) == (32, 0.5, 0.2, 0.1)
    assert (found.seed, found.epochs, found.sampler, found.device) == (3, 9, "random", "cuda")
    assert found.space.name == "vgg"
    assert found.space.options["features"] == [8, 48]
    assert found.recipe == {"learning_rate": [0.02, 0.5], "batch_size": [64, 128]}
    decoding = found.decoding
    assert (decoding.background_rgb, decoding.value_range) == ((16, 32, 48), (0, 4095))
    assert decoding.max_megapixels == 200
    varied = found.augmentation
    assert (varied.crop, varied.translate, varied.flip) == (4, 0.1, "alternating")
    assert (varied.zoom, varied.rotate, varied.color) == ((0.5, 1.0), 15.0, 0.4)
    assert (varied.policy, varied.erase, varied.cutout) == ("trivial", 0.25, 8)
    assert varied.mixup == 0.2
    assert found.compile is True
    assert found.screens.border is BorderRule.DIRECT_INPUT
    assert (found.screens.max_params, found.screens.max_macs) == (1_000_000, 100_000_000)
    assert (found.screens.max_memory_mb, found.screens.duplicates) == (512.5, False)
    assert (found.objectives, found.latency_batch) == (["accuracy", "macs", "batch_latency"], 64)
    assert (found.scheduler.name, found.scheduler.grace_epochs) == ("none", 2)
    assert found.scheduler.hopeless_after == 3
    assert (found.budget.trials, found.budget.wall_clock) == (27, 5400.0)
    resources = found.resources
    assert (resources.cpus, resources.gpus, resources.concurrent) == (2, 0.5, 4)
    assert (found.finalists.count, found.finalists.seeds) == (2, 5)
    assert (found.tracking.enabled, found.tracking.experiment) == (False, "nightly")


@pytest.mark.parametrize("written_as", ["90m", "8h", "2d", "7m", "45", "0.5"])
def test_durations_are_stored_as_written(written_as: str) -> None:
    number = written_as if written_as[-1].isalpha() else float(written_as)
    stored = parse_experiment({"budget": {"wall_clock": number}}).to_yaml()
    assert yaml.safe_load(stored)["budget"]["wall_clock"] == number
    assert yaml.safe_load(stored)["resources"]["wait"] == "30m"


@pytest.mark.parametrize("text", ["resolution: 64x48", "resolution: 64X48", "resolution: '64x48'"])
def test_resolution_may_be_height_and_width(tmp_path: Path, text: str) -> None:
    found = load_experiment(written(tmp_path, text))
    assert found.resolution == ImageSize(height=64, width=48)
    assert "\nresolution: 64x48\n" in found.to_yaml()
    assert load_experiment(written(tmp_path, found.to_yaml(), "again.yaml")) == found
    assert describe_data(found).resolution == ImageSize(64, 48)


@pytest.mark.parametrize("text", ["64x", "x48", "64x0", "large", "[64, 48]"])
def test_resolution_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(written(tmp_path, f"resolution: {text}")).field == "resolution"


def test_stored_experiment_tells_the_own_size_of_images() -> None:
    text = parse_experiment({}).to_yaml((48, 64))
    assert "\nresolution: null  # the images' own size: 48x64\n" in text
    assert "own size" not in parse_experiment({"resolution": 32}).to_yaml((32, 32))
    assert parse_experiment(yaml.safe_load(text)) == parse_experiment({})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sampler": "tpa"}, "did you mean tpe?"),
        ({"name": 3}, 'write "3" in quotes'),
        ({"enqueue": "vgg16"}, "write [vgg16]"),
        ({"budget": {"trials": "many"}}, "write digits only"),
    ],
)
def test_type_errors_say_what_to_write(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment(fields)
    assert says in caught.value.remedy
    assert "it takes" not in str(caught.value)


@pytest.mark.parametrize(("seeds", "most"), [("1", 1), ("3", 6), ("3, max_seeds: 4", 4)])
def test_most_seeds_are_twice_the_seeds_unless_set(tmp_path: Path, seeds: str, most: int) -> None:
    found = load_experiment(written(tmp_path, f"finalists: {{seeds: {seeds}}}"))
    assert found.finalists.most_seeds == most


@pytest.mark.parametrize("text", ["", COMPLETE, "screens: {border: off}"])
def test_the_complete_yaml_loads_as_the_same_experiment(tmp_path: Path, text: str) -> None:
    found = load_experiment(written(tmp_path, text))
    again = load_experiment(written(tmp_path, found.to_yaml(), "copy.yaml"))
    assert again == found
    assert set(yaml.safe_load(found.to_yaml())) == set(Experiment.model_fields)


@pytest.mark.parametrize(
    ("written_as", "flip"),
    [
        ("none", "none"),
        ("random", "random"),
        ("alternating", "alternating"),
        ("true", "random"),
        ("false", "none"),
        ("off", "none"),
    ],
)
def test_a_flip_has_a_name_or_is_only_wanted_or_not(
    tmp_path: Path, written_as: str, flip: str
) -> None:
    found = load_experiment(written(tmp_path, f"augmentation: {{flip: {written_as}}}"))
    assert found.augmentation.flip == flip
    override = load_experiment(written(tmp_path, ""), [f"augmentation.flip={written_as}"])
    assert override.augmentation.flip == flip


def test_default_is_no_augmentation_and_no_compilation() -> None:
    spec = describe_training(parse_experiment({}), Task(1, 8, 8, 10))
    assert spec.augmentation == Augmentation()
    assert not spec.compile
    assert (spec.balance, spec.test_time_flip) == ("none", False)
    assert "mixup" in parse_experiment({}).to_yaml()


@pytest.mark.parametrize("mixup", [0.2, None])
def test_training_spec_has_augmentation_and_compile_of_experiment(mixup: float | None) -> None:
    asked = {"translate": 0.25, "flip": "alternating", "erase": 0.5, "cutout": 3}
    document = {"augmentation": asked | {"mixup": mixup}, "compile": True}
    document |= {"balance": "sampling", "test_time_flip": True}
    spec = describe_training(parse_experiment(document), Task(1, 8, 8, 10))
    assert (spec.balance, spec.test_time_flip) == ("sampling", True)
    assert spec.augmentation == Augmentation(**asked, mixup=mixup)
    assert spec.compile
    crop = {"augmentation": {"crop": 2}}
    spec = describe_training(parse_experiment(crop), Task(1, 8, 8, 10))
    assert spec.augmentation == Augmentation(crop=2)


@pytest.mark.parametrize(
    ("text", "stored"),
    [("space: my_space:space", True), ("data: my_data:load", True), ("data: images:x", False)],
)
def test_folder_of_own_code_is_stored_with_experiment(
    tmp_path: Path, text: str, stored: bool
) -> None:
    found = load_experiment(written(tmp_path, text))
    assert found.modules == (str(tmp_path) if stored else None)
    copy = tmp_path / "runs"
    copy.mkdir()
    again = load_experiment(written(copy, found.to_yaml()), ["modules=elsewhere"])
    assert load_experiment(written(copy, found.to_yaml())).modules == found.modules
    assert again.modules == (str(Path("elsewhere").absolute()) if stored else "elsewhere")


def test_an_unknown_objective_is_named_with_the_known_ones(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "objectives: [accuracy, speed]"))
    assert (error.field, error.value) == ("objectives.1", "speed")
    assert "is none of accuracy, params, macs, latency, batch_latency" in str(error)


def test_hopeless_after_must_precede_the_last_epoch() -> None:
    def after(epochs: int) -> dict[str, Any]:
        return {"epochs": 5, "scheduler": {"hopeless_after": epochs}}

    assert parse_experiment(after(4)).scheduler.hopeless_after == 4
    with pytest.raises(BadInputError) as caught:
        parse_experiment(after(5))
    assert_one_line(caught.value)
    assert (caught.value.field, caught.value.value) == ("scheduler.hopeless_after", 5)


@pytest.mark.parametrize("text", ["folds=5", "folds=5x2", " Folds = 5 x 2"])
def test_validation_takes_folds_and_is_stored_as_text(tmp_path: Path, text: str) -> None:
    found = load_experiment(written(tmp_path, ""), [f"validation={text}"])
    folds = Folds(5, 2 if "2" in text else 1)
    assert found.validation == folds
    assert parse_experiment(yaml.safe_load(found.to_yaml())) == found
    assert describe_training(found, Task(1, 8, 8, 10)).data.validation == folds


@pytest.mark.parametrize(("field", "value"), [("compile", True), ("validation_list", "mine.txt")])
def test_folds_exclude_a_list_and_compilation(field: str, value: object) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"validation": "folds=5", field: value})
    assert_one_line(caught.value)
    assert (caught.value.field, caught.value.value) == (field, value)


def test_a_space_may_be_given_by_its_name_alone() -> None:
    assert parse_experiment({"space": "my_space:space"}).space.name == "my_space:space"


@pytest.mark.parametrize(
    ("yaml_text", "rule"),
    [
        ("off", BorderRule.OFF),
        ("'off'", BorderRule.OFF),
        ("previous-conv", BorderRule.PREVIOUS_CONV),
        ("direct-input", BorderRule.DIRECT_INPUT),
        ("non-strict", BorderRule.NON_STRICT),
    ],
)
def test_the_border_screen_takes_a_rule_or_off(
    tmp_path: Path, yaml_text: str, rule: BorderRule
) -> None:
    found = load_experiment(written(tmp_path, f"screens: {{border: {yaml_text}}}")).screens
    assert found.border is rule
    assert found.rule is (Rule.PREVIOUS_CONV if rule is BorderRule.OFF else Rule(rule.value))


@pytest.mark.parametrize(
    ("given_as", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("45", 45),
        ("45s", 45),
        ("90m", 5400),
        ("8h", 28800),
        ("1.5 d", 129600),
    ],
)
def test_durations_are_seconds_or_carry_a_unit(given_as: Any, seconds: float) -> None:
    budget = parse_experiment({"budget": {"wall_clock": given_as}}).budget
    assert budget.wall_clock == seconds


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("epoch: 3", "epoch", "did you mean epochs?"),
        ("screens: {max_param: 3}", "screens.max_param", "did you mean max_params?"),
        ("budget: {trails: 3}", "budget.trails", "did you mean trials?"),
        ("zzz: 3", "zzz", "known are name, data,"),
        ("finalists: {qqq: 1}", "finalists.qqq", "known are count, seeds, max_seeds"),
        ("epochs: three", "epochs", "a number of epochs"),
        ("epochs: 3.0", "epochs", "is not a whole number"),
        ("epochs: true", "epochs", "is not a whole number; write digits only"),
        ("epochs: '3'", "epochs", "is text; remove the quotes"),
        ("epochs: '3.0'", "epochs", "is not a whole number; write 3"),
        ("subset: '0.5'", "subset", "is text; remove the quotes"),
        ("compile: 'yes'", "compile", "is text; remove the quotes"),
        ("name: número", "name", "ASCII letters"),
        ("epochs: [3]", "epochs", "is not a whole number; write digits only"),
        ("epochs:", "epochs", "is not a whole number; write digits only"),
        ("data: [3]", "data", "is a list, not text; write one text"),
        ("subset: much", "subset", "number"),
        (
            "tracking: {enabled: 1}",
            "tracking.enabled",
            "is neither true nor false",
        ),
        ("budget: 30", "budget", "is not a section"),
        ("recipe: [1]", "recipe", "is not a mapping; write {name: value}"),
        ("space: 3", "space", "is not a section"),
        ("sampler: grid", "sampler", "is none of auto, tpe, gp, random"),
        ("scheduler: {name: hyperband}", "scheduler.name", "is none of asha, none"),
        ("screens: {border: strict}", "screens.border", "use one of previous-conv"),
        ("screens: {border: 'on'}", "screens.border", "use one of previous-conv"),
        ("epochs: 0", "epochs", "is under 1; use 1 or more"),
        ("subset: 0", "subset", "is not over 0; use more"),
        ("subset: 1.5", "subset", "is over 1; use 1 or less"),
        ("validation: 1", "validation", "less than 1"),
        ("validation: a fifth", "validation", "a fraction of the images"),
        ("validation: '0.2'", "validation", "is text; remove the quotes"),
        ("validation: folds", "validation", "folds=5 (2 to 20 folds)"),
        ("validation: folds=1", "validation", "folds=5 (2 to 20 folds)"),
        ("validation: folds=5x0", "validation", "folds=5x2 for two repetitions"),
        ("validation: 5x2", "validation", "use a fraction of the images such as 0.2, or folds=5"),
        ("test: -0.1", "test", "is not over 0; use more"),
        ("seed: -1", "seed", "is under 0; use 0 or more"),
        ("seed: 4294967296", "seed", "less than 4294967296"),
        ("resolution: 0", "resolution", "is under 1; use 1 or more"),
        ("budget: {trials: 0}", "budget.trials", "is under 1; use 1 or more"),
        ("budget: {wall_clock: 0}", "budget.wall_clock", "is not over 0; use more"),
        ("budget: {wall_clock: 3 weeks}", "budget.wall_clock", "90m"),
        ("budget: {wall_clock: .inf}", "budget.wall_clock", "finite"),
        ("resources: {gpus: .nan}", "resources.gpus", "finite"),
        ("resources: {gpus: -1}", "resources.gpus", "is under 0; use 0 or more"),
        ("decoding: {background: nocolour}", "decoding.background", "colour name such as white"),
        ("decoding: {background: '#ffffff00'}", "decoding.background", "or #rrggbb"),
        ("decoding: {value_range: [9, 9]}", "decoding.value_range", "the lower one first"),
        ("decoding: {value_range: [0, .inf]}", "decoding.value_range", "the lower one first"),
        ("decoding: {value_range: 255}", "decoding.value_range", "use two numbers"),
        (
            "decoding: {max_megapixels: 0}",
            "decoding.max_megapixels",
            "is not over 0; use more",
        ),
        ("augmentation: {crop: -1}", "augmentation.crop", "is under 0; use 0 or more"),
        ("augmentation: {crop: 2.0}", "augmentation.crop", "is not a whole number"),
        ("augmentation: {translate: 1}", "augmentation.translate", "less than 1"),
        ("augmentation: {translate: -0.1}", "augmentation.translate", "is under 0; use 0 or more"),
        (
            "augmentation: {flip: often}",
            "augmentation.flip",
            "none of none, random, alternating",
        ),
        ("augmentation: {flip: 1}", "augmentation.flip", "none of none, random, alternating"),
        ("augmentation: {flip:}", "augmentation.flip", "none of none, random, alternating"),
        ("balance: equal", "balance", "is none of none, weights, sampling"),
        ("augmentation: {zoom: 0.5}", "augmentation.zoom", "two fractions above 0"),
        ("augmentation: {zoom: [0, 1]}", "augmentation.zoom", "two fractions above 0"),
        ("augmentation: {zoom: [0.9, 0.5]}", "augmentation.zoom", "the smaller one first"),
        ("augmentation: {zoom: [0.5, true]}", "augmentation.zoom", "two fractions above 0"),
        ("augmentation: {zoom: [0.5, .nan]}", "augmentation.zoom", "two fractions above 0"),
        ("augmentation: {rotate: 181}", "augmentation.rotate", "is over 180; use 180 or less"),
        ("augmentation: {color: 1.1}", "augmentation.color", "is over 1; use 1 or less"),
        ("augmentation: {policy: auto}", "augmentation.policy", "is none of none, trivial"),
        ("augmentation: {erase: 1.5}", "augmentation.erase", "is over 1; use 1 or less"),
        ("augmentation: {erase: true}", "augmentation.erase", "number"),
        ("augmentation: {cutout: -1}", "augmentation.cutout", "is under 0; use 0 or more"),
        ("augmentation: {mixup: 0}", "augmentation.mixup", "leave it out for no mixup"),
        ("augmentation: {mixup: -1}", "augmentation.mixup", "leave it out for no mixup"),
        ("augmentation: {mixup: .nan}", "augmentation.mixup", "finite"),
        ("compile: 1", "compile", "is neither true nor false"),
        ("scheduler: {reduction: 1}", "scheduler.reduction", "is under 2; use 2 or more"),
        ("scheduler: {hopeless_after: 0}", "scheduler.hopeless_after", "is under 1; use 1 or more"),
        (
            "{epochs: 10, scheduler: {hopeless_after: 10}}",
            "scheduler.hopeless_after",
            "ends after 10 epochs",
        ),
        ("objectives: accuracy", "objectives", "list"),
        ("objectives: []", "objectives", "start with accuracy"),
        ("objectives: [params]", "objectives", "start with accuracy"),
        ("objectives: [accuracy, macs, macs]", "objectives", "each objective once"),
        ("latency_batch: 1", "latency_batch", "is under 2; use 2 or more"),
        ("screens: {min_params: 9, max_params: 8}", "screens.min_params", "swap the two"),
        ("screens: {min_macs: 9, max_macs: 8}", "screens.min_macs", "swap the two"),
        ("screens: {max_params: 0}", "screens.max_params", "is not over 0; use more"),
        (
            "screens: {max_memory_mb: 1.0e+305}",
            "screens.max_memory_mb",
            "is over 1000000000000; use",
        ),
        ("finalists: {seeds: 0}", "finalists.seeds", "is under 1; use 1 or more"),
        ("finalists: {max_seeds: 2}", "finalists.max_seeds", "use 3 or more, or leave it out"),
        ("name: ../elsewhere", "name", "pattern"),
        ("name: ''", "name", "pattern"),
        ("device: tpu", "device", "cuda"),
        ("device: cuda:1", "device", "cuda"),
        ("resources: {gpus: 1.5}", "resources.gpus", "a fraction of a GPU"),
        ("1: 2", "1", "string"),
    ],
)
def test_wrong_field_is_reported_with_value_and_remedy(
    tmp_path: Path, text: str, field: str, says: str
) -> None:
    error = refusal(written(tmp_path, text))
    assert error.field == field
    assert says in f"{error.problem}; {error.remedy}"
    value: Any = yaml.safe_load(text)
    for key in field.split("."):
        value = value.get(key, value) if isinstance(value, dict) else value
    if not isinstance(value, dict):
        assert str(error.value) == str(value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: digits\nepochs: [3\n", "line 3"),
        ("data: digits\n\tepochs: 3\n", "line 2"),
        ("a: b: c", "line 1"),
        ("epochs: 3\nepochs: {", "line 2"),
        ("when: !!timestamp 2024-13-45", "unknown tag"),
        ("[" * 5000, "is not YAML"),
        ("&a [*b]", "line 1"),
        ("!!python/object/apply:os.getcwd []", "line 1"),
    ],
)
def test_a_file_that_is_not_yaml_is_refused_with_the_line(
    tmp_path: Path, text: str, says: str
) -> None:
    error = refusal(written(tmp_path, text))
    assert error.field == "EXPERIMENT"
    assert says in error.problem


@pytest.mark.parametrize("text", ["- data", "digits", "3"])
def test_file_without_mapping_is_refused(tmp_path: Path, text: str) -> None:
    error = refusal(written(tmp_path, text))
    assert (error.field, error.problem) == ("EXPERIMENT", "is not a mapping")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.yaml")
    assert error.field == "EXPERIMENT"
    assert "No such file" in error.problem


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).field == "EXPERIMENT"


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"name: \xff", b"a: \x00", b"\x00"]
)
def test_a_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(written(tmp_path, content)).field == "EXPERIMENT"


def test_overrides_are_yaml_values_under_dotted_keys(tmp_path: Path) -> None:
    path = written(tmp_path, "space: vgg\nbudget: {trials: 5, wall_clock: 8h}")
    overrides = [
        "budget.trials=50",
        "space.depth=[2, 3]",
        "screens.border=off",
        "data=images:a=b.zip",
        "name=other",
        "budget.trials=51",
    ]
    found = load_experiment(path, overrides)
    assert found.budget.trials == 51
    assert found.budget.wall_clock == 28800
    assert (found.space.name, found.space.options) == ("vgg", {"depth": [2, 3]})
    assert found.screens.border is BorderRule.OFF
    assert found.data == "images:a=b.zip"
    assert found.name == "other"


def test_override_of_space_drops_options_of_the_old_one(tmp_path: Path) -> None:
    path = written(tmp_path, "space: {name: vgg, depth: [2, 3]}")
    found = load_experiment(path, ["space=my_space:space", "space.width=4"])
    assert (found.space.name, found.space.options) == ("my_space:space", {"width": 4})


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("epochs", "--set"),
        ("=3", "--set"),
        (".=3", "--set"),
        ("budget.=3", "--set"),
        ("", "--set"),
        ("epochs=[", "--set"),
        ("epochs=three", "epochs"),
        ("epochs=", "epochs"),
        ("epochs.more=3", "epochs"),
        ("budget.trails=3", "budget.trails"),
        ("budget.trials.more=3", "budget.trials"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, field: str) -> None:
    assert refusal(written(tmp_path, ""), override).field == field


@pytest.mark.parametrize("probes", ["all", "saturation, field"])
def test_probes_as_text_name_the_ways_to_write_them(probes: str) -> None:
    with pytest.raises(BadInputError) as raised:
        parse_experiment({"probes": probes})
    assert str(raised.value) == (
        f"probes = {probes}: is text; use true for all probes, or a list such as [saturation, "
        "probe]"
    )


def test_an_override_can_mend_a_wrong_value_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: none\nbudget: 3")
    found = load_experiment(path, ["epochs=2", "budget.trials=3"])
    assert (found.epochs, found.budget.trials) == (2, 3)


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, str | None]:
    """Return the description of every field, by its dotted name."""
    found: dict[str, str | None] = {}
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= leaves(section, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field.description
    return found


def test_every_field_is_described_in_schema_and_documentation() -> None:
    page = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
    for name, description in leaves(Experiment).items():
        assert description, name
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_experiments_that_come_along_are_valid(path: Path) -> None:
    assert load_experiment(path).name == path.stem


KEYS = sorted({part for name in leaves(Experiment) for part in name.split(".")})
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["off", "90m", "vgg", "asha", "images:x", "1e-3", "=", "a\nb", "\x00"]),
    st.dates(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def damaged_documents(draw: st.DrawFn) -> dict[Any, Any]:
    """Draw a valid document of which some entries are replaced, renamed, added or removed."""
    document = yaml.safe_load(COMPLETE)
    for _ in range(draw(st.integers(1, 3))):
        section = document
        while True:
            key = draw(st.sampled_from(sorted(section)))
            inner = section[key]
            if not isinstance(inner, dict) or not inner or draw(st.booleans()):
                break
            section = inner
        action = draw(st.sampled_from(["replace", "rename", "add", "remove"]))
        if action == "replace":
            section[key] = draw(values)
        elif action == "rename":
            section[draw(st.sampled_from([key[1:], key + "s", key.upper(), ""]))] = section.pop(key)
        elif action == "add":
            section[draw(st.text(max_size=6))] = draw(values)
        elif len(section) > 1:
            del section[key]
    return document


def assert_valid_or_refused(load: Any) -> None:
    """Check that something gives an experiment that survives being written, or one line."""
    try:
        found = load()
    except BadInputError as error:
        assert_one_line(error)
    else:
        assert isinstance(found, Experiment)
        text = found.to_yaml()
        assert parse_experiment(yaml.safe_load(text)).to_yaml() == text


@settings(max_examples=300, deadline=None)
@given(document=damaged_documents())
def test_a_damaged_document_is_valid_or_refused_in_one_line(document: dict[Any, Any]) -> None:
    assert_valid_or_refused(lambda: parse_experiment(document))


@st.composite
def damaged_texts(draw: st.DrawFn) -> bytes:
    """Draw a valid file of which some pieces are replaced."""
    text = COMPLETE.encode()
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = draw(st.integers(begin, min(len(text), begin + 6)))
        piece = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b":", b"{", b"]", b"\n", b"\t", b"- ", b"&a ", b"*a", b"!!", b"'"]
                ),
            )
        )
        text = text[:begin] + piece + text[end:]
    return text


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=damaged_texts(), override=st.one_of(st.none(), st.text(max_size=12)))
@example(text=b"recipe: &a {x: *a}", override=None)
@example(text=b"recipe: {x: !!binary /w==}", override=None)
@example(text=b"? [a]\n: b", override=None)
def test_a_damaged_file_is_valid_or_refused_in_one_line(
    tmp_path: Path, text: bytes, override: str | None
) -> None:
    path = written(tmp_path, text)
    assert_valid_or_refused(lambda: load_experiment(path, [override] if override else []))


@pytest.mark.parametrize(
    ("field", "text", "remedy"),
    [
        ("epochs", "1e1", "write 10"),
        ("resolution", "1e2", "write 100"),
        ("budget.trials", "1e9", "write 1000000000"),
        ("budget.trials", "1_000.0", "write 1000"),
        ("epochs", "2.5", "write a whole number"),
        ("epochs", "1e400", "write a whole number"),
        ("epochs", ".nan", "write a whole number"),
    ],
)
def test_decimal_in_a_whole_number_field_is_shown_as_written(
    tmp_path: Path, field: str, text: str, remedy: str
) -> None:
    line = f"{field} = {text}: is not a whole number; {remedy}"
    assert str(refusal(written(tmp_path, ""), f"{field}={text}")) == line
    section, _, inner = field.rpartition(".")
    file = f"{section}: {{{inner}: {text}}}" if section else f"{inner}: {text}"
    assert str(refusal(written(tmp_path, file))) == line


@pytest.mark.parametrize("value", ["+2", "+-1", "+many", "+1e2"])
def test_plus_in_a_new_search_is_refused(tmp_path: Path, value: str) -> None:
    line = str(refusal(written(tmp_path, "budget: {trials: 5}"), f"budget.trials={value}"))
    assert f"budget.trials={value}: + adds only when a search is resumed" in line
    assert line.endswith("remove the +")


def test_a_long_value_is_shown_shortened(tmp_path: Path) -> None:
    line = str(refusal(written(tmp_path, f"epochs: {'x' * 10_000}")))
    assert len(line) < 400
    assert re.match(r"epochs = x+\.\.\.: ", line)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("improvement < 0.001", "improvement < 0.001"),
        (" Improvement<0.1% ", "improvement < 0.001"),
        ("improvement < 1e-4", "improvement < 0.0001"),
    ],
)
def test_budget_until_has_one_canonical_form(given: str, stored: str) -> None:
    budget = parse_experiment({"sampler": "auto", "budget": {"until": given}}).budget
    assert budget.until == stored
    assert budget.least_improvement == pytest.approx(float(stored.rpartition(" ")[2]))


@pytest.mark.parametrize("given", ["0.001", "improvement", "improvement < 0", "improvement < 2"])
def test_other_forms_of_budget_until_are_refused_with_an_example(given: str) -> None:
    with pytest.raises(BadInputError, match=r"write: improvement < 0\.001"):
        parse_experiment({"sampler": "auto", "budget": {"until": given}})


def test_budget_until_needs_a_sampler_that_estimates_improvements() -> None:
    budget = {"until": "improvement < 0.001"}
    with pytest.raises(BadInputError, match="sampler: tpe does not estimate improvements"):
        parse_experiment({"sampler": "tpe", "budget": budget})
    with pytest.raises(BadInputError, match="accuracy as the only objective"):
        parse_experiment({"sampler": "auto", "budget": budget, "objectives": ["accuracy", "macs"]})


def test_limits_may_be_ranges() -> None:
    found = parse_experiment({"screens": {"params": [10, 20], "macs": [None, 5]}}).screens
    assert (found.min_params, found.max_params, found.min_macs, found.max_macs) == (10, 20, None, 5)
    stored = parse_experiment({"screens": found.model_dump(mode="json")}).screens
    assert stored == found
    for screens, says in (
        ({"params": 10}, "screens.params = 10: is no range; write the least and the most"),
        ({"params": [20, 10]}, "screens.min_params = 20: screens.max_params is 10"),
        ({"macs": [1, 5], "max_macs": 6}, "screens.macs = [1, 5]: screens.max_macs is 6; use one"),
    ):
        with pytest.raises(BadInputError, match=re.escape(says)):
            parse_experiment({"screens": screens})
