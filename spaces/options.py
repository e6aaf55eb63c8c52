"""Draw one value of a candidate from what the experiment file says about it.

Everywhere in an experiment file a single value fixes a quantity; ``[low, high]`` searches a range
and a list of choices searches those. Fixed quantities are not parameters of the study.

These functions run some twenty times for every candidate: types are compared exactly because
that is several times faster than an isinstance against an abstract class.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TypeAlias, TypeVar, cast

from optuna.trial import BaseTrial

from spaces.errors import BadInputError

IntRange: TypeAlias = int | Sequence[int]
FloatRange: TypeAlias = float | Sequence[float]
T = TypeVar("T", int, float, str, bool)
Choices: TypeAlias = T | Sequence[T]


def draw_int(
    trial: BaseTrial,
    name: str,
    option: IntRange,
    *,
    field: str,
    minimum: int = 1,
    log: bool = False,
) -> int:
    """Draw a whole number.

    Args:
        trial: what draws (or replays) the value.
        name: the parameter's name in the study.
        option: a number, or the lowest and the highest.
        field: what the user calls ``option``.
        minimum: the lowest value that makes sense.
        log: draw so that equal ratios are equally likely.

    Raises:
        BadInputError: the option is not a number or a range, or lies under the minimum.
    """
    low, high = _ends(option, (int,), field, "whole number")
    if low < minimum:
        raise BadInputError(field, option, f"{low} is under {minimum}", f"use {minimum} or more")
    return low if type(option) is int else trial.suggest_int(name, low, high, log=log)


def draw_float(
    trial: BaseTrial,
    name: str,
    option: FloatRange,
    *,
    field: str,
    log: bool = False,
) -> float:
    """Draw a real number that is not negative (with ``log``, of a range: positive).

    See `draw_int` for the arguments and errors.
    """
    low, high = _ends(option, (float, int), field, "number")
    fixed = type(option) in (float, int)
    if not (isfinite(low) and isfinite(high)):
        raise BadInputError(field, option, "is not finite", "use finite numbers")
    if low < 0 or (log and low == 0 and not fixed):
        problem = f"{low:g} is not {'positive' if log else '0 or more'}"
        raise BadInputError(field, option, problem, "raise the lower end")
    return low if fixed else trial.suggest_float(name, low, high, log=log)


def draw_choice(trial: BaseTrial, name: str, option: Choices[T], *, field: str) -> T:
    """Draw one of several values.

    See `draw_int` for the arguments and errors.
    """
    if type(option) in (int, float, str, bool):
        return cast("T", option)
    if not isinstance(option, Sequence) or not option:
        raise BadInputError(field, option, "is no choice", "use one value or a list of values")
    return trial.suggest_categorical(name, option)


N = TypeVar("N", int, float)


def _ends(
    option: N | Sequence[N], kinds: tuple[type[N], ...], field: str, expected: str
) -> tuple[N, N]:
    """Return (low, high) of a number or a range, or say what is wrong with it."""
    if type(option) in kinds:
        return cast("N", option), cast("N", option)
    try:
        low, high = cast("Sequence[N]", option)
    except (TypeError, ValueError):
        low = high = cast("N", None)
    if type(low) not in kinds or type(high) not in kinds:
        raise BadInputError(
            field, option, "is not a range of numbers", f"use one {expected} or [low, high]"
        )
    if not low <= high:
        problem = f"low <= high must hold, but got low={low}, high={high}"
        raise BadInputError(field, option, problem, "swap the two")
    return low, high
