"""Compiles the tests as pytest does, which rewrites their assertions.

Otherwise each test process does so again, which takes it as long as the imports of all tests.
pytest checks the source of each module before it uses what this script stored. It has no public
function for this; checked with pytest 9.2.0.
"""

from __future__ import annotations

import compileall
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _pytest.assertion.rewrite import (
    PYC_TAIL,
    _read_pyc,
    _rewrite_test,
    _write_pyc_fp,
    get_cache_dir,
)

TESTS = Path(__file__).resolve().parent


def compile_test(source: Path) -> None:
    """Store the rewritten module unless it is stored."""
    stored = get_cache_dir(source) / (source.stem + PYC_TAIL)
    if _read_pyc(source, stored) is not None:
        return
    digest, code = _rewrite_test(source, None)  # type: ignore[arg-type] - only asks for a hook
    stored.parent.mkdir(exist_ok=True)
    unfinished = stored.with_suffix(f".{os.getpid()}")
    with unfinished.open("wb") as file:
        _write_pyc_fp(file, digest, code)
    unfinished.replace(stored)


def main() -> None:
    """Compile every test and every conftest, and the modules that they import as any other."""
    sources = [*TESTS.rglob("test_*.py"), *TESTS.rglob("conftest.py")]
    for shared in set(TESTS.rglob("*.py")) - set(sources):
        compileall.compile_file(shared, quiet=1)
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(compile_test, sources, chunksize=8):
            pass


if __name__ == "__main__":
    main()
