"""Templates of the page and its figures: HTML and SVG, escaped by Jinja2."""

from __future__ import annotations

from pathlib import Path

from search.templates import renderer

render = renderer(Path(__file__).parent)
