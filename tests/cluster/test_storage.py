"""Storages: folders and buckets keep the same contract."""

from __future__ import annotations

import copy
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster import s3 as module
from cluster.folder_store import FolderStore, open_store
from cluster.s3 import BucketStore, open_bucket, parse_location
from cluster.storage import StorageError, Store, below, is_bucket, probe
from tests import s3

ROOT = Path(__file__).resolve().parents[2]


class Contract:
    """The contract of every store; the tests of each kind of store inherit it."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    def test_written_content_is_read_back(self, store: Store) -> None:
        content = secrets.token_bytes(100_000)
        store.write("a/b/c.bin", content)
        store.write("empty", b"")
        assert store.read("a/b/c.bin") == content
        assert store.read("empty") == b""
        assert open_store(store.location).read("a/b/c.bin") == content

    def test_memoryview_is_written_as_its_bytes(self, store: Store) -> None:
        store.write("view", memoryview(b"0123456789")[2:5])
        assert store.read("view") == b"234"

    def test_second_write_replaces_the_first(self, store: Store) -> None:
        store.write("a", b"first")
        (before,) = store.entries()
        store.write("a", b"second, and longer")
        (after,) = store.entries()
        assert store.read("a") == b"second, and longer"
        assert (before.size, after.size) == (5, 18)
        assert before.version != after.version

    def test_objects_below_a_prefix_are_listed_by_name(self, store: Store) -> None:
        assert store.entries() == []
        assert store.names() == []
        names = ["b", "a/2", "a/1", "a-1", "a/x y/ü"]
        for name in names:
            store.write(name, name.encode())
        found = {entry.name: entry.size for entry in store.entries()}
        assert found == {name: len(name.encode()) for name in names}
        assert store.names() == ["a", "a-1", "b"]

    def test_prefix_is_a_store_of_its_own(self, store: Store) -> None:
        inner = store.within("runs").within("7")
        assert not inner.exists()
        inner.write("a", b"inside")
        store.write("runs/70", b"a neighbour with a longer name")
        assert inner.exists()
        assert store.read("runs/7/a") == b"inside"
        assert [entry.name for entry in inner.entries()] == ["a"]
        inner.clear()
        assert [entry.name for entry in store.entries()] == ["runs/70"]
        assert not inner.exists()

    def test_missing_object_fails_only_on_reading(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.read("nothing")
        store.remove("nothing")
        store.clear()
        store.write("something", b"x")
        with pytest.raises(FileNotFoundError):
            store.read("some")

    def test_removed_object_is_missing(self, store: Store) -> None:
        store.write("a", b"x")
        store.remove("a")
        assert store.entries() == []

    def test_a_probe_leaves_nothing(self, store: Store) -> None:
        probe(store)
        assert store.entries() == []


class TestFolder(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FolderStore(tmp_path / "store")

    def test_partially_written_file_is_not_listed(self, store: Store) -> None:
        store.write("a", b"x")
        assert isinstance(store, FolderStore)
        (store.path / ".1234.part").write_bytes(b"half of")
        assert [entry.name for entry in store.entries()] == ["a"]


class TestBucket(Contract):
    @pytest.fixture
    def store(self, s3_place: str) -> Store:
        return open_store(s3_place)

    def test_object_is_created_once(self, store: BucketStore) -> None:
        version = store.create("claim", b"mine")
        with pytest.raises(FileExistsError):
            store.create("claim", b"yours")
        assert store.read("claim") == b"mine"
        assert store.replace("claim", b"still mine", version) != version
        with pytest.raises(FileExistsError):
            store.replace("claim", b"yours", version)
        store.remove("claim")
        with pytest.raises(FileExistsError):
            store.replace("claim", b"yours", version)

    def test_age_of_an_object_uses_the_servers_clock(self, store: BucketStore) -> None:
        store.write("a", b"x")
        assert 0 <= store.read_content("a").age < 30
        time.sleep(2.1)
        assert store.read_content("a").age >= 1

    def test_object_is_read_in_parts_until_it_changes(self, store: BucketStore) -> None:
        store.write("a", b"0123456789")
        version = store.entry("a").version
        key = store.key("a")
        assert store.read_part(key, 2, 4, version) == b"234"
        assert store.read_key(key, version) == b"0123456789"
        store.write("a", b"9876543210")
        with pytest.raises(FileExistsError):
            store.read_part(key, 2, 4, version)
        store.remove("a")
        with pytest.raises(FileNotFoundError):
            store.read_key(key, version)

    def test_large_file_is_written_completely(
        self, store: BucketStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = module.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
        monkeypatch.setattr(module, "_TRANSFER", small)
        content = secrets.token_bytes(11 << 20)
        (tmp_path / "file").write_bytes(content)
        store.write_file("file", tmp_path / "file")
        assert store.read("file") == content

    def test_failed_upload_leaves_no_object(
        self, store: BucketStore, s3_gate: s3.Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = module.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
        monkeypatch.setattr(module, "_TRANSFER", small)
        (tmp_path / "file").write_bytes(bytes(11 << 20))
        puts = iter(range(100))
        s3_gate.answer = lambda method, path: (
            (403, "AccessDenied") if method == "PUT" and next(puts) > 0 else None
        )
        with pytest.raises(StorageError):
            store.write_file("file", tmp_path / "file")
        assert store.entries() == []


# Locations


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://my.bucket-1/", ("my.bucket-1", "")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
        ("s3://bucket//a//b", ("bucket", "a/b")),
    ],
)
def test_a_location_names_a_bucket_and_a_prefix(text: str, parts: tuple[str, str]) -> None:
    assert parse_location(text) == parts


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///x", "s3://B/x", "s3://under_score", "s3://b/../x", "bucket", "s3://a\nb"],
)
def test_invalid_location_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        parse_location(text)


@given(st.text(max_size=30))
@example("s3://bucket/a\nb")
def test_location_survives_conversion_to_text(text: str) -> None:
    with suppress(ValueError):
        bucket, prefix = parse_location(f"s3://{text}")
        assert parse_location(BucketStore(bucket, prefix).location) == (bucket, prefix)


def test_location_below_a_location_is_of_the_same_kind(tmp_path: Path) -> None:
    assert below(tmp_path, "a", "b") == tmp_path / "a" / "b"
    assert below("s3://bucket/x/", "a", "b") == "s3://bucket/x/a/b"
    assert is_bucket("s3://bucket")
    assert not is_bucket(Path("s3://bucket"))
    assert open_store("relative/folder") == FolderStore(Path("relative/folder"))


# Failures


def failure(location: str) -> StorageError:
    """Return the error of a bucket's probe, after checking that it is one plain line."""
    with pytest.raises(StorageError) as raised:
        probe(open_store(location))
    assert isinstance(raised.value, OSError)
    line = str(raised.value)
    assert line.startswith(f"{location}: ")
    assert "\n" not in line
    assert "correct-horse" not in line
    assert str(copy.copy(raised.value)) == line  # Also after pickling from another process.
    return raised.value


