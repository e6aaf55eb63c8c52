"""The comparison of samplers: its spaces draw the tables' networks, its runs judge the choice."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial, TrialState
from quality import lent
from quality.arms import ARMS
from quality.evolution import EvolutionSampler
from quality.goals import first_below, goals
from quality.macro_spaces import CHOICES, inverted_residuals, residual_widths
from quality.plain import COORDINATES, plain_table
from quality.results import p_value, summarise, write_csv
from quality.runs import Run, key_of, modelled, regret, run
from quality.tables import (
    CIFAR10,
    Network,
    Table,
    constructed,
    denoised,
    read_channels,
    read_macro,
    seed_of,
    seen,
)
from search_quality import CHANNELS, MACRO, main

from experiments.plain_networks.networks import draw_networks
from experiments.plain_networks.protocols import DIGITS
from experiments.plain_networks.records import Measurement
from experiments.plain_networks.table import analyse
from search.loop.simulation import FIXED_RECIPE, SimulatedTrial, simulate
from spaces.candidate import Candidate, CandidateSpace
from spaces.costs import costs
from spaces.errors import BadInputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def small() -> Table:
    """Return the table of 81 networks."""
    return constructed()


@pytest.fixture(scope="module")
def plain() -> Table:
    """Return a table of 30 plain networks with invented accuracies of two seeds."""
    measurements = [
        Measurement(
            number=each.number,
            seed=seed,
            digest=each.digest,
            params=each.params,
            accuracy=0.5,
            validation_accuracy=0.5 + each.number / 100 + seed / 1000,
            test_accuracy=0.4 + each.number / 100,
            test_loss=1.0,
            train_accuracy=0.9,
            validation_accuracies=tuple(
                0.1 * epoch / 2 + each.number / 1000 for epoch in range(DIGITS.epochs)
            ),
            validation_losses=(1.0,) * DIGITS.epochs,
            train_losses=(1.0,) * DIGITS.epochs,
            cpu_seconds=1.0,
            versions="",
        )
        for each in draw_networks(DIGITS, 30)
        for seed in (0, 1)
    ]
    return plain_table("digits", analyse(DIGITS, measurements))


# Spaces and tables


def test_other_searches_lend_trials_of_the_nearest_networks(
    plain: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lent, "others", lambda table: ["mnist"])
    monkeypatch.setattr(lent, "read_plain", lambda path: plain)
    monkeypatch.setattr(lent, "LENT", 3)
    found = lent.lent_trials(plain, 5)
    assert len(found) == 3
    for trial in found:
        assert trial.user_attrs["inherited"] == "mnist"
        assert trial.value == seen(plain.network(trial.params), 5)
        assert trial.user_attrs["digest"] == plain.cached.rebuild(trial.params).digest


@pytest.mark.parametrize(
    ("digits", "params", "macs"),
    [("02012100", 890_666, 47_327_744), ("22222202", 2_101_098, 92_463_616)],
)
def test_macro_networks_cost_what_their_table_says(digits: str, params: int, macs: int) -> None:
    drawn = {f"layer{i}": CHOICES[int(digit)] for i, digit in enumerate(digits)}
    found = costs(inverted_residuals(FixedTrial(drawn), CIFAR10))
    assert (found.params, found.macs) == (params, macs)


@pytest.mark.parametrize(
    ("digits", "params", "macs"),
    [("4432214", 6_208_394, 794_495_488), ("2144211", 3_696_906, 378_374_656)],
)
def test_channel_networks_cost_what_their_table_says(digits: str, params: int, macs: int) -> None:
    drawn = {f"width{i}": int(digit) for i, digit in enumerate(digits)}
    found = costs(residual_widths(FixedTrial(drawn), CIFAR10))
    assert (found.params, found.macs) == (params, macs)


@pytest.mark.needs_data
@pytest.mark.skipif(not (DATA / MACRO).is_file(), reason=f"{MACRO} is not in shared/data")
def test_published_tables_are_read_completely() -> None:
    macro = read_macro(DATA / MACRO)
    assert len(macro.networks) == 3_969
    half, quarter = (read_channels(DATA / CHANNELS, part) for part in (0.5, 0.25))
    assert len(quarter.admissible) < len(half.admissible) < len(half.networks) == 16_384
    assert quarter.best < half.best
    for table, step in ((macro, 97), (half, 397)):
        for network in list(table.networks.values())[::step]:
            drawn = table.space(FixedTrial(dict(network.params)), table.task)
            assert costs(drawn).macs == network.macs


def test_space_draws_the_network_of_its_table(small: Table, plain: Table) -> None:
    for table in (small, plain):
        space = CandidateSpace(table.task, table.space, table.space_options, FIXED_RECIPE)
        for key, network in table.networks.items():
            assert table.key_of(network.params) == key
            assert space.rebuild(network.params).costs.macs == network.macs


def test_plain_table_has_features_and_curves_of_its_networks(plain: Table) -> None:
    assert len({network.macs for network in plain.networks.values()}) > 20
    network = plain.network(dict.fromkeys(COORDINATES, 0.5))
    assert network in plain.networks.values()
    assert {len(curve) for curve in network.curves} == {plain.epochs} == {9}
    assert plain.best == pytest.approx(40 + 29)


def test_denoising_keeps_pairs_and_removes_noise() -> None:
    choices = [[a, b, c] for a in range(4) for b in range(4) for c in range(4)]
    pairs = np.array([a * b + math.sin(b * c) - a for a, b, c in choices])
    assert denoised(choices, list(pairs)) == pytest.approx(pairs)
    noise = np.random.default_rng(0).normal(0, 1, len(choices))
    after = denoised(choices, list(pairs + noise)) - pairs
    assert np.std(after) < 0.9 * np.std(noise)


# Arms


def test_largest_networks_come_first(small: Table) -> None:
    options = ARMS["largest"].options(small, 0)
    first = [small.network(params).macs for params in options["enqueue"]]
    rest = sorted(network.macs for network in small.networks.values())
    assert sorted(first) == rest[-8:]
    assert options["enqueue"] != ARMS["largest"].options(small, 1)["enqueue"]


def test_macs_filter_accepts_as_many_as_the_border_screen(plain: Table) -> None:
    assert 0 < plain.accepted < 1
    assert len(ARMS["macs-filter"].options(plain, 0)["enqueue"]) == round(30 * plain.accepted)


def test_evolution_changes_one_parameter_of_the_best_rival() -> None:
    def ask(study: optuna.Study) -> optuna.Trial:
        trial = study.ask()
        for name in "abcdefgh":
            trial.suggest_int(name, 0, 9)
        return trial

    def value_of(trial: optuna.Trial) -> float:
        return float(sum(trial.params.values())) + trial.number / 1000  # No two are equal.

    # All living networks are rivals, so the parent is the best of the last five.
    study = optuna.create_study(direction="maximize", sampler=EvolutionSampler(3, 5, sample=5))
    trials = []
    for _ in range(40):
        trial = ask(study)
        study.tell(trial, value_of(trial))
        trials.append(trial)
    for number, trial in enumerate(trials[5:]):
        parent = max(trials[number : number + 5], key=value_of)
        assert sum(trial.params[name] != parent.params[name] for name in "abcdefgh") == 1


@pytest.mark.parametrize("clock", ["trials", "full"])
@pytest.mark.parametrize("border", [True, False])
def test_our_arm_proposes_what_auto_proposes(plain: Table, border: bool, clock: str) -> None:
    options = ARMS["auto" if border else "auto-no-border"].on(clock).options(plain, 3)

    def macs(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        return float(candidate.costs.macs)

    found = [
        simulate(
            plain.space,
            plain.task,
            macs,
            trials=12,
            seed=3,
            sampler=sampler,
            space_options=plain.space_options,
            screens=options["screens"],
            budget={"device_hours": 1.0} if clock == "full" else {},
        )
        for sampler in ("auto", options["sampler"])
    ]
    assert found[0] == found[1]
    assert ("border" in options["screens"]) is not border


@pytest.mark.parametrize("clock", ["trials", "parallel", "asha", "full"])
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.startswith("auto-")])
def test_each_ablation_leaves_out_one_part(arm: str, clock: str, plain: Table) -> None:
    if ARMS[arm].differs(plain.name, clock):
        found, whole = ARMS[arm].on(clock), ARMS["auto"].on(clock)
        assert found.version != whole.version or found.border
        assert found.options(plain, 0)["sampler"]


def test_limited_time_repeats_runs_of_timed_clocks_alone(small: Table) -> None:
    versions = {
        clock: key_of(clock, small, "auto", 0).version
        for clock in ("trials", "parallel", "asha", "full")
    }
    assert versions["trials"] == versions["parallel"] == ARMS["auto"].version
    assert versions["trials"].endswith(", {}")
    assert versions["asha"] == versions["full"] != versions["trials"]


# Runs


def test_regret_is_that_of_the_network_with_the_best_seen_value(small: Table) -> None:
    networks = sorted(small.networks.values(), key=lambda network: network.truth)
    worst, best = networks[0], networks[-1]

    def result(network: Network, value: float) -> SimulatedTrial:
        return SimulatedTrial(0, network.params, value, 0.0, 1.0, 1, TrialState.COMPLETE)

    assert regret(small, [result(worst, 1.0), result(best, 2.0)]) == 0
    fooled = regret(small, [result(worst, 2.0), result(best, 1.0)])
    assert fooled == pytest.approx(best.truth - worst.truth)


def test_search_sees_one_training_of_each_network(small: Table) -> None:
    networks = list(small.networks.values())
    chosen = [seed_of(network, 0) for network in networks]
    assert set(chosen) == {0, 1, 2}
    assert chosen == [seed_of(network, 0) for network in networks]
    assert chosen != [seed_of(network, 1) for network in networks]
    assert seen(networks[0], 0) == networks[0].seen[chosen[0]]


def test_modelled_curve_ends_at_the_seen_value(small: Table) -> None:
    network = next(iter(small.networks.values()))
    curve = [modelled(small, network, 0, epoch / 9) for epoch in range(1, 10)]
    assert curve[-1] == pytest.approx(seen(network, 0))
    assert curve[0] < curve[-1] - 5


@pytest.mark.parametrize("arm", ["random", "largest", "evolution", "tpe"])
def test_run_is_repeatable_and_within_the_limit(small: Table, arm: str) -> None:
    key = key_of("trials", small, arm, 4)
    first = run(key, small)
    assert first == run(key, small)
    assert set(first.regrets) == {5, 10, 25}
    assert all(value >= 0 for value in first.regrets.values())


def test_asha_trains_as_many_networks_in_fewer_epochs(
    plain: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[list[SimulatedTrial]] = []

    def recorded(*arguments: Any, **options: Any) -> list[SimulatedTrial]:
        searches.append(simulate(*arguments, **options))
        return searches[-1]

    monkeypatch.setattr("quality.runs.simulate", recorded)
    asha, full = (run(key_of(clock, plain, "random", 0), plain) for clock in ("asha", "full"))
    assert set(asha.regrets) == set(full.regrets)
    assert min(asha.regrets.values()) >= 0
    assert len(searches[0]) == len(searches[1])
    fewer, more = (sum(trial.epochs for trial in found) for found in searches)
    assert fewer < more


def test_limit_rejects_larger_networks(small: Table) -> None:
    limited = Table(
        small.name,
        small.task,
        small.space,
        small.networks,
        small.key_of,
        limit=int(small.median_macs),
        space_options=small.space_options,
    )
    found = run(key_of("trials", limited, "random", 0), limited)
    assert max(found.regrets) <= len(limited.admissible) // 2 < len(small.networks) // 2
    assert min(found.regrets.values()) >= 0


# Results


def a_run(arm: str, seed: int, regret: float) -> Run:
    return Run(
        clock="trials",
        table="t",
        arm=arm,
        seed=seed,
        digest="d",
        version="1",
        regrets={25: regret},
    )


def test_summary_has_mean_error_and_paired_p_values(tmp_path: Path) -> None:
    runs = [a_run("random", seed, 1 + seed / 10) for seed in range(20)]
    runs += [a_run("tpe", seed, 0.5 + seed / 10) for seed in range(20)]
    base, better = summarise(runs)
    assert (base.arm, base.seeds, base.regret) == ("random", 20, pytest.approx(1.95))
    assert base.error == pytest.approx(np.std(np.arange(20) / 10, ddof=1) / math.sqrt(20))
    assert base.p_random is None
    assert better.p_random is not None
    assert better.p_random < 1e-4
    assert better.p_largest is None
    write_csv(tmp_path / "found.csv", [base, better])
    header, first, _ = (tmp_path / "found.csv").read_text().splitlines()
    assert header.startswith("clock,table,arm,budget,seeds,regret,error,p_random")
    assert first.startswith("trials,t,random,25,20,1.9500,0.1323,,")


def test_goals_compare_common_seeds() -> None:
    runs = [
        a_run(arm, seed, regret).model_copy(update={"regrets": {25: 3 * regret, 100: regret}})
        for arm, regret, seeds in (("auto", 0.1, 8), ("tpe", 0.2, 6), ("largest", 0.3, 6))
        for seed in range(seeds)
    ]
    found = {(each.figure, each.against): each for each in goals(runs)}
    at_25 = found["regret after 25 networks", "tpe"]
    assert (at_25.seeds, at_25.ours, at_25.reference) == (6, pytest.approx(0.3), pytest.approx(0.6))
    assert at_25.p is not None
    assert at_25.p < 0.05
    speed = found["networks to the regret of TPE after 100", "tpe"]
    # 0.2 lies half way between 0.3 and 0.1, which is the geometric mean of both budgets.
    assert (speed.ours, speed.reference, speed.goal) == (pytest.approx(50), 100, 25)


def test_curve_that_never_falls_that_far_takes_forever() -> None:
    assert first_below([(5, 0.3), (10, 0.2)], 0.1) == math.inf
    assert first_below([(5, 0.1), (10, 0.2)], 0.1) == 5


def test_floor_is_the_regret_of_the_best_seen_value() -> None:
    networks = {
        "fooled": Network({"width": 1}, 1, (9.0, 9.0), 2.0),
        "best": Network({"width": 2}, 1, (5.0, 5.0), 4.5),
    }
    table = Table("t", CIFAR10, inverted_residuals, networks, str)
    assert table.floor == pytest.approx(2.5)


def test_equal_regrets_are_no_difference() -> None:
    same = dict.fromkeys(range(5), 0.1)
    assert p_value(same, dict(same)) == 1.0
    assert p_value(same, {9: 0.1}) is None


def test_benchmark_continues_where_it_stopped(
    small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work.jsonl"
    keys = [key_of("trials", small, arm, 0) for arm in ("random", "tpe")]
    done = [Run(**key.model_dump(), regrets={25: 0.5}) for key in keys]
    lines = [each.model_dump_json() for each in done]
    work.write_text("\n".join([*lines, lines[0][:20]]))
    monkeypatch.setattr("search_quality.ProcessPoolExecutor", _Alone)
    arguments = ["--quick", "--work", str(work), "--arms", "random,tpe", "--processes", "1"]
    main([*arguments, "--seeds", "0"])
    assert work.read_text().splitlines() == lines
    main([*arguments, "--seeds", "0-1"])
    assert len(work.read_text().splitlines()) == 4


@pytest.mark.parametrize("changed", ["digest", "version"])
def test_run_of_another_table_or_arm_is_repeated(
    changed: str, small: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work.jsonl"
    key = key_of("trials", small, "random", 0).model_copy(update={changed: "older"})
    work.write_text(Run(**key.model_dump(), regrets={25: 99.0}).model_dump_json() + "\n")
    monkeypatch.setattr("search_quality.ProcessPoolExecutor", _Alone)
    arguments = ["--quick", "--work", str(work), "--arms", "random", "--seeds", "0"]
    main(arguments)
    again = Run.model_validate_json(work.read_text().splitlines()[1])
    assert again.regrets[25] < 99


def test_table_has_another_digest_after_any_change(small: Table) -> None:
    key, network = next(iter(small.networks.items()))
    changed = {**small.networks, key: replace(network, truth=network.truth + 0.01)}
    assert replace(small, networks=changed).digest != small.digest
    assert replace(small, limit=7).digest != small.digest
    assert constructed().digest == small.digest


def test_working_file_has_one_writer(tmp_path: Path) -> None:
    work = tmp_path / "work.jsonl"
    with work.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match="another process writes to it"):
            main(["--quick", "--work", str(work), "--arms", "random", "--seeds", "0"])


class _Alone:
    """An executor in this process, which takes a fraction of a second to start."""

    def __init__(self, processes: int, **options: Any) -> None:
        self._pool = ThreadPoolExecutor(processes)

    def __enter__(self) -> Any:
        return self._pool

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tables", "imagenet"], "--tables = imagenet: unknown table"),
        (["--data", "nowhere", "--tables", "nas-bench-macro"], "cannot be read"),
    ],
)
def test_unknown_tables_are_refused(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_quality.ProcessPoolExecutor", _Alone)
    with pytest.raises(BadInputError, match=line):
        main(
            ["--work", str(tmp_path / "work.jsonl"), "--arms", "random", "--seeds", "0", *arguments]
        )


def test_random_arm_draws_as_a_random_sampler() -> None:
    assert isinstance(ARMS["random"].options(constructed(), 0)["sampler"], RandomSampler)
