"""Writes the parts of the documentation that follow from the code.

    python -m docs.generate

Two drawings for architecture.md, the table of fields in experiment.md, the commands in commands.md,
the published experiments with their results and pictures in reproductions.md, the source of
networks in model-source.md, and the schema of `analyze --json` in analyze.schema.json. A test holds
that the files in the repository are what this script writes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.model_source import model_sources
from docs.reproductions import FIGURES, picture, picture_names, reproductions
from search.cli import app
from search.experiment.schema import Experiment
from search.reporting.analysis.document import document_schema

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
TOP = ("search", "trainables", "spaces", "cluster")


# Packages


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(module: str) -> str:
    """Return the package that a module belongs to in the drawing.

    >>> [package_of(each) for each in ("search.loop.asha", "search.urls", "spaces.vgg")]
    ['search/loop/', 'search/ base modules', 'spaces/']
    """
    top, *below = module.split(".")
    if top != "search" or not below:
        return f"{top}/"
    return f"search/{below[0]}/" if (ROOT / top / below[0]).is_dir() else "search/ base modules"


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for top in TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts != ("search", "__init__"):
                yield ".".join(parts).removesuffix(".__init__"), _parsed(path)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from search import urls` imports a module, other names belong to the one named.
            yield from (
                f"{node.module}.{alias.name}" if node.module == "search" else node.module
                for alias in node.names
            )


def package_imports() -> dict[str, set[str]]:
    """Return which packages each package imports, from the source of its modules."""
    found: dict[str, set[str]] = {}
    for module, tree in _modules():
        package = package_of(module)
        imported = {package_of(name) for name in _imported(tree) if name.split(".")[0] in TOP}
        found.setdefault(package, set()).update(imported - {package})
    return found


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return a graph without the edges that follow from others (its transitive reduction).

    >>> reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    {'a': {'b'}, 'b': {'c'}, 'c': set()}
    """

    def reachable(node: str) -> set[str]:
        return set(graph[node]).union(*(reachable(each) for each in graph[node]))

    return {
        node: edges - set().union(*(reachable(each) for each in edges))
        for node, edges in graph.items()
    }


