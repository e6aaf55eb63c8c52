"""The trial that a space function receives: it suggests values and refuses everything else."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial

from spaces.errors import BadInputError
from spaces.suggestions.stored_choices import StoredChoices, check_text

_LONGEST_NAME = 512
"""Characters of a parameter's name that a database server stores."""
_LARGEST = 2**53
"""Studies store integers as floats, which are exact up to here."""


class CheckedTrial(BaseTrial):
    """Passes suggestions on to a trial, and refuses what a study would misread.

    A candidate is rebuilt from its parameters in other processes, so a space may use suggested
    values alone. `refused` keeps the first error, because a space function may catch it.

    Args:
        trial: suggests or replays the values.
        space: name of the space, for errors.
        reserved: names of parameters that the space must not suggest.

    Attributes:
        refused: the first error; None without one.

    Raises:
        BadInputError: (all methods) names the parameter and what to change.
    """

    def __init__(self, trial: BaseTrial, space: str, reserved: Collection[str]) -> None:
        self.refused: BadInputError | None = None
        self._trial = trial
        self._space = space
        self._reserved = reserved
        self._suggested: dict[str, tuple[object, ...]] = {}
        self._values: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a float."""
        self._check(name, "float", low, high, step, log)
        if not math.isfinite(high - low):
            self._refuse(f"suggests {name} from {low} to {high}", "use a finite range")
        value = float(self._trial.suggest_float(name, low, high, step=step, log=log))
        self._values[name] = value
        return value

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Suggest an integer."""
        self._check(name, "int", low, high, step, log)
        if not (low >= -_LARGEST and high <= _LARGEST):
            remedy = "use a range within 2**53, up to which integers are stored exactly"
            self._refuse(f"suggests {name} from {low} to {high}", remedy)
        if int(low) != low or int(high) != high or int(step) != step:
            problem = f"suggests {name} from {low} to {high} in steps of {step}"
            self._refuse(problem, "use whole numbers, or suggest_float")
        value = int(self._trial.suggest_int(name, int(low), int(high), step=int(step), log=log))
        self._values[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest a choice; see `spaces.suggestions.stored_choices.StoredChoices`."""
        try:
            known = StoredChoices(choices)
        except ValueError as error:
            self._refuse(
                f"suggests {name}, but {error}", "suggest text or numbers, or tuples of them"
            )
        self._check(name, "categorical", known.stored)
        value = known.restore(self._trial.suggest_categorical(name, known.stored))
        self._values[name] = value
        return value

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Suggest a float; Optuna's older name of `suggest_float`."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """Suggest a float on a logarithmic scale; Optuna's older name."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Suggest a multiple of ``q`` above ``low``; Optuna's older name."""
        return self.suggest_float(name, low, high, step=q)

    @property
    def params(self) -> dict[str, Any]:
        """The values suggested so far."""
        return dict(self._values)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Refused."""
        return self._refuse_use("distributions")

    @property
    def number(self) -> int:
        """Refused: the number of a rebuilt trial is another one."""
        return self._refuse_use("number")

    @property
    def user_attrs(self) -> dict[str, Any]:
        """Refused."""
        return self._refuse_use("user_attrs")

    @property
    def system_attrs(self) -> dict[str, Any]:
        """Refused."""
        return self._refuse_use("system_attrs")

    @property
    def datetime_start(self) -> Any:
        """Refused."""
        return self._refuse_use("datetime_start")

    @property
    def constraints(self) -> dict[str, float]:
        """Refused."""
        return self._refuse_use("constraints")

    def report(self, value: float, step: int) -> None:
        """Refused: the search reports epochs."""
        self._refuse_use("report")

    def should_prune(self) -> bool:
        """Refused: the scheduler stops trials."""
        return self._refuse_use("should_prune")

    def set_user_attr(self, key: str, value: Any) -> None:
        """Refused: the attributes of a trial belong to the search."""
        self._refuse_use("set_user_attr")

    def set_constraint(self, key: str, value: float) -> None:
        """Refused: screens reject candidates."""
        self._refuse_use("set_constraint")

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse other parts of a trial, such as ``study``."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse_use(name)

    def _check(self, name: str, *distribution: object) -> None:
        """Check the name of a parameter, and that its range is the same at each suggestion."""
        if type(name) is not str or not name or len(name) > _LONGEST_NAME:
            problem = f"suggests a parameter with the name {str(name)[:20]!r}"
            self._refuse(problem, f"name it with 1 to {_LONGEST_NAME} characters")
        known = self._suggested.setdefault(name, distribution)
        if known is not distribution:
            if known != distribution:
                problem = f"suggests {name} twice with different ranges"
                self._refuse(f"{problem}: {_shown(known)} and {_shown(distribution)}", _RENAME)
            return
        if name in self._reserved:
            self._refuse(f"suggests {name}, which is a parameter of the recipe", _RENAME)
        try:
            check_text(name)
        except ValueError as error:
            self._refuse(f"suggests a parameter whose name cannot be stored: {error}", _RENAME)

    def _refuse_use(self, attribute: str) -> NoReturn:
        problem = f"uses trial.{attribute}, with which a candidate cannot be rebuilt"
        self._refuse(problem, "use trial.suggest_int, suggest_float and suggest_categorical alone")

    def _refuse(self, problem: str, remedy: str) -> NoReturn:
        error = BadInputError("space", self._space, problem, remedy)
        self.refused = self.refused or error
        raise error


_RENAME = "rename the parameter"


def _shown(distribution: tuple[object, ...]) -> str:
    kind, *rest = distribution
    if kind == "categorical":
        return str(rest[0])
    low, high, step, log = rest
    text = f"{low} to {high}"
    if step not in (None, 1):
        text += f" in steps of {step}"
    return f"{text}, logarithmic" if log else text
