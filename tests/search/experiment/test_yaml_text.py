"""YAML arrives as its author wrote it, or is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search.experiment.folder import SearchFolder
from search.experiment.loading import load_experiment, load_stored
from search.experiment.schema import Experiment
from search.experiment.sections import BorderRule
from search.experiment.yaml_text import YamlTextError, read_yaml, write_yaml
from spaces.errors import BadInputError

ODD_TEXTS = [
    *("2026-11-27", "20261127", "007", "1e3", "1_000", "0x1F", "0o17", "12:30", "1:2:3", "+5"),
    *("on", "off", "yes", "no", "true", "null", "~", ".inf", "=", "<<", "10", "3.0", "-", "---"),
    *("images:/x/my photos #2", "images:/x: y", "*photos", "&photos", "!photos", "@photos"),
    *("%photos", "`photos`", "'quoted'", '"quoted"', "[x]", "{x}", "a\tb", "Fotos für Jürgen"),
    *("写真", " leading", "trailing ", "# x", "a=b", "a\nb", "|", ">", "\ufeffx", "\x00", "\x85"),
]


def experiment(folder: Path, text: str | bytes, *overrides: str) -> Experiment:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_experiment(path, overrides)


def refusal(folder: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(BadInputError) as caught:
        experiment(folder, text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-3", 0.001), ("1E5", 1e5), ("-2.5e+3", -2500.0), (".5", 0.5), ("1.", 1.0)),
        *(("010", 10), ("1_000", 1000), ("+7", 7), ("-3", -3), ("0o17", 15), ("0x1f", 31)),
        *((".inf", math.inf), ("-.Inf", -math.inf), ("1_000.5", 1000.5)),
        *(("true", True), ("False", False), ("null", None), ("~", None), ("", None)),
        *(("12:30", "12:30"), ("2026-11-27", "2026-11-27"), ("1_", "1_"), ("0b11", "0b11")),
        *(("'1'", "1"), ('"on"', "on"), ("=", "="), ("none", "none")),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    (found,) = read_yaml(f"[{text}]") if text else [read_yaml("x:")["x"]]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_ambiguous_word_in_an_option_is_refused(tmp_path: Path, word: str) -> None:
    says = refusal(tmp_path, f"epochs: 3\nspace: {{name: vgg, bias: {word}}}")
    assert f"space.bias: {word} in line 2" in says
    assert f'write "{word}" in quotes' in says
    assert "in quotes" in refusal(tmp_path, "", f"space.bias={word}")
    quoted = experiment(tmp_path, f"space: {{name: vgg, bias: '{word}'}}")
    assert quoted.space.options == {"bias": word}


@pytest.mark.parametrize(
    ("word", "value"), [("yes", True), ("on", True), ("No", False), ("off", False), ("true", True)]
)
def test_words_of_older_files_count_in_flags(tmp_path: Path, word: str, value: bool) -> None:
    text = f"compile: {word}\ntracking: {{enabled: {word}}}\naugmentation: {{flip: {word}}}"
    found = experiment(tmp_path, text)
    assert found.compile is found.tracking.enabled is value
    assert found.augmentation.flip == ("random" if value else "none")
    assert experiment(tmp_path, "", f"compile={word}").compile is value
    if not value:
        rule = experiment(tmp_path, f"screens: {{border: {word}}}").screens.border
        assert rule is BorderRule.OFF


@pytest.mark.parametrize(
    "text", ["1e2", "12:30", "'10'", "true", "0b11", "yes", "1e400", "9" * 9999]
)
def test_whole_number_is_refused_unless_written_as_one(tmp_path: Path, text: str) -> None:
    says = refusal(tmp_path, f"budget: {{trials: {text}}}")
    expected = "is text; remove the quotes" if text == "'10'" else "is not a whole number"
    assert expected in says or "too long" in says
    refusal(tmp_path, "", f"budget.trials={text}")


# Fields for text


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_override_of_a_text_field_is_taken_as_it_stands(tmp_path: Path, text: str) -> None:
    found = experiment(tmp_path, "", f"data={text}", f"tracking.experiment={text}")
    assert (found.data, found.tracking.experiment) == (text, text)
    stored = SearchFolder(tmp_path / "mine")
    stored.path.mkdir()
    stored.write_experiment(found.to_yaml())
    assert load_stored(stored) == found
    # Readers of YAML 1.1, such as an earlier version, read the same.
    assert yaml.safe_load(found.to_yaml())["data"] == text


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=20), names=st.lists(st.text(max_size=5), max_size=3, unique=True))
def test_any_text_for_a_text_field_arrives_as_written(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    found = experiment(tmp_path, write_yaml({"warm_start": names}), f"data={text}")
    assert (found.data, found.warm_start) == (text, names)
    again = experiment(tmp_path, found.to_yaml())
    assert (again.data, again.warm_start) == (text, names)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from("a1-:#/ .eon*@%`{}[],=<~\t"), min_size=1, max_size=8))
@example(text="x #2")
@example(text="#fff")
def test_plain_text_in_a_file_arrives_as_written_or_is_refused(text: str) -> None:
    try:
        found = read_yaml(f"data: {text}\nepochs: 3", Experiment)
    except YamlTextError:
        return
    value = found["data"]
    wanted = text.strip()
    if isinstance(value, str):
        # A comment has a space or the end of the line after its last #.
        kept, _, comment = wanted.partition("#") if wanted != value else (wanted, "", "")
        assert value == kept.strip()
        assert comment.lstrip("#")[:1] in ("", " ", "\t")
    else:
        # Validation refuses a list, a section or nothing.
        assert value is None or isinstance(value, list | dict)


@pytest.mark.parametrize("text", ["2026-11-27", "20261127", "on", "010", "1e3", "no", "true"])
def test_file_gives_a_text_field_its_source(tmp_path: Path, text: str) -> None:
    found = experiment(tmp_path, f"name: {text}  # a comment\nenqueue: [{text}]\nspace: {text}x")
    assert (found.name, found.enqueue, found.space.name) == (text, [text], f"{text}x")


@pytest.mark.parametrize(
    "line",
    ["data: images:/x/my photos #2", "data: #2", "decoding: {background: #ff0000}", "name: a #b"],
)
def test_text_cut_off_at_a_hash_is_refused(tmp_path: Path, line: str) -> None:
    text = f"epochs: 3\n{line}\n"
    says = refusal(tmp_path, text + "}" * line.count("{"))
    assert "in line 2, where # starts a comment; quote the whole text" in says


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_nothing_empties_an_optional_text_field(tmp_path: Path, nothing: str) -> None:
    file = f"storage: {nothing}\nnightly: {{model: {nothing}}}"
    found = experiment(tmp_path, file)
    assert (found.storage, found.nightly.model) == (None, None)
    before = "storage: s3://bucket/prefix"
    assert experiment(tmp_path, before, f"storage={nothing}").storage is None


# Fields given twice


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("space: {depth: 3}\nepochs: 3\nspace: vgg", "gives space twice, in lines 1 and 3"),
        ("budget:\n  trials: 3\n  price: 1\n  trials: 4", "budget.trials twice, in lines 2 and 4"),
        ("space: {x: [{a: 1,\n a: 2}]}", "gives space.x.0.a twice, in lines 1 and 2"),
        ("recipe: {ema: 0, 'ema': 1}", "gives recipe.ema twice, in line 1"),
        ("recipe: {1: 0, 0x1: 1}", "gives recipe.1 twice"),
        ("recipe: &a {ema: 0, ema: 1}\nspace: *a", "gives recipe.ema twice"),
        ("space: {a: &a {x: 1}, b: {<<: *a, <<: *a}}", "gives space.b.<< twice"),
    ],
)  # fmt: skip
def test_field_given_twice_is_refused_with_both_lines(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_override_with_a_field_given_twice_is_refused(tmp_path: Path) -> None:
    says = refusal(tmp_path, "", "budget={trials: 3, trials: 4}")
    assert says.startswith("--set = budget={trials: 3, trials: 4}: gives trials twice")


def test_later_override_of_the_same_field_counts(tmp_path: Path) -> None:
    assert experiment(tmp_path, "", "epochs=3", "epochs=4").epochs == 4


def test_merged_fields_are_replaced_by_own_ones() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\nc: {<<: [*a, {x: 9, z: 4}]}"
    found = read_yaml(text)
    assert found["b"] == {"x": 1, "y": 3}
    assert found["c"] == {"x": 1, "y": 2, "z": 4}


# Whole files


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffepochs: 7".encode(),
        "epochs: 7".encode("utf-16"),
        b"epochs: 7\r\nseed: 1\r\n",
        b"---\nepochs: 7\n...\n",
        b"%YAML 1.1\n---\nepochs: 7",
        b'{"epochs": 7}',
        "# ünïcode\nepochs: 7".encode(),
    ],
)
def test_file_of_another_editor_is_read(tmp_path: Path, content: bytes) -> None:
    assert experiment(tmp_path, content).epochs == 7


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("epochs: 7\n---\nepochs: 8", "keep one document"),
        ("budget:\n\ttrials: 7", "in line 2"),
        ("data: *photos", "undefined alias 'photos'; fix the syntax; quote text"),
        ("data: @photos", "quote text"),
        ("data: !photos", "quote text that starts with !"),
        ("data: images:/x: y", "quote text that contains ': '"),
        ("epochs: 3\nname: a\x01b", "in line 2: special characters are not allowed"),
        ("- epochs", "is not a mapping"),
        ("epochs: 7".encode("latin-1") + b"\xe4", "save it as UTF-8"),
        ("space: {x: &x [*x]}", "contains itself in line 1"),
        ("x: {<<: 3}", "merges what is no mapping in line 1"),
        ("{" * 3000, "is not YAML"),
        ("space: {x: !!binary aaaa}", "unknown tag"),
    ],
)  # fmt: skip
def test_file_that_is_not_plain_yaml_is_refused(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    assert says in refusal(tmp_path, content)


def test_file_that_expands_without_limit_is_refused(tmp_path: Path) -> None:
    levels = [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(8)]
    text = "space: {" + ", ".join(["a0: &a0 [1]", *levels]) + "}"
    assert "describes over 100000 values" in refusal(tmp_path, text)


@pytest.mark.parametrize("override", ["epochs =3", " epochs=3", "budget.trials = 3"])
def test_spaces_around_the_key_of_an_override_are_refused(tmp_path: Path, override: str) -> None:
    assert "without spaces around =" in refusal(tmp_path, "", override)


values = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
        *(st.text(max_size=6), st.sampled_from(ODD_TEXTS)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(value=values)
def test_written_values_are_read_as_the_same_by_both_versions(value: Any) -> None:
    text = write_yaml([value])
    assert read_yaml(text) == [value]
    assert yaml.safe_load(text) == [value]


# GPUs that a training cannot use


@pytest.mark.parametrize("gpus", ["2", "8.0"])
def test_more_than_one_gpu_per_trial_is_refused(tmp_path: Path, gpus: str) -> None:
    says = refusal(tmp_path, f"resources: {{gpus: {gpus}}}")
    assert says.startswith(f"resources.gpus = {gpus[0]}: a training uses one GPU")
    assert experiment(tmp_path, "resources: {gpus: 1}").resources.gpus == 1
    stored = SearchFolder(tmp_path / "old")
    stored.path.mkdir()
    stored.write_experiment(f"name: old\nresources: {{gpus: {gpus}}}")
    assert load_stored(stored).resources.gpus == float(gpus)
