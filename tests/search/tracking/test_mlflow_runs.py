"""The runs of a search in a store with many models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mlflow.store.entities import PagedList

from search.tracking.mlflow_runs import RunStore


class Client:
    """A store with a model on each of two pages; the second one has an alias."""

    def search_registered_models(self, *, page_token: str | None = None) -> PagedList[Any]:
        first = SimpleNamespace(name="other", aliases={})
        second = SimpleNamespace(name="mine", aliases={"champion": 1})
        return PagedList([second], None) if page_token else PagedList([first], "next")

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        return SimpleNamespace(run_id="run")

    def search_runs(self, *_: Any, **__: Any) -> PagedList[Any]:
        return PagedList([SimpleNamespace(info=SimpleNamespace(run_id="run"))], None)


def test_model_in_use_is_found_on_any_page() -> None:
    store = RunStore.__new__(RunStore)
    vars(store).update(_client=Client(), _experiment="1", _search="id")
    assert store.in_use() == {"run": "mine@champion"}
