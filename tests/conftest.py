import os
import secrets
from collections.abc import Iterator

import pytest

from tests import s3

# Several test processes share the cores. A second thread of torch would spin while it waits for a
# core: it costs more processor time than it saves. Trials set their own number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files with a longer timeout first: they hold whole searches and take minutes.

    The short files then fill the remaining time, so that no long file runs last and alone.
    """
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep decoded images out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BORDERLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.Server]:
    """Start one S3 server for the session; each test uses its own prefix."""
    with s3.running() as server:
        yield server


@pytest.fixture(scope="session")
def _one_gate(s3_server: s3.Server) -> Iterator[s3.Gate]:
    """Put one gate in front of the server; the product caches one client per address."""
    with s3.gate_before(s3_server) as gate:
        yield gate


@pytest.fixture
def s3_gate(_one_gate: s3.Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Gate]:
    """Return the gate; this process uses it as its S3 endpoint."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.settings(_one_gate.url).items():
        monkeypatch.setenv(name, value)
    _one_gate.reset()
    yield _one_gate
    _one_gate.reset()


@pytest.fixture
def s3_place(s3_gate: s3.Gate) -> str:
    """Return a prefix that only this test uses."""
    return f"s3://{s3.BUCKET}/{secrets.token_hex(6)}"