def _heights(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the length of the longest path of imports below each package."""
    heights: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        heights[node] = 1 + max((heights[each] for each in graph[node]), default=-1)
    return heights


def _purpose(package: str) -> str:
    """Return the first sentence of a package's docstring."""
    if package == "search/ base modules":
        names = (path.stem for path in sorted((ROOT / "search").glob("*.py")))
        return ", ".join(name for name in names if name != "__init__") + "."
    path = ROOT / package
    docstring = ast.get_docstring(_parsed(path if path.is_file() else path / "__init__.py")) or ""
    return " ".join(docstring.partition("\n\n")[0].replace("`", "").split())


# Drawings

INK, PALE, LINE = "#1a237e", "#e8eaf6", "#5c6bc0"


def _svg(width: int, height: int, title: str, shapes: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n"
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
    )
    return head + "\n".join(shapes) + "\n</svg>\n"


def _box(x: int, y: int, width: int, height: int, title: str, lines: list[str]) -> str:
    texts = "".join(
        f'<text x="{x + 12}" y="{y + 40 + 17 * number}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" fill="{PALE}" '
        f'stroke="{LINE}"/>'
        f'<text x="{x + 12}" y="{y + 21}" font-weight="bold">{escape(title)}</text>{texts}'
    )


def _arrow(path: str, label: str = "", at: tuple[int, int] = (0, 0)) -> str:
    drawn = f'<path d="{path}" fill="none" stroke="{LINE}" marker-end="url(#tip)"/>'
    if label:
        drawn += f'<text x="{at[0]}" y="{at[1]}" font-style="italic">{escape(label)}</text>'
    return drawn


def draw_packages() -> str:
    """Draw the packages from the top down, with an arrow from each to those it builds on."""
    graph = package_imports()
    heights = _heights(graph)
    order = sorted(graph, key=lambda package: (-heights[package], package))
    shapes: list[str] = []
    middle: dict[str, int] = {}
    y = 10
    for package in order:
        lines = wrap(_purpose(package), 84)
        height = 32 + 17 * len(lines)
        shapes.append(_box(10, y, 600, height, package, lines))
        middle[package] = y + height // 2
        y += height + 10
    for package, imported in reduced(graph).items():
        for each in sorted(imported):
            start, end = middle[package] + 8, middle[each] - 8
            bulge = 610 + 18 + abs(order.index(each) - order.index(package)) * 26
            shapes.append(_arrow(f"M610 {start}C{bulge} {start} {bulge} {end} 612 {end}"))
    title = "The packages and what each imports"
    return _svg(760, y, title, shapes)


@dataclass(frozen=True)
class Step:
    """A step of a trial's path.

    Attributes:
        title: what happens to the trial.
        names: functions that do it, as ``module:qualified.name``; each must exist.
        branch: where else the trial may go from here: a label, and a title of what follows.
    """

    title: str
    names: tuple[str, ...]
    branch: tuple[str, str] | None = None


PATH = (
    Step(
        "Drawn",
        ("search.study.study:Study.ask", "spaces.candidate:CandidateSpace.draw"),
    ),
    Step("Screened", ("search.loop.screens:judge",), ("a screen rejects it", "Rejected")),
    Step(
        "Started", ("search.study.study:Study.start", "search.backend.tune_searcher:StudySearcher")
    ),
    Step("Trained", ("trainables.trial:Trial.step", "trainables.training.loop:Training.run_epoch")),
    Step("Reported", ("search.loop.trials:Trials.report",)),
    Step(
        "Decided", ("search.loop.trials:Trials.decide",), ("it is not promising", "Stopped early")
    ),
    Step("Finished", ("search.study.study:Study.finish",)),
    Step("Recorded", ("search.tracking.journal_recorder:JournalRecorder.finished",)),
    Step("Replayed", ("search.tracking.journal_replay:Replayer.step",)),
)
LOOP = ("Decided", "Trained", "next epoch")


def docstring_of(name: str) -> str:
    """Return the first line of the docstring of ``module:qualified.name``.

    Raises:
        LookupError: the code has no such name; correct `PATH`.
    """
    module, _, qualified = name.partition(":")
    node: ast.Module | ast.ClassDef | ast.FunctionDef
    node = _parsed(ROOT / f"{module.replace('.', '/')}.py")
    for part in qualified.split("."):
        found = [
            each
            for each in node.body
            if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == part
        ]
        if not found:
            raise LookupError(f"PATH in docs/generate.py names {name}, which does not exist")
        node = found[0]
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _described(name: str) -> list[str]:
    """Return a name and the first line of its docstring."""
    module, _, qualified = name.partition(":")
    said = docstring_of(name).replace("`", "")
    return [f"{module.replace('.', '/')}.py, {qualified}:", f"\u2003{said}"]


def draw_path() -> str:
    """Draw a trial's path; every step names the functions that take it."""
    shapes: list[str] = []
    tops: dict[str, tuple[int, int]] = {}
    y, width, gap = 10, 640, 26
    for step in PATH:
        lines = [line for name in step.names for line in _described(name)]
        height = 34 + 17 * len(lines)
        if tops:
            shapes.append(_arrow(f"M330 {y - gap}V{y - 2}"))
        shapes.append(_box(70, y, width, height, step.title, lines))
        if step.branch:
            label, title = step.branch
            middle = y + height // 2
            at = (720, middle - 8)
            shapes.append(_arrow(f"M{70 + width} {middle}H{868}", label, at))
            shapes.append(_box(870, middle - 17, 130, 34, title, []))
        tops[step.title] = (y, height)
        y += height + gap
    source, target, label = LOOP
    start, end = (tops[each][0] + tops[each][1] // 2 for each in (source, target))
    shapes.append(_arrow(f"M70 {start}H40V{end}H68"))
    shapes.append(
        f'<text transform="translate(30 {(start + end) // 2 + 35}) rotate(-90)" '
        f'font-style="italic">{label}</text>'
    )
    return _svg(1010, y - gap + 10, "The path of a trial", shapes)


# Tables


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def fields(model: type[BaseModel] = Experiment, prefix: str = "") -> Iterator[str]:
    """Yield one row of the table for each field of the experiment file."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from fields(section, f"{prefix}{name}.")
        else:
            yield f"| `{prefix}{name}` | {_default(field)} | {_cell(field.description or '')} |"


def field_table() -> str:
    """Return the table of all fields of the experiment file."""
    return "\n".join(["| field | default | meaning |", "| --- | --- | --- |", *fields()])


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = str(parameter.metavar or parameter.name.upper())
        described = parameter.help or ""
        return f"| `{name if parameter.required else f'[{name}]'}` | {_cell(described)} |"
    flag = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return f"| `{parameter.opts[0]}{flag}` | {_cell(parameter.help or '')} |"


def _command(name: str, command: Any) -> str:
    example = str(command.epilog or "").removeprefix("Example: ")
    rows = [_option(each) for each in command.params if each.name != "help"]
    lines = [f"## {name}", "", str(command.help)]
    if example:
        lines += ["", f"    {example}"]
    if rows:
        lines += ["", "| argument or option | meaning |", "| --- | --- |", *rows]
    return "\n".join(lines)


def command_pages() -> str:
    """Return what each command does, with its options and an example."""
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    table = [
        f"| [`{name}`](#{name}) | {_cell(str(command.help).splitlines()[0])} |"
        for name, command in commands.items()
    ]
    pages = [_command(name, command) for name, command in commands.items()]
    return "\n\n".join(["\n".join(["| command | what it does |", "| --- | --- |", *table]), *pages])


# Files


def _within(page: str, marker: str, content: str) -> str:
    """Return a page with the content between its two markers replaced."""
    text = (DOCS / page).read_text(encoding="utf-8")
    begin, end = f"<!-- {marker}: written by docs/generate.py -->", f"<!-- end of {marker} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    replaced, count = pattern.subn(lambda _: f"{begin}\n\n{content}\n\n{end}", text)
    if count != 1:
        raise LookupError(f"docs/{page} needs the line {begin} and the line {end}, once each")
    return replaced


GENERATED: dict[str, Callable[[], str]] = {
    "packages.svg": draw_packages,
    "trial.svg": draw_path,
    "experiment.md": lambda: _within("experiment.md", "fields", field_table()),
    "reproductions.md": lambda: _within("reproductions.md", "experiments", reproductions()),
    "model-source.md": lambda: _within("model-source.md", "sources", model_sources()),
    "commands.md": lambda: _within("commands.md", "commands", command_pages()),
    "analyze.schema.json": document_schema,
} | {f"{FIGURES}/{name}.svg": partial(picture, name) for name in picture_names()}


def main() -> None:
    """Write every generated file."""
    for name, content in GENERATED.items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content(), encoding="utf-8")


if __name__ == "__main__":
    main()
