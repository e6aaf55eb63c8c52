"""What the arms of a comparison cost, and what each needed for the same accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from search.formatting import duration
from search.reporting.compare.arm import Arm
from search.reporting.compare.curves import common_accuracy, reached
from search.reporting.rendering import Section
from search.study.records import TrialRecord


def costs_section(arms: Sequence[Arm]) -> Section:
    """Show trials, epochs and times of each arm, and the costs of its best network."""
    header = (
        *("search", "trained", "complete", "stopped early", "failed", "rejected", "epochs"),
        *("device time", "time of drivers", "predicted time saved", "params", "MMACs"),
    )
    sentence = "Params and MMACs are those of the first finalist, or else of the best trial."
    return Section("Costs", (sentence,), header, tuple(_costs(arm) for arm in arms))


def equal_accuracy_section(arms: Sequence[Arm]) -> Section:
    """Show what each arm needed to reach the highest accuracy that all of them reached.

    Args:
        arms: that can be compared.
    """
    heading, target = "Time to equal accuracy", common_accuracy(arms)
    if len(arms) < 2:
        return Section(heading, ("Only one search can be compared.",))
    if target is None:
        return Section(heading, ("A search has no complete trial yet.",))
    steps = [(arm, reached(arm, target)) for arm in arms]
    first = steps[0][1]
    rows = tuple(
        (
            arm.name,
            str(step.trials),
            duration(step.device_seconds),
            f"{step.device_seconds / first.device_seconds:.2f}"
            if first is not None and first.device_seconds
            else "-",
        )
        for arm, step in steps
        if step is not None
    )
    sentence = f"All searches reached a validation accuracy of {target:.4f}."
    header = ("search", "trials", "device time", f"relative to {arms[0].name}")
    return Section(heading, (sentence,), header, rows)


def _costs(arm: Arm) -> tuple[str, ...]:
    summary, best = arm.summary, _best(arm)
    saved = summary.savings.total
    return (
        arm.name,
        f"{summary.trained:,}",
        f"{summary.complete:,}",
        f"{summary.pruned:,}",
        f"{summary.failed:,}",
        f"{summary.rejected:,}",
        f"{sum(record.epochs for record in arm.ended):,}",
        duration(arm.device_seconds),
        duration(arm.driver_seconds),
        saved.shown if summary.savings.by_reason else "-",
        "-" if best is None or best.param_count is None else f"{best.param_count:,}",
        "-" if best is None or best.macs is None else f"{best.macs / 1e6:,.2f}",
    )


def _best(arm: Arm) -> TrialRecord | None:
    if not arm.finalists:
        return arm.summary.best
    number = arm.finalists[0].number
    return next((TrialRecord.of(each) for each in arm.trials if each.number == number), None)
