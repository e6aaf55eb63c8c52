"""The saved views of an experiment, opened in a browser with the pinned version of MLflow."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow import MlflowClient

from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT, RUN_ID, DataInput
from search.tracking.mlflow_destination import Destination
from search.tracking.run_description import FIELDS
from search.tracking.saved_views import FIRST_COLUMNS, experiment_views, search_views
from search.tracking.tracking_process import sync
from tests.mlflow.browser import Browser, browser
from tests.requirements import lack
from tests.search.tracking_server import Server

SEARCH = "mine-1a2b"
TRIALS = 12
SIZES = {"convolutions": 3, "pools": 1, "learning_rate": 0.1, "weight_decay": 0.01}
PICTURE = f"![field](get-artifact?path={FIELDS}&run_uuid={RUN_ID})"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"><text>field</text></svg>'


def state_of(value: str) -> dict[str, Any]:
    """Return the state in the value of a tag."""
    state = json.loads(value)["state"] if value.startswith("{") else value
    packed = base64.b64decode(state.removeprefix("deflate;"))
    found: dict[str, Any] = json.loads(zlib.decompress(packed))
    return found


def test_values_hold_the_state_and_fit_into_a_tag() -> None:
    for view in (*experiment_views(), *search_views(f"{'n' * 60}-1a2b")):
        value = view.value(1)
        assert state_of(value) == view.state
        assert value.startswith('{"name"') is view.is_listed
        # Databases of earlier versions of MLflow hold 5,000 characters.
        assert len(value) < 2000


def test_views_of_a_search_show_no_other_search() -> None:
    for view in search_views("it's mine-1"):
        assert view.state["searchFilter"].startswith("tags.`borderline.run` LIKE 'it%27s mine-1/%'")
        assert view.key.endswith("it%27s%20mine-1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the runs of one search, sent through its journal."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "mine"
    with Journal(folder / "journal.jsonl") as journal:
        journal.start(
            PARENT,
            "mine",
            tags={
                "kind": "search",
                "mlflow.source.git.commit": "abc",
                "mlflow.note.content": f"Found.\n\n{PICTURE}",
            },
            artifacts={FIELDS: SVG},
        )
        journal.inputs(PARENT, [DataInput("digits", "1a2b3c", "training", "digits", "{}")])
        journal.metrics(PARENT, 1, {"objective": 0.9, "test_accuracy_mean": 0.8})
        for number in range(TRIALS):
            features = {f"features_{name}": 8 + number for name in ("first", "middle", "last")}
            journal.start(
                str(number),
                f"trial {number}",
                params=SIZES | features | {"features_largest": 8 + number},
                tags={"kind": "trial"},
            )
            costs = {"params": 100 + number, "macs": 1000 * number, "seconds": 1.0 + number}
            journal.metrics(str(number), 1, {"objective": 0.7 + number / 100, **costs})
            journal.finish(str(number), "FINISHED")
        journal.finish(PARENT, "FINISHED")
    sync(journal.path, Destination.from_environment(home), SEARCH)
    running = Server(home)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        lack("the Debian package chromium")
    with browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def count(page: Browser, selector: str) -> int:
    return int(page.value(f"document.querySelectorAll({json.dumps(selector)}).length") or 0)


def values(page: Browser, selector: str, field: str) -> list[str]:
    """Return a field of each element."""
    elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
    found: list[str] = page.value(f"{elements}.map(element => element.{field})")
    return found


def shown(page: Browser, server: Server, place: int) -> None:
    """Open a view of the search."""
    page.open("about:blank")
    page.open(search_views(SEARCH)[place].address(server.uri, "1"))


def test_leaderboard_opens_with_the_objective_first(server: Server, page: Browser) -> None:
    shown(page, server, 0)
    page.wait(lambda: "trial 11" in page.text())
    heads = page.value(
        "[...document.querySelectorAll('.ag-header-cell[col-id^=\"metrics.\"]')]"
        ".sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x)"
        ".map(e => e.innerText.trim())"
    )
    assert heads[: len(FIRST_COLUMNS)] == [*FIRST_COLUMNS]
    text = page.text()
    assert text.index("mine") < text.index("trial 11") < text.index("trial 10")


def test_scatter_shows_each_trial_against_each_cost(server: Server, page: Browser) -> None:
    shown(page, server, 1)
    page.wait(lambda: count(page, ".js-plotly-plot .point") == 3 * TRIALS)
    titles = page.value(
        "[...document.querySelectorAll('.xtitle, .ytitle')].map(e => e.textContent)"
    )
    assert {*titles} == {"objective", "params", "macs", "seconds"}


def test_parallel_coordinates_show_every_axis_and_trial(server: Server, page: Browser) -> None:
    (chart,) = search_views(SEARCH)[2].state["compareRunCharts"]
    shown(page, server, 2)
    page.wait(lambda: count(page, ".parcoords .dimension"))
    axes = page.value(
        "[...document.querySelectorAll('.parcoords .dimension')].map(e => e.__data__)"
    )
    assert {*axes} == {*chart["selectedParams"], *chart["selectedMetrics"]}
    assert axes[-1] == "objective"
    assert f"{TRIALS} matching runs" in page.text()


def test_menu_lists_the_views_of_the_experiment(server: Server, page: Browser) -> None:
    trigger = "[data-testid=saved-views-trigger]"
    page.wait(lambda: count(page, trigger))
    # The menu opens on a real press, not on a scripted click.
    box = page.value(f"JSON.stringify(document.querySelector('{trigger}').getBoundingClientRect())")
    place = json.loads(box)
    for kind in ("mousePressed", "mouseReleased"):
        page.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=place["x"] + 5,
            y=place["y"] + 5,
            button="left",
            clickCount=1,
        )
    page.wait(lambda: all(view.name in page.text() for view in experiment_views()))


def test_run_page_shows_description_picture_and_data(server: Server, page: Browser) -> None:
    client = MlflowClient(server.uri)
    (run,) = client.search_runs(["1"], "tags.kind = 'search'")
    assert [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs] == [
        ("digits", "1a2b3c")
    ]
    page.open("about:blank")
    page.open(f"{server.uri}/#/experiments/1/runs/{run.info.run_id}")
    width = "document.querySelector('img[src*=get-artifact]')?.naturalWidth"
    page.wait(lambda: page.value(width) == 90)
    page.wait(lambda: "1a2b3c" in page.text())


def test_existing_views_are_left_as_they_are(server: Server) -> None:
    client = MlflowClient(server.uri)
    view = search_views(SEARCH)[0]
    client.set_experiment_tag("1", view.tag, "changed")
    journal = server.home / "mine" / "journal.jsonl"
    sync(journal, Destination.from_environment(server.home), SEARCH, from_start=True)
    assert client.get_experiment("1").tags[view.tag] == "changed"
