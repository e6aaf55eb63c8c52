"""Access to a search: none from other machines, and none without the cluster's token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.world import ROOT, World, world
from tests.search.users import User, descendants, end_of, wait_for

pytestmark = pytest.mark.timeout(600)

PRIVATE = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "correct-horse-battery-staple-" + "0" * 16}


def listening(pids: set[int]) -> set[str]:
    """Return the hexadecimal addresses at which the processes accept connections."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(handle.readlink()))
            except OSError:
                continue
            if found:
                sockets.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in sockets:
                addresses.add(local.partition(":")[0])
    return addresses


LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # the same, through an IPv6 socket
    "00000000000000000000000001000000",  # ::1
}


class Watched:
    """A search on this machine, observed while it trains."""

    def __init__(self, user: User) -> None:
        self.home = user.folder
        path = user.write("watched", epochs=20, finalists={"count": 0})
        with user.start("run", path) as driver:
            wait_for(lambda: user.journal("watched").count('"metrics"') > 2, driver)
            below = descendants(driver.pid)
            self.commands = list(below.values())
            self.addresses = listening({driver.pid, *below})
            environment = Path(f"/proc/{driver.pid}/environ").read_bytes()
            self.result = end_of(driver)
        assert b"RAY_AUTH_TOKEN" not in environment  # The driver itself creates the token.


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Return the observations of a search by a user without a token."""
    user = User(tmp_path_factory.mktemp("user"))
    user.environment["HOME"] = str(user.folder)
    return Watched(user)


def test_local_search_listens_on_loopback_only(watched: Watched) -> None:
    assert watched.result.returncode == 0, watched.result
    assert any("gcs_server" in command for command in watched.commands)
    assert watched.addresses
    assert watched.addresses <= LOOPBACK


def test_local_search_starts_no_process_that_it_does_not_use(watched: Watched) -> None:
    assert any("default_worker.py" in each or "ray::" in each for each in watched.commands)
    for unused in ("dashboard.py", "monitor.py", "ray::IDLE"):
        assert not [command for command in watched.commands if unused in command]


def test_token_of_a_local_search_is_written_nowhere(watched: Watched) -> None:
    assert watched.result.returncode == 0
    assert not (watched.home / ".ray").exists()


# A cluster with a token


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a world with a cluster that requires a token."""
    with world(tmp_path_factory.mktemp("world")) as made:
        made.must(
            *("ray", "start", "--head", "--port=6379", "--num-cpus=1", "--disable-usage-stats"),
            *("--include-dashboard=false",),
            **PRIVATE,
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        )
        yield made


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "this cluster requires a token"),
        (
            PRIVATE | {"RAY_AUTH_TOKEN": "wrong-horse-battery-staple-" + "0" * 16},
            "this cluster does not accept the token",
        ),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE requires a token, but there is none"),
    ],
    ids=["no token", "wrong token", "forgotten token"],
)
def test_cluster_rejects_a_client_without_its_token(
    cluster: World, variables: dict[str, str], problem: str
) -> None:
    result = cluster.run(
        *("python", ROOT / "search.py", "run", ROOT / "experiments" / "quickstart.yaml"),
        *("--address", "127.0.0.1:6379"),
        **variables,
    )
    assert result.returncode == 2, result
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"search.py: --address = 127.0.0.1:6379: {problem}; ")
    assert "RAY_AUTH_TOKEN_PATH" in line
    assert "horse" not in result.stdout + result.stderr
    assert not (cluster.folder / "home" / "runs").exists()


def test_cluster_accepts_a_client_with_its_token(cluster: World) -> None:
    assert (
        cluster.run("ray", "health-check", "--address", "127.0.0.1:6379", **PRIVATE).returncode == 0
    )


def test_address_without_a_listener_is_refused_at_once(cluster: World) -> None:
    result = cluster.run(
        *("python", ROOT / "search.py", "run", ROOT / "experiments" / "quickstart.yaml"),
        *("--address", "127.0.0.1:9"),
    )
    assert result.returncode == 2, result
    assert result.stderr == (
        "search.py: --address = 127.0.0.1:9: no Ray cluster answers (Connection refused); start "
        "a cluster, or leave out the address\n"
    )


def test_unsatisfiable_request_is_refused_with_cluster_resources(
    cluster: World,
) -> None:
    result = cluster.run(
        *("python", ROOT / "search.py", "run", ROOT / "experiments" / "quickstart.yaml"),
        *("--set", "device=cuda", "--address", "127.0.0.1:6379"),
        **PRIVATE,
    )
    assert result.returncode == 2, result
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("search.py: ")]
    assert line == (
        "search.py: device = cuda: the cluster has no GPU (nodes: 1 CPUs and 0 GPUs); use auto"
    )


def test_wait_for_promised_nodes_ends_at_the_timeout(
    cluster: World,
) -> None:
    result = cluster.run(
        *("python", ROOT / "search.py", "run", ROOT / "experiments" / "quickstart.yaml"),
        *("--set", "device=cuda", "--set", "resources.wait=3s", "--address", "127.0.0.1:6379"),
        **PRIVATE,
        BORDERLINE_NODE_TYPES="[{name: gpu-worker, most: 2, resources: {CPU: 8, GPU: 1}}]",
    )
    assert result.returncode == 1, result
    assert "waiting for a first node with a GPU" in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("search.py: ")]
    assert "no GPU node became available within 3s" in line
    assert "2 x gpu-worker (8 CPUs and 1 GPUs)" in line
    assert line.endswith("Once nodes are available, start the search again")
    assert not (cluster.folder / "home" / "runs").exists()
