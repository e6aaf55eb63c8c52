"""Stage 7: the tests of training whose packages are installed on this machine."""

from __future__ import annotations

import ast
import os
import signal
import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from gpu_checks.processes import MARGIN_SECONDS, run_limited
from gpu_checks.records import PROJECT, Check, Outcome, Recorder
from gpu_checks.subjects import Setting

FOLDER = PROJECT / "tests" / "trainables"
SERVERS = frozenset(("ray", "mlflow", "tests.s3"))
"""Test files that import one of these start a server."""
MOST_WORKERS = 8


def run_tests(setting: Setting, recorder: Recorder) -> None:
    """Run the test files, and record each of them."""
    runnable = []
    for file in sorted(FOLDER.rglob("test_*.py")):
        reason = lacks(file)
        if reason is None:
            runnable.append(file)
        else:
            recorder.lack([file.name], reason)
    report, log = setting.folder / "tests.xml", setting.folder / "pytest.log"
    report.unlink(missing_ok=True)
    options = ["-q", "--maxfail=20", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # Other versions than the pinned ones emit other warnings.
    options += ["-W", "ignore::DeprecationWarning"]
    if find_spec("pytest_timeout"):
        options += ["--timeout=60"]
    if find_spec("xdist"):
        options += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1))]
    with log.open("w", encoding="utf-8") as output:
        code = run_limited(
            [sys.executable, "-m", "pytest", *map(str, runnable), *options],
            setting.seconds_left() - MARGIN_SECONDS,
            output=output,
            errors=output,
            # An interrupted pytest still reports finished tests.
            interrupt=signal.SIGINT,
        )
    for check in read_report(report):
        recorder.add(check)
    if code is None:
        # The speed of a CPU says nothing about GPUs.
        outcome = Outcome.FAILED if setting.on_gpu else Outcome.NOT_MEASURED
        detail = f"not all tests ended in time; see {log.name}"
        recorder.add(Check("tests", "all tests end", outcome, detail))
    elif code not in (0, 1):
        detail = f"pytest ended with exit code {code}; see {log.name}"
        recorder.add(Check("tests", "all tests end", Outcome.FAILED, detail))


def lacks(file: Path) -> str | None:
    """Return why a test file does not run here, or None.

    Follows imports through the project. Lazy imports count only in the test file.
    """
    needed = set(imported(ast.walk(parse(file))))
    if "torch" not in needed:
        return "uses no device"
    todo = [path for module in needed if (path := source(module)) is not None]
    seen = set(todo)
    while todo:
        modules = set(imported(iter(parse(todo.pop()).body)))
        needed.update(modules)
        new = {path for module in modules if (path := source(module)) is not None} - seen
        seen |= new
        todo += new
    for module in sorted(needed):
        if module in SERVERS:
            return f"needs {module}"
        if source(module) is None and not is_installed(module.partition(".")[0]):
            return f"{module} is not installed"
    return None


def parse(file: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(file.read_text(encoding="utf-8"))


def source(module: str) -> Path | None:
    """Return the file of a project module; None for other modules and for names in modules."""
    place = PROJECT.joinpath(*module.split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if file.is_file()), None)


@lru_cache
def is_installed(package: str) -> bool:
    """Tell whether a package can be imported; the project's own folders can."""
    return find_spec(package) is not None


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the modules, and the names in them, that statements import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_report(file: Path) -> list[Check]:
    """Return a check for each test file in pytest's report."""
    if not file.exists():
        return []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, float] = defaultdict(float)
    failures: dict[str, list[str]] = defaultdict(list)
    for case in ET.parse(file).iter("testcase"):  # noqa: S314 - pytest wrote it
        modules = case.get("classname", "").split(".")
        name = next((f"{module}.py" for module in modules if module.startswith("test_")), "others")
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = kinds[0] if kinds else "passed"
        counts[name][outcome] += 1
        seconds[name] += float(case.get("time", 0))
        if outcome in ("failure", "error"):
            failures[name].append(case.get("name", ""))
    checks = []
    for name, counted in sorted(counts.items()):
        failed = failures[name]
        outcome = Outcome.FAILED if failed else Outcome.PASSED
        words = [f"{number} {what}" for what, number in sorted(counted.items())]
        detail = "; ".join([", ".join(words), *failed[:5]])
        figures = {**counted, "failures": failed}
        checks.append(Check("tests", name, outcome, detail, figures, round(seconds[name], 1)))
    return checks
