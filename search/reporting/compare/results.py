"""The accuracies of the arms of a comparison, and whether their differences exceed chance."""

from __future__ import annotations

from collections.abc import Sequence

from search.reporting.compare.arm import Arm
from search.reporting.compare.comparability import comparable, obstacle
from search.reporting.intervals import CONFIDENCE, wilson
from search.reporting.rendering import Section
from search.study.significance import Comparison, compare

_HEADER = (
    "search",
    "state",
    "best validation",
    "95%",
    "trial",
    "test accuracy",
    "95%",
    "seeds",
    "test, minus the first",
    "better or worse",
)


def difference(first: Arm, other: Arm) -> Comparison | None:
    """Compare the winners of two arms on the same test images.

    Returns:
        The other winner minus the first; None if the images differ, or predictions are unknown.
    """
    if obstacle(first, other) or first.right is None or other.right is None:
        return None
    if first.right.shape[1:] != other.right.shape[1:]:
        return None
    return compare(other.right, first.right, (1 - CONFIDENCE) / 2)


def results_section(arms: Sequence[Arm]) -> Section:
    """Show validation and test accuracies with their spread, and differences to the first arm."""
    sentences = (
        "Best validation is that of the best complete trial; a search chooses it, so it is too "
        "high. Test accuracy is the mean of the first finalist over fresh seeds, with the standard "
        "deviation. A difference counts images and seeds as chance; its 95% interval is in "
        "brackets.",
    )
    rows = tuple(_row(arms[0], arm) for arm in arms)
    return Section("Results", sentences, _HEADER, rows)


def headline(arms: Sequence[Arm]) -> str:
    """Say which arm is the most accurate on test, and how sure that is."""
    first, alike = arms[0], comparable(arms)
    if len(alike) == 1:
        reasons = dict.fromkeys(obstacle(first, arm) for arm in arms[1:])
        return f"No search can be compared with {first.name}: {'; '.join(reasons)}."
    tested = [arm for arm in alike if arm.finalists]
    if len(tested) < 2:
        return "Fewer than two of the comparable searches have finalists: compare validation only."
    best = max(tested, key=lambda arm: arm.finalists[0].test_accuracy[0])
    said = f"{best.name} has the highest test accuracy, {best.finalists[0].shown}"
    rivals = [arm for arm in tested if arm is not best]
    found = {arm.name: difference(arm, best) for arm in rivals}
    unsure = [name for name, each in found.items() if each is None or not each.is_better]
    if not unsure:
        return f"{said}; it exceeds every other comparable search beyond chance."
    return f"{said}; chance may explain its distance from {', '.join(unsure)}."


def _row(first: Arm, arm: Arm) -> tuple[str, ...]:
    best, data = arm.summary.best, arm.data
    accuracy = best.accuracy if best is not None else None
    images = data.validation_images if data is not None else 0
    finalist = arm.finalists[0] if arm.finalists else None
    tests = data.split_images(2) if data is not None else 0
    return (
        arm.name,
        arm.state,
        "-" if accuracy is None else f"{accuracy:.4f}",
        "-" if accuracy is None or not images else str(wilson(accuracy, images)),
        "-" if best is None else str(best.number),
        "-" if finalist is None else finalist.shown,
        "-" if finalist is None or not tests else str(wilson(finalist.test_accuracy[0], tests)),
        "-" if finalist is None else str(len(finalist.results)),
        *_difference(first, arm),
    )


def _difference(first: Arm, arm: Arm) -> tuple[str, str]:
    if arm is first:
        return "-", "-"
    if obstacle(first, arm):
        return "-", "not comparable"
    found = difference(first, arm)
    if found is None:
        return "-", "unknown"
    shown = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    if found.low > 0 or found.high < 0:
        return shown, "better" if found.low > 0 else "worse"
    return shown, "chance may explain it"
