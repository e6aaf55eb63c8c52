"""Takes the screenshots of tracking.md from two searches: MLflow's views, and their comparison.

    python search.py run experiments/quickstart.yaml
    python search.py run experiments/quickstart.yaml --set name=no-border --set screens.border=off
    python -m docs.screenshots runs quickstart no-border

It needs Chromium, and serves the local store of the home meanwhile.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from search.experiment.folder import Home
from search.nightly.arms import arm_of
from search.reporting.compare.comparison import build, render
from search.tracking.mlflow_destination import Destination, experiment_id
from search.tracking.saved_views import search_views
from spaces.errors import BadInputError
from tests.mlflow.browser import Browser, browser
from tests.search.tracking_server import Server

PICTURES = Path(__file__).resolve().parent / "pictures"
_QUALITY = 55
"""Of WebP: a picture has about 60 KB."""
_DRAWN = {
    "mlflow-leaderboard": "document.querySelectorAll('[role=row] [col-id]').length > 40",
    "mlflow-costs": "document.querySelectorAll('.js-plotly-plot .point').length > 20",
    "mlflow-parallel": "document.querySelectorAll('.parcoords .dimension').length > 8",
}
"""By the name of each picture, in the order of the views: whether the view is drawn."""


def take(home: Home, names: list[str]) -> None:
    """Take the screenshots.

    Args:
        home: holds the searches, tracked in its local store.
        names: of two searches; the views are those of the first.

    Raises:
        BadInputError: Chromium is missing, or the first search is not in the local store.
    """
    program = shutil.which("chromium")
    if program is None:
        raise BadInputError("screenshots", "chromium", "is missing", "install Chromium")
    folder = home.existing(names[0])
    experiment = experiment_id(Destination.from_environment(home.path), folder)
    if not experiment:
        problem = f"is not in the local store of {home.path}"
        raise BadInputError("screenshots", names[0], problem, "sync it first")
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as aside, browser(program, Path(aside)) as page:
        with _served(home) as server:
            views = search_views(folder.identity)
            for (name, drawn), view in zip(_DRAWN.items(), views, strict=True):
                page.open(view.address(server, experiment))
                page.wait(partial(page.value, drawn))
                _save(page, name)
        arms = [arm_of(home, name) for name in names]
        file = Path(aside) / "comparison.html"
        file.write_text(render(arms, build(arms)), encoding="utf-8")
        page.open(file.as_uri())
        page.wait(partial(page.value, "document.querySelectorAll('svg').length > 1"))
        _save(page, "comparison")


@contextmanager
def _served(home: Home) -> Iterator[str]:
    """Serve the local store of a home; yields the address."""
    server = Server(home.path)
    try:
        server.start()
        yield server.uri
    finally:
        server.stop()


def _save(page: Browser, name: str) -> None:
    """Save what the browser shows, once nothing moves any more."""
    page.value("new Promise(done => setTimeout(done, 1500))")
    shot = page.call("Page.captureScreenshot", format="webp", quality=_QUALITY)
    (PICTURES / f"{name}.webp").write_bytes(b64decode(shot["data"]))


def main() -> int:
    """Take the screenshots of the searches that the command names."""
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=main.__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("searches", nargs=2)
    options = parser.parse_args()
    try:
        take(Home.locate(options.home), options.searches)
    except BadInputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
