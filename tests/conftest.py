import secrets
from collections.abc import Iterator

import pytest

from tests import s3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that are given more time than others: whole searches, of minutes.

    The short ones then fill what is left, and the last to run is not one of them on its own.
    """
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep decoded images out of the cache of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BORDERLINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.Server]:
    """Start an S3 server for the whole session; tests take prefixes of their own."""
    with s3.running() as server:
        yield server


@pytest.fixture(scope="session")
def _one_gate(s3_server: s3.Server) -> Iterator[s3.Gate]:
    """Put one gate before the server: a client is made once for each address."""
    with s3.gate_before(s3_server) as gate:
        yield gate


@pytest.fixture
def s3_gate(_one_gate: s3.Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3.Gate]:
    """Return the gate before the server, which this process takes for its S3."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3.settings(_one_gate.url).items():
        monkeypatch.setenv(name, value)
    _one_gate.reset()
    yield _one_gate
    _one_gate.reset()


@pytest.fixture
def s3_place(s3_gate: s3.Gate) -> str:
    """Return a prefix that is this test's own."""
    return f"s3://{s3.BUCKET}/{secrets.token_hex(6)}"
