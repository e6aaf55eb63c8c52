"""Templates of the web pages and pictures that a search writes: HTML and SVG, escaped by Jinja2.

Call `render` with a file of this folder.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, **values: object) -> Markup:
    """Return a template filled with values; text among them is escaped, `Markup` is not.

    Args:
        template: name of a file beside this module.
        values: variables of the template.
    """
    return Markup(_environment().get_template(template).render(values))  # noqa: S704 - escaped


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__name__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
