"""Templates of the web pages and pictures that a search writes: HTML and SVG, escaped by Jinja2.

Call `render` with a file of this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def renderer(folder: Path) -> Callable[..., Markup]:
    """Return a function that fills the templates of a folder.

    It takes the name of a file, and the template's variables by name. Text among these is escaped,
    `Markup` is not.
    """

    def render(template: str, **values: object) -> Markup:
        return Markup(_environment(folder).get_template(template).render(values))  # noqa: S704 - escaped

    return render


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


render = renderer(Path(__file__).parent)
