"""Draws one value of a candidate from an option of the experiment file.

In an experiment file, a single value fixes a quantity, ``[low, high]`` searches a range, and a list
searches its choices. Fixed quantities are not parameters of the study.

These functions run about twenty times per candidate. They compare types exactly, which is several
times faster than isinstance with an abstract class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from typing import TypeAlias, TypeVar, cast

from optuna.trial import BaseTrial

from spaces.errors import BadInputError

IntRange: TypeAlias = int | Sequence[int]
FloatRange: TypeAlias = float | Sequence[float]
T = TypeVar("T", int, float, str, bool)
Choices: TypeAlias = T | Sequence[T]

PerPart: TypeAlias = Choices[T] | Mapping[str, object]
"""Choices for the whole network, or ``{per: layer, choices: [3, 5]}`` for each of its parts."""

_SINGLE = (int, float, str, bool)
_LARGEST = 2**53
"""Samplers draw integers as floats, which are exact up to here."""


def draw_int(
    trial: BaseTrial,
    name: str,
    option: IntRange,
    *,
    field: str,
    minimum: int = 1,
    matters_to: int | None = None,
    log: bool = False,
) -> int:
    """Draw an integer.

    Args:
        trial: suggests or replays the value.
        name: name of the parameter in the study.
        option: a number, or its lower and upper bound.
        field: name of the option in the experiment file.
        minimum: lowest valid value.
        matters_to: upper bound of ranges, because higher values are equivalent.
        log: draw on a logarithmic scale.

    Raises:
        BadInputError: the option is not a number or a range, is below the minimum, or is too
            large to be drawn exactly.

    Example:
        >>> from optuna.trial import FixedTrial
        >>> draw_int(FixedTrial({"depth": 7}), "depth", (2, 12), field="space.depth")
        7
        >>> draw_int(FixedTrial({}), "depth", 5, field="space.depth")
        5
    """
    low, high = _ends(option, (int,), field, "whole number")
    if low < minimum:
        raise BadInputError(field, option, f"{low} is under {minimum}", f"use {minimum} or more")
    if high > _LARGEST:
        raise BadInputError(field, option, "is too large", "use a smaller number")
    if matters_to is not None and high > matters_to:
        high = max(low, matters_to)
    return low if low == high else trial.suggest_int(name, low, high, log=log)


def draw_float(
    trial: BaseTrial,
    name: str,
    option: FloatRange,
    *,
    field: str,
    minimum: float = 0.0,
    maximum: float = inf,
    below: float = inf,
    positive: bool = False,
    log: bool = False,
) -> float:
    """Draw a float, by default at least 0; with ``log`` a range must be positive.

    See `draw_int` for the other arguments and the errors.

    Args:
        trial: suggests or replays the value.
        name: name of the parameter in the study.
        option: a number, or its lower and upper bound.
        field: name of the option in the experiment file.
        minimum: lowest valid value.
        maximum: highest valid value.
        below: exclusive upper limit.
        positive: refuse 0.
        log: draw on a logarithmic scale.
    """
    ends = _ends(option, (float, int), field, "number")
    try:
        low, high = float(ends[0]), float(ends[1])
    except OverflowError:
        low = high = inf
    fixed = type(option) in (float, int)
    if not (isfinite(low) and isfinite(high)):
        raise BadInputError(field, option, "is not finite", "use finite numbers")
    positive = positive or (log and not fixed)
    if low < minimum or (positive and low == 0):
        problem = f"{low:g} is not {'positive' if positive else f'{minimum:g} or more'}"
        remedy = "raise the lower end"
        if fixed:
            remedy = "use a number above 0" if positive else f"use {minimum:g} or more"
        raise BadInputError(field, option, problem, remedy)
    if high > maximum:
        raise BadInputError(field, option, f"{high:g} is over {maximum:g}", "use less")
    if high >= below:
        raise BadInputError(field, option, f"{high:g} is {below:g} or more", "use less")
    # Optuna may return a numpy number, whose repr would change the digest.
    return low if fixed else float(trial.suggest_float(name, low, high, log=log))


def draw_choice(trial: BaseTrial, name: str, option: Choices[T], *, field: str) -> T:
    """Draw one of several values.

    See `draw_int` for the arguments and errors.
    """
    if type(option) in _SINGLE:
        return cast("T", option)
    if not isinstance(option, (list, tuple)) or not option:
        raise BadInputError(field, option, "is no choice", "use one value or a list of values")
    for value in option:
        if type(value) not in _SINGLE:
            raise BadInputError(field, option, f"{value} is no single value", "use a flat list")
    return cast("T", trial.suggest_categorical(name, option))


def draw_name(
    trial: BaseTrial, name: str, option: Choices[str], known: Sequence[str], *, field: str
) -> str:
    """Draw one of several known names.

    See `draw_int` for the other arguments and the errors.

    Args:
        trial: suggests or replays the value.
        name: name of the parameter in the study.
        option: a name or a list of names.
        known: valid names.
        field: name of the option in the experiment file.
    """
    drawn = draw_choice(trial, name, option, field=field)
    for value in choices(option):
        if value not in known:
            problem = f"{value} is unknown"
            raise BadInputError(field, option, problem, f"use {', '.join(known)}")
    return drawn


def draw_kernel(
    trial: BaseTrial, option: Choices[int], *, name: str = "kernel", field: str = "space.kernel"
) -> int:
    """Draw the size of a square kernel; it must be odd so that padding can keep the map's size.

    See `draw_int` for the arguments and errors.
    """
    drawn = draw_choice(trial, name, option, field=field)
    for size in choices(option):
        if type(size) is not int or size < 1 or size % 2 == 0:
            problem = f"{size} is not an odd size"
            raise BadInputError(field, option, problem, "use 1, 3, 5, ..")
    return drawn


def draw_per(
    option: PerPart[T], part: str, name: str, *, field: str, draw: Callable[[str, Choices[T]], T]
) -> Callable[[int], list[T]]:
    """Draw one value for all parts of a network, or one for each part.

    A value for all parts is drawn at once, as parameter ``name``; values for each part are drawn
    when their number is known, as ``name_1``, ``name_2`` and so on.

    Args:
        option: choices for all parts, or ``{per: PART, choices: [..]}``.
        part: what the family draws values for: ``layer``, ``stage`` or ``block``.
        name: name of the parameter in the study.
        field: name of the option in the experiment file.
        draw: draws a value from the name of a parameter and its choices.

    Returns:
        A function that returns the values from the number of parts.

    Raises:
        BadInputError: the option is neither, or names another part.

    Example:
        >>> from optuna.trial import FixedTrial
        >>> trial = FixedTrial({"kernel_1": 3, "kernel_2": 5})
        >>> draw_per(
        ...     {"per": "layer", "choices": [3, 5]},
        ...     "layer",
        ...     "kernel",
        ...     field="space.kernel",
        ...     draw=lambda name, choices: draw_kernel(trial, choices, name=name),
        ... )(2)
        [3, 5]
    """
    if not isinstance(option, Mapping):
        shared = draw(name, option)
        return lambda count: [shared] * count
    remedy = f"write {{per: {part}, choices: [..]}}"
    if set(option) != {"per", "choices"}:
        remedy = f"use one value, a list of values, or {{per: {part}, choices: [..]}}"
        raise BadInputError(field, option, "is no choice", remedy)
    if option["per"] != part:
        problem = f"draws per {part}, not per {option['per']!r}"
        raise BadInputError(field, option, problem, remedy)
    wanted = option["choices"]
    if not isinstance(wanted, (list, tuple)) or not wanted:
        raise BadInputError(field, option, "has no list of choices", remedy)
    return lambda count: [draw(f"{name}_{number}", wanted) for number in range(1, count + 1)]


def draw_kernels(trial: BaseTrial, option: PerPart[int], part: str) -> Callable[[int], list[int]]:
    """Draw the kernel size of all parts or of each; see `draw_per` and `draw_kernel`."""
    return draw_per(
        option,
        part,
        "kernel",
        field="space.kernel",
        draw=lambda name, sizes: draw_kernel(trial, sizes, name=name),
    )


def choices(option: Choices[T]) -> Sequence[T]:
    """Return all values that `draw_choice` can draw."""
    return cast("Sequence[T]", (option,) if type(option) in _SINGLE else option)


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


N = TypeVar("N", int, float)


def _ends(
    option: N | Sequence[N], kinds: tuple[type[N], ...], field: str, expected: str
) -> tuple[N, N]:
    """Return (low, high) of a number or a range.

    Raises:
        BadInputError: the option is neither.
    """
    if type(option) in kinds:
        return cast("N", option), cast("N", option)
    known = option if isinstance(option, (list, tuple)) and len(option) == 2 else (None, None)
    low, high = cast("Sequence[N]", known)
    if type(low) not in kinds or type(high) not in kinds:
        if isinstance(option, str) and _is_number(option):
            raise BadInputError(field, option, "is text", "remove the quotes")
        remedy = f"use one {expected} or [low, high]"
        raise BadInputError(field, option, "is not a range of numbers", remedy)
    if not low <= high:
        problem = f"low <= high must hold, but got low={low}, high={high}"
        raise BadInputError(field, option, problem, "swap the two")
    return low, high
