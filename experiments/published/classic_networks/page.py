"""The page of the experiment ``classic_networks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

from experiments.published.classic_networks.published import (
    ACTIVATIONS,
    AUGMENTATIONS,
    BASE,
    NETWORKS,
    NORMS,
    WITHOUT_ERASING,
)
from experiments.published.networks import CIFAR10, narrowed
from experiments.published.summaries import (
    UNKNOWN,
    accuracies,
    by_case,
    is_beyond_chance,
    paired,
    percent,
    point,
    points,
    rank_correlation,
    rank_correlation_p,
)
from experiments.reproduction.records import Chart, Page, Point, Result, Section, Series, Table
from spaces.costs import costs

Groups = Mapping[str, Sequence[Result]]


def describe(results: Sequence[Result]) -> Page:
    """Return the page about these results."""
    groups = by_case(results)
    scatter = _scatter(_trained(groups))
    return Page(
        answer=_answer(groups),
        comparison=_comparison(groups),
        sections=(
            _networks(groups, scatter),
            _options(
                "Activations", "activation", ACTIVATIONS, _option_cases(ACTIVATIONS, "relu"), groups
            ),
            _options("Norms", "norm", NORMS, _option_cases(NORMS, "batch"), groups),
            _options(
                "Augmentations",
                "augmentation",
                AUGMENTATIONS,
                _option_cases(AUGMENTATIONS, "none"),
                groups,
            ),
            _erasing(groups),
            _schedules(groups),
        ),
        picture=scatter if scatter.series else None,
    )


def _option_cases(values: Mapping[str, float], default: str) -> dict[str, str]:
    """Return the name of the case of each value; the default is the base network."""
    return {value: BASE if value == default else f"{BASE} {value}" for value in values}


def _trained(groups: Groups) -> dict[str, Sequence[Result]]:
    """Return the results of the networks that are trained with erasing, by their names."""
    cases = {name: f"{name} erasing" for name in NETWORKS}
    return {name: groups[case] for name, case in cases.items() if case in groups}


def _answer(groups: Groups) -> tuple[str, ...]:
    trained = _trained(groups)
    if not trained:
        return ("None of the seven networks is finished yet.",)
    sentences = []
    means = {name: fmean(accuracies(group)) for name, group in trained.items()}
    pairs = [(NETWORKS[name].valid, mean) for name, mean in means.items()]
    correlation = rank_correlation(pairs)
    if correlation is not None:
        seeds = _correlations_by_seed(trained)
        text = f" ({', '.join(f'{each:.2f}' for each in seeds)} for single seeds)" if seeds else ""
        sentences.append(
            f"The rank correlation of measured and published accuracy over {len(pairs)} networks "
            f"is {correlation:.2f}{text}. {_chance(pairs)}"
        )
        sentences.append(_surviving(trained, means))
    best = max(means, key=means.__getitem__)
    published_best = max(means, key=lambda name: NETWORKS[name].valid)
    sentences.append(
        f"The best measured network is {best} ({percent(accuracies(trained[best]))}); the "
        f"best published one of the same networks is {published_best} "
        f"({NETWORKS[published_best].valid:.2f} %)."
    )
    for what, values, default in (
        ("activations", ACTIVATIONS, "relu"),
        ("norms", NORMS, "batch"),
        ("augmentations", AUGMENTATIONS, "none"),
    ):
        known = [
            (values[value], fmean(accuracies(groups[case])))
            for value, case in _option_groups(values, default, groups).items()
        ]
        own = rank_correlation(known)
        if own is not None:
            sentences.append(
                f"Over {len(known)} {what} of {BASE}, the rank correlation is {own:.2f}. "
                f"{_chance(known)}"
            )
    return tuple(sentences)


def _chance(pairs: Sequence[tuple[float, float]]) -> str:
    p_value = rank_correlation_p(pairs)
    verdict = "" if p_value < 0.05 else ", so it can be chance"
    return f"The exact two-sided p-value is {p_value:.2g}{verdict}."


def _option_groups(values: Mapping[str, float], default: str, groups: Groups) -> dict[str, str]:
    cases = _option_cases(values, default)
    return {value: case for value, case in cases.items() if case in groups}


def _correlations_by_seed(trained: Groups) -> list[float]:
    """Return the rank correlation of each seed with which all these networks are trained."""
    by_seed: dict[int, dict[str, float]] = {}
    for name, group in trained.items():
        for each in group:
            by_seed.setdefault(each.outcome.seed, {})[name] = each.outcome.test_accuracy
    found = [
        rank_correlation([(NETWORKS[name].valid, value) for name, value in measured.items()])
        for measured in by_seed.values()
        if len(measured) == len(trained)
    ]
    return [each for each in found if each is not None]


def _surviving(trained: Groups, means: Mapping[str, float]) -> str:
    """Say how many pairs of networks keep their order, and how many differ beyond noise."""
    kept = clear = clear_kept = 0
    pairs = list(combinations(means, 2))
    for one, other in pairs:
        same = (NETWORKS[one].valid > NETWORKS[other].valid) == (means[one] > means[other])
        kept += same
        differences = paired(trained[one], trained[other])
        if is_beyond_chance(differences):
            clear += 1
            clear_kept += same
    return (
        f"{kept} of {len(pairs)} pairs of networks have the published order. {clear} pairs differ "
        f"by a t test over seeds (paired, two-sided, level 5 %, for each pair alone); {clear_kept} "
        "of these have the published order."
    )


def _ranks(values: Mapping[str, float]) -> dict[str, int]:
    """Return the rank of each name; 1 for the largest value."""
    ordered = sorted(values, key=values.__getitem__, reverse=True)
    return {name: rank for rank, name in enumerate(ordered, 1)}


def _comparison(groups: Groups) -> Table:
    trained = _trained(groups)
    published = _ranks({name: NETWORKS[name].valid for name in trained})
    measured = _ranks({name: fmean(accuracies(group)) for name, group in trained.items()})
    rows = []
    for name in sorted(trained, key=published.__getitem__):
        numbers, group = NETWORKS[name], trained[name]
        rows.append(
            (
                name,
                f"{numbers.train:.2f} %",
                percent([each.outcome.train_accuracy for each in group]),
                f"{numbers.valid:.2f} %",
                percent(accuracies(group)),
                str(published[name]),
                str(measured[name]),
            )
        )
    return Table(
        (
            "network",
            "train, published",
            "train, measured",
            "validation, published",
            "test, measured",
            "rank, published",
            "rank, measured",
        ),
        tuple(rows),
        "All with random erasing. Numbers are means and standard deviations over seeds.",
    )


def _parameters(trained: Groups) -> Table:
    rows = [
        (
            name,
            f"{NETWORKS[name].params:.2f}",
            f"{costs(narrowed(NETWORKS[name].builder, CIFAR10, 1)).params / 1e6:.3f}",
            f"{group[0].outcome.params / 1e6:.3f}",
            f"{group[0].outcome.macs / 1e6:.1f}",
        )
        for name, group in trained.items()
    ]
    return Table(
        (
            "network",
            "million parameters, published",
            "our network of full width",
            "trained network",
            "million MACs of the trained network",
        ),
        tuple(rows),
    )


def _scatter(trained: Groups) -> Chart:
    return Chart(
        title="Published and measured accuracy",
        x_label="published validation accuracy in percent",
        y_label="measured test accuracy",
        series=tuple(
            Series(
                name,
                (point(NETWORKS[name].valid, values, name),),
                joined=False,
            )
            for name, group in trained.items()
            if (values := accuracies(group))
        ),
        percent=True,
    )


def _networks(groups: Groups, scatter: Chart) -> Section:
    trained = _trained(groups)
    progress = Chart(
        title="Accuracy during the training",
        x_label="epoch",
        y_label="accuracy on validation images",
        series=tuple(Series(name, _by_epoch(group)) for name, group in trained.items()),
        percent=True,
    )
    parameters = Chart(
        title="Accuracy over parameters",
        x_label="parameters of the trained network",
        y_label="measured test accuracy",
        series=tuple(
            Series(
                name,
                (point(group[0].outcome.params, values, name),),
                joined=False,
            )
            for name, group in trained.items()
            if (values := accuracies(group))
        ),
        percent=True,
        x_log=True,
    )
    return Section(
        "Seven networks",
        (
            "In the first figure, networks rise from left to right if the published order holds. "
            "Error bars are standard deviations over seeds.",
            "Training accuracy is that of the augmented images during the last epoch.",
        ),
        (scatter, progress, parameters, _parameters(trained)),
    )


def _by_epoch(group: Sequence[Result]) -> tuple[Point, ...]:
    histories = [each.outcome.validation_accuracies for each in group]
    return tuple(
        point(epoch, values, f"epoch {epoch}")
        for epoch, values in enumerate(zip(*histories, strict=False), 1)
    )


def _options(
    heading: str,
    column: str,
    published: Mapping[str, float],
    cases: Mapping[str, str],
    groups: Groups,
) -> Section:
    """Return the table of the values of one option of the base network."""
    base = published[next(iter(published))]
    rows = [
        (
            value,
            f"{number:.2f} %",
            percent(accuracies(groups[cases[value]])),
            f"{number - base:+.1f}" if cases[value] != BASE else UNKNOWN,
            points(paired(groups[cases[value]], groups.get(BASE, ())))
            if cases[value] != BASE
            else UNKNOWN,
        )
        for value, number in published.items()
        if cases[value] in groups
    ]
    header = (
        column,
        "validation, published",
        "test, measured",
        "difference, published",
        "difference, measured",
    )
    caption = (
        f"Of {BASE}. Differences are percentage points relative to the first row; measured ones "
        "seed by seed."
    )
    return Section(heading, (), (Table(header, tuple(rows), caption),))


def _erasing(groups: Groups) -> Section:
    rows = []
    for name, without in WITHOUT_ERASING.items():
        erased = f"{name} erasing"
        if name in groups and erased in groups:
            rows.append(
                (
                    name,
                    f"{NETWORKS[name].valid - without:+.1f}",
                    points(paired(groups[erased], groups[name])),
                )
            )
    return Section(
        "Random erasing",
        ("Published: erasing helps VGG16 and ConvMixer, and costs ResNet18 little.",),
        (
            Table(
                ("network", "gain, published", "gain, measured"),
                tuple(rows),
                "Percentage points of accuracy with erasing relative to without, seed by seed.",
            ),
        ),
    )


def _schedules(groups: Groups) -> Section:
    names = {"cosine": BASE, "multi-step": f"{BASE} multi-step"}
    known = {name: groups[case] for name, case in names.items() if case in groups}
    rows = [(name, percent(accuracies(group))) for name, group in known.items()]
    if len(known) == len(names):
        difference = points(paired(known["multi-step"], known["cosine"]))
        rows.append(("multi-step relative to cosine, percentage points", difference))
    chart = Chart(
        title=f"{BASE} with two schedules",
        x_label="epoch",
        y_label="accuracy on validation images",
        series=tuple(Series(name, _by_epoch(group)) for name, group in known.items()),
        percent=True,
    )
    return Section(
        "Schedules",
        ("The published tables use both schedules, without a comparison.",),
        (Table(("schedule", "test, measured"), tuple(rows), f"Of {BASE}."), chart),
    )
