"""Budgets: counting across drivers, limits and their messages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from search.experiment.loading import load_experiment, parse_experiment
from search.experiment.sections import BudgetSection
from search.loop import budget as module
from search.loop.budget import Budget
from spaces.errors import BadInputError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock by one that only ``clock.now`` moves."""
    state = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: state.now))
    return state


def test_a_budget_without_limits_is_never_spent(clock: SimpleNamespace) -> None:
    budget = Budget(BudgetSection(trials=7))
    clock.now += 10**9
    assert budget.trials == 7
    assert budget.spent(10**9) == ""
    assert budget.describe(10**9) == ""


def test_wall_clock_counts_only_while_a_driver_runs(
    clock: SimpleNamespace,
) -> None:
    budget = Budget(BudgetSection(wall_clock=100), seconds_before=70.0)
    assert budget.seconds == 70
    clock.now += 29
    assert (budget.seconds, budget.spent(0)) == (99, "")
    clock.now += 1
    assert budget.spent(0) == "the budget of time is spent"


def test_device_hours_count_to_the_second() -> None:
    budget = Budget(BudgetSection(device_hours=2))
    assert budget.spent(7199) == ""
    assert budget.spent(7200) == "the budget of device-hours is spent"


def test_money_is_device_hours_times_price() -> None:
    budget = Budget(BudgetSection(money=5, price=2.5))
    assert budget.spent(7199) == ""
    assert budget.spent(7200) == "the budget of money is spent"


def test_the_first_reached_limit_ends_the_search(clock: SimpleNamespace) -> None:
    section = BudgetSection(wall_clock=60, device_hours=1, money=10, price=1)
    budget = Budget(section)
    assert budget.spent(3600) == "the budget of device-hours is spent"
    clock.now += 60
    assert budget.spent(0) == "the budget of time is spent"


def test_a_raised_limit_leaves_as_much_as_is_spent(
    clock: SimpleNamespace,
) -> None:
    section = BudgetSection(wall_clock=5400, device_hours=1, money=2.5, price=2)
    budget = Budget(section)
    assert budget.larger_limits(3599) == []
    assert budget.larger_limits(3600) == ["budget.device_hours=+1"]
    clock.now += 7200
    assert budget.larger_limits(3600 * 1.5) == [
        "budget.wall_clock=+9000",
        "budget.device_hours=+2",
        "budget.money=+3.5",
    ]


@pytest.mark.parametrize("limit", [1e-5, 0.1, 10, 1e6, 123456789, 1e12])
@pytest.mark.parametrize("overspent", [0, 1 / 3, 5])
def test_settings_that_raise_a_limit_are_valid(
    limit: float, overspent: float, tmp_path: Path
) -> None:
    file = tmp_path / "paid.yaml"
    file.write_text(f"name: paid\nbudget: {{money: {limit:f}, price: 3600}}\n")
    budget = Budget(load_experiment(file).budget)
    spent = limit * (1 + overspent)
    (setting,) = budget.larger_limits(spent)
    raised = Budget(load_experiment(file, [setting], adds=True).budget)
    assert raised.spent(1.9 * spent) == ""


def test_each_limit_shows_what_is_spent_and_left(clock: SimpleNamespace) -> None:
    section = BudgetSection(wall_clock=7200, device_hours=4, money=10, price=2)
    budget = Budget(section, seconds_before=600)
    clock.now += 30
    assert budget.describe(3600 * 1.25) == (
        "10m30s spent, 1h49m left; 1.25 device-hours spent, 2.75 left; "
        "2.50 of money spent, 7.50 left"
    )


def test_an_overspent_limit_shows_nothing_left(clock: SimpleNamespace) -> None:
    budget = Budget(BudgetSection(wall_clock=10, device_hours=1, money=1, price=1), 50)
    assert budget.describe(7200) == (
        "50s spent, 0s left; 2 device-hours spent, 0 left; 2.00 of money spent, 0.00 left"
    )


def test_money_without_a_price_is_refused() -> None:
    with pytest.raises(BadInputError, match="cannot be counted without a price") as caught:
        parse_experiment({"name": "mine", "budget": {"money": 5}})
    assert (caught.value.field, caught.value.value) == ("budget.money", 5)
