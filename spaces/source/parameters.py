"""Finds the parameters of a class from the values that its instances differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from spaces.source.forms import CHANNELS, Value, literal

Values = Sequence[Value | None]
"""A value for each instance; None where an instance lacks the layer."""

_LITERAL_CHANNELS = 3
"""Numbers of channels that are written as they are: one gate, one mean and one maximum."""
_FACTORS = (2, 3, 4, 6, 8)
_DIVISORS = (2, 4, 8, 16, 32)


_POSITIONAL = ("channels", "in_channels", "out_channels")


class UnclearError(Exception):
    """A parameter would have no value for an instance that lacks the layer."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a class.

    Attributes:
        name: in the code.
        kind: of its slots.
        values: for each instance.
        default: value that calls omit; None if they always pass it.
    """

    name: str
    kind: str
    values: tuple[Value, ...]
    default: Value | None = None

    @property
    def declared(self) -> str:
        """The parameter in the signature."""
        types = {_type(value) for value in self.values}
        annotation = " | ".join(sorted(types))
        given = "" if self.default is None else f" = {literal(self.default)}"
        return f"{self.name}: {annotation}{given}"

    def passed(self, expression: str) -> str | None:
        """Return the argument of a call; None if the default applies."""
        if self.default is not None:
            if expression == literal(self.default):
                return None
            return f"{self.name}={expression}"
        if self.kind == CHANNELS and self.name in _POSITIONAL:
            return expression
        return f"{self.name}={expression}"


def _type(value: Value) -> str:
    if isinstance(value, tuple):
        return f"tuple[{', '.join(['int'] * len(value))}]"
    return type(value).__name__


@dataclass
class Parameters:
    """Resolves the slots of a class to literals, parameters and simple expressions of them.

    Attributes:
        seeds: parameters that may be used, such as the channels of the input.
        new_name: name of the first number of channels that no seed explains.
    """

    seeds: list[Parameter]
    new_name: str = "hidden"
    _used: list[Parameter] = field(default_factory=list)

    def resolve(self, kind: str, values: Values, hint: str = "") -> str:
        """Return the expression of a slot.

        Args:
            kind: of the slot.
            values: of the slot.
            hint: name of a parameter of the class that the slot belongs to.

        Raises:
            UnclearError: see there.
        """
        return self._channels(values, hint) if kind == CHANNELS else self._other(kind, values)

    def used(self) -> list[Parameter]:
        """Return the parameters in the order of the signature."""
        seeds = [seed for seed in self.seeds if seed in self._used]
        others = [each for each in self._used if each not in self.seeds]
        return sorted([*seeds, *others], key=lambda each: each.default is not None)

    def _known(self) -> list[Parameter]:
        return [*self.seeds, *(each for each in self._used if each not in self.seeds)]

    def _use(self, parameter: Parameter) -> str:
        if parameter not in self._used:
            self._used.append(parameter)
        return parameter.name

    def _channels(self, values: Values, hint: str) -> str:
        known = [each for each in self._known() if each.kind == CHANNELS]
        for each in known:
            if _equal(each.values, values):
                return self._use(each)
        given = {value for value in values if value is not None}
        if len(given) == 1 and (single := next(iter(given))) <= _LITERAL_CHANNELS:  # type: ignore[operator]
            return literal(single)
        for each in known:
            if len(set(each.values)) < 2 and each.name != "growth":
                continue
            for factor in _FACTORS:
                if _equal([factor * value for value in each.values], values):
                    return f"{factor} * {self._use(each)}"
            for divisor in _DIVISORS:
                if all(value % divisor == 0 for value in each.values) and _equal(  # type: ignore[operator]
                    [value // divisor for value in each.values],  # type: ignore[operator]
                    values,
                ):
                    return f"{self._use(each)} // {divisor}"
        name = self.new_name if hint in ("", *_POSITIONAL) else hint
        return self._new(name, CHANNELS, values, given.pop() if len(given) == 1 else None)

    def _other(self, kind: str, values: Values) -> str:
        given = [value for value in values if value is not None]
        known = [each for each in self._known() if each.kind == kind]
        if len(given) < len(values):
            for each in known:
                if _equal(each.values, values):
                    return self._use(each)
        if len(set(given)) == 1:
            return literal(given[0])
        for each in known:
            if _equal(each.values, values):
                return self._use(each)
        common = Counter(given).most_common(1)[0][0]
        default = 1 if kind in ("stride", "dilation") and 1 in given else common
        return self._new(kind, kind, values, default)

    def _new(self, name: str, kind: str, values: Values, default: Value | None) -> str:
        if any(value is None for value in values):
            raise UnclearError
        taken = {each.name for each in self._known()}
        number = 1
        while (numbered := name if number == 1 else f"{name}{number}") in taken:
            number += 1
        complete = tuple(value for value in values if value is not None)
        return self._use(Parameter(numbered, kind, complete, default))


def _equal(known: Values, values: Values) -> bool:
    return all(value is None or each == value for each, value in zip(known, values, strict=True))


def seeds(entry: Values, leaving: Values, growth: Values | None = None) -> list[Parameter]:
    """Return the channels of a block's input and output as possible parameters."""
    first = tuple(value for value in entry if value is not None)
    last = tuple(value for value in leaving if value is not None)
    if growth is not None:
        grown = tuple(value for value in growth if value is not None)
        return [
            Parameter("in_channels", CHANNELS, first),
            Parameter("growth", CHANNELS, grown),
        ]
    if first == last:
        return [Parameter("channels", CHANNELS, first)]
    return [
        Parameter("in_channels", CHANNELS, first),
        Parameter("out_channels", CHANNELS, last),
    ]