def test_missing_credentials_are_reported_with_the_options(
    s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    error = failure(s3_place)
    assert error.problem == "there are no credentials (Unable to locate credentials)"
    assert "AWS_PROFILE" in error.remedy
    assert not error.passing


def test_incomplete_credentials_count_as_missing(
    s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert failure(s3_place).problem.startswith("there are no credentials (Partial credentials")


def test_missing_profile_is_named(s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    error = failure(s3_place)
    assert error.problem == (
        "there are no credentials (The config profile (nobody) could not be found)"
    )


def test_missing_bucket_is_refused(s3_gate: s3.Gate) -> None:
    error = failure("s3://no-such-bucket/x")
    assert (error.problem, error.passing) == ("there is no such bucket", False)


@pytest.mark.parametrize(
    ("status", "code", "problem", "passing"),
    [
        (403, "AccessDenied", "access is denied (ListObjectsV2)", False),
        (403, "InvalidAccessKeyId", "the credentials are refused (InvalidAccessKeyId)", False),
        (400, "ExpiredToken", "the credentials are refused (ExpiredToken)", False),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong", True),
        (
            400,
            "AuthorizationHeaderMalformed",
            "the bucket lies in another region (AuthorizationHeaderMalformed)",
            False,
        ),
        (
            400,
            "IllegalLocationConstraintException",
            "the bucket lies in another region (IllegalLocationConstraintException)",
            False,
        ),
        (503, "SlowDown", "the server asks to slow down (SlowDown)", True),
        (500, "InternalError", "the server fails (InternalError)", True),
        (400, "Strange", "the server refuses ListObjectsV2 (Strange)", False),
    ],
)
def test_server_errors_are_reported_in_plain_words(
    s3_gate: s3.Gate, s3_place: str, status: int, code: str, problem: str, passing: bool
) -> None:
    s3_gate.answer = lambda method, path: (status, code)
    error = failure(s3_place)
    assert (error.problem, error.passing) == (problem, passing)


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_comes_from_the_standard_aws_variables(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "eu-west-3")
    client = module._client()
    assert client.meta.region_name == "eu-west-3"
    assert client.meta.endpoint_url == "https://s3.eu-west-3.amazonaws.com"


def test_impossible_region_is_refused(s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "not a region")
    monkeypatch.setenv("AWS_REGION", "not a region")
    assert failure(s3_place).remedy == "set AWS_REGION to the region of the bucket"


def test_invalid_endpoint_is_refused(s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    error = failure(s3_place)
    assert error.problem == "Invalid endpoint: nonsense"
    assert "AWS_ENDPOINT_URL" in error.remedy


def test_missing_server_fails_soon(s3_gate: s3.Gate, s3_place: str) -> None:
    s3_gate.shut()
    began = time.monotonic()
    error = failure(s3_place)
    assert time.monotonic() - began < module.REQUEST_TIMEOUT
    assert error.problem.startswith("its server does not answer (")
    assert s3_gate.url in error.problem
    assert error.passing
    s3_gate.open()
    probe(open_store(s3_place))


def test_silent_server_fails_at_the_timeout(monkeypatch: pytest.MonkeyPatch, s3_place: str) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(module, "TRIES", 2)
    with s3.running() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        store = open_store(s3_place)
        store.write("a", b"x")
        os.kill(server.pid, signal.SIGSTOP)
        error = failure(s3_place)
        os.kill(server.pid, signal.SIGCONT)
        assert error.problem.startswith("its server does not answer (Read timeout")
        assert store.read("a") == b"x"


def test_throttled_requests_are_retried(s3_gate: s3.Gate, s3_place: str) -> None:
    store = open_store(s3_place)
    requests = iter(range(1000))
    s3_gate.answer = lambda method, path: (503, "SlowDown") if next(requests) % 2 == 0 else None
    store.write("a", b"x")
    assert store.read("a") == b"x"


def test_password_of_an_endpoint_is_not_shown(
    s3_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:hidden@127.0.0.1:{s3.free_port()}")
    assert "hidden" not in str(failure(s3_place))


# The policy


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch):
    """Return a server that grants a user exactly the policy in cluster/."""
    text = (ROOT / "cluster" / "iam-policy.json").read_text(encoding="utf-8")
    with s3.running() as server:
        server.make("example-bucket")
        server.make("another-bucket")
        s3.client(server.url).put_object(Bucket="example-bucket", Key="other/a", Body=b"x")
        iam = s3.client(server.url, "iam")
        iam.create_user(UserName="trainer")
        iam.put_user_policy(UserName="trainer", PolicyName="searches", PolicyDocument=text)
        key = iam.create_access_key(UserName="trainer")["AccessKey"]
        for name, value in s3.settings(server.url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        server.enforce_rights()
        yield server


def test_policy_grants_exactly_what_a_search_needs(
    limited: s3.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = module.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    monkeypatch.setattr(module, "_TRANSFER", small)
    store = open_bucket("s3://example-bucket/borderline/team")
    probe(store)
    version = store.create("claim", b"1")
    store.replace("claim", b"2", version)
    assert store.read_content("claim").data == b"2"
    assert store.entry("claim").size == 1
    (tmp_path / "file").write_bytes(bytes(6 << 20))
    store.write_file("file", tmp_path / "file")
    assert [entry.name for entry in store.entries()] == ["claim", "file"]
    assert store.names() == ["claim", "file"]
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    store.clear()

    elsewhere = open_bucket("s3://example-bucket/other")
    for attempt in (
        lambda: elsewhere.write("a", b"x"),
        lambda: elsewhere.read("a"),
        lambda: elsewhere.remove("a"),
        open_bucket("s3://another-bucket/borderline").entries,
    ):
        with pytest.raises(StorageError, match="access is denied"):
            attempt()


def test_policy_lists_only_the_prefix() -> None:
    """The test server does not check prefixes."""
    policy = json.loads((ROOT / "cluster" / "iam-policy.json").read_text(encoding="utf-8"))
    listing, objects = policy["Statement"]
    assert listing["Action"] == "s3:ListBucket"
    assert listing["Condition"]["StringLike"]["s3:prefix"] == ["borderline", "borderline/*"]
    assert objects["Resource"].endswith("/borderline/*")
    assert not [action for action in objects["Action"] if "*" in action]


def test_denied_request_for_missing_object_reports_missing(s3_gate: s3.Gate, s3_place: str) -> None:
    store = open_bucket(s3_place)
    store.write("secret", b"x")
    s3_gate.answer = lambda method, path: (
        (403, "AccessDenied") if method in ("GET", "HEAD") and path.count("/") > 1 else None
    )
    for look in (store.read, store.entry):
        with pytest.raises(FileNotFoundError):
            look("nothing")
        with pytest.raises(StorageError, match="access is denied"):
            look("secret")


def test_folder_storage_does_not_import_the_aws_client() -> None:
    program = (
        "import sys, cluster.folder_store as s; s.open_store('x'); print('boto3' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
