"""Implements a store in an S3 bucket with boto3.

boto3 finds the credentials (environment, profile, instance profile). Region and endpoint come from
``AWS_REGION``, ``AWS_ENDPOINT_URL`` and similar variables. Every call fails after a few retries
within 90 seconds, with a one-line error.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cluster.s3_errors import explain, is_denial
from cluster.storage import SCHEME, Entry, StorageError

CONNECTIONS = 16
"""Maximum number of concurrent requests of a process."""
CONNECT_TIMEOUT, READ_TIMEOUT, TRIES = 5.0, 15.0, 3
REQUEST_TIMEOUT = 90.0
"""Upper limit for all tries of one request and the pauses between them, in seconds."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_EXAMPLE = "write s3://bucket/prefix"
_PAUSE = 0.5
# Larger files are sent in parts, so that a broken connection costs only one part.
_TRANSFER = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20)
_making = threading.Lock()


def parse_location(text: str) -> tuple[str, str]:
    """Return bucket and prefix of an ``s3://`` location; the prefix may be empty.

    Raises:
        ValueError: the location is invalid; the message states why.
    """
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket or text!r} is not the name of a bucket: {_EXAMPLE}")
    if any(not part.isprintable() or part in (".", "..") for part in prefix.split("/")):
        raise ValueError(f"the prefix has parts that are not valid folder names: {_EXAMPLE}")
    return bucket, "/".join(part for part in prefix.split("/") if part)


def open_bucket(location: str) -> BucketStore:
    """Return the store at ``s3://bucket/prefix`` without accessing it.

    Raises:
        ValueError: the location is invalid.
    """
    return BucketStore(*parse_location(location))


@dataclass(frozen=True)
class Content:
    """Content of an object.

    Attributes:
        data: the bytes.
        version: version for `BucketStore.replace`.
        age: seconds since it was written, by the server's clock.
    """

    data: bytes
    version: str
    age: float


@dataclass(frozen=True)
class BucketStore:
    """The objects of a bucket below a prefix; thread-safe."""

    bucket: str
    prefix: str = ""

    @property
    def location(self) -> str:
        """See `cluster.storage.Store`."""
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def timeout(self) -> float:
        """See `cluster.storage.Store`."""
        return REQUEST_TIMEOUT

    def within(self, name: str) -> BucketStore:
        """See `cluster.storage.Store`."""
        return BucketStore(self.bucket, self.key(name))

    def key(self, name: str) -> str:
        """Return the key of an object by its name."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def exists(self) -> bool:
        """See `cluster.storage.Store`."""
        with self._explained() as client:
            found = client.list_objects_v2(Bucket=self.bucket, Prefix=self._below, MaxKeys=1)
        return bool(found["KeyCount"])

    @property
    def _below(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def entries(self) -> list[Entry]:
        """See `cluster.storage.Store`."""
        return [
            Entry(each["Key"][len(self._below) :], each["Size"], each["ETag"].strip('"'))
            for page in self._pages()
            for each in page.get("Contents", ())
        ]

    def names(self) -> list[str]:
        """See `cluster.storage.Store`."""
        found = []
        for page in self._pages(Delimiter="/"):
            found += [each["Key"] for each in page.get("Contents", ())]
            found += [each["Prefix"].rstrip("/") for each in page.get("CommonPrefixes", ())]
        return sorted(key[len(self._below) :] for key in found)

    def _pages(self, **options: str) -> Iterator[Any]:
        with self._explained() as client:
            pages = client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self.bucket, Prefix=self._below, **options)

    def entry(self, name: str = "") -> Entry:
        """Return one entry; without a name, the object whose key is the prefix.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        key = self.key(name) if name else self.prefix
        try:
            with self._explained(key) as client:
                found = client.head_object(Bucket=self.bucket, Key=key)
        except StorageError as error:
            self._refuse_missing(key, error)
            raise
        return Entry(name, found["ContentLength"], found["ETag"].strip('"'))

    def read(self, name: str) -> bytes:
        """See `cluster.storage.Store`."""
        return self.read_content(name).data

    def read_content(self, name: str) -> Content:
        """Return an object with its version and age.

        Raises:
            FileNotFoundError: the object does not exist.
        """
        return self._get(self.key(name))

    def read_key(self, key: str, version: str) -> bytes:
        """Return a version of an object by its full key, regardless of the prefix.

        Args:
            key: key of the object.
            version: as in `Entry.version`.

        Raises:
            FileExistsError: the object has changed.
            FileNotFoundError: the object is gone.
        """
        return self._get(key, IfMatch=f'"{version}"').data

    def read_part(self, key: str, first: int, last: int, version: str) -> bytes:
        """Return the bytes from ``first`` to ``last`` inclusive; see `read_key`."""
        return self._get(key, IfMatch=f'"{version}"', Range=f"bytes={first}-{last}").data

    def _get(self, key: str, **conditions: str) -> Content:
        for attempt in range(1, TRIES + 1):
            answered = False
            try:
                with self._explained(key) as client:
                    answer = client.get_object(Bucket=self.bucket, Key=key, **conditions)
                    answered = True
                    with answer["Body"] as body:
                        data = body.read()
                    headers = answer["ResponseMetadata"]["HTTPHeaders"]
                    return Content(data, answer["ETag"].strip('"'), _age(headers))
            except StorageError as error:
                # botocore retries requests, but not incomplete responses.
                if not answered or attempt == TRIES:
                    self._refuse_missing(key, error)
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _refuse_missing(self, key: str, error: StorageError) -> None:
        """Convert "access denied" for a missing object.

        S3 answers so to credentials that may list only below a prefix.

        Raises:
            FileNotFoundError: the object is missing.
        """
        if not is_denial(error):
            return
        with self._explained(key) as client:
            found = client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)
        if all(each["Key"] != key for each in found.get("Contents", ())):
            raise FileNotFoundError(f"there is no {key} in {self.bucket}") from error

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `cluster.storage.Store`."""
        with self._explained(name) as client:
            client.put_object(Bucket=self.bucket, Key=self.key(name), Body=bytes(content))

    def write_file(self, name: str, path: Path) -> None:
        """Write the content of a file atomically."""
        with self._explained(name) as client, path.open("rb") as file:
            client.upload_fileobj(file, self.bucket, self.key(name), Config=_TRANSFER)

    def create(self, name: str, content: bytes) -> str:
        """Write a new object and return its version.

        Raises:
            FileExistsError: the object exists.
        """
        return self._put(name, content, IfNoneMatch="*")

    def replace(self, name: str, content: bytes, version: str) -> str:
        """Replace an object of this version, and return the new version.

        Raises:
            FileExistsError: the object has another version, or is gone.
        """
        return self._put(name, content, IfMatch=f'"{version}"')

    def _put(self, name: str, content: bytes, **condition: str) -> str:
        where = {"Bucket": self.bucket, "Key": self.key(name), "Body": content}
        with self._explained(name) as client:
            try:
                answer = client.put_object(**where, **condition)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code == "NoSuchKey":
                    raise FileExistsError(f"{self.location}/{name} is gone") from error
                if code != "NotImplemented":
                    raise
                # The server does not support conditional writes: write unconditionally.
                answer = client.put_object(**where)
        return str(answer["ETag"]).strip('"')

    def remove(self, name: str) -> None:
        """See `cluster.storage.Store`."""
        with self._explained(name) as client:
            client.delete_object(Bucket=self.bucket, Key=self.key(name))

    def clear(self) -> None:
        """See `cluster.storage.Store`."""
        for entry in self.entries():
            self.remove(entry.name)

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[Any]:
        """Yield the client, and convert its errors."""
        try:
            yield _client()
        except (ClientError, BotoCoreError, boto3.exceptions.Boto3Error, ValueError) as error:
            raise explain(error, self.location, name) from error


def _age(headers: dict[str, str]) -> float:
    now, then = (parsedate_to_datetime(headers[name]) for name in ("date", "last-modified"))
    return (now - then).total_seconds()


def _client() -> Any:
    # Changed settings, as in tests, need another client.
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    with _making:
        return _make_client(os.getpid(), settings)


@lru_cache(maxsize=4)
def _make_client(_pid: int, _settings: tuple[tuple[str, str], ...]) -> Any:
    # boto3 checks checksums by default. For servers without support users set
    # AWS_REQUEST_CHECKSUM_CALCULATION, which an option here would override.
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=CONNECTIONS,
        user_agent_extra="borderline",
    )
    # boto3 itself only reads AWS_DEFAULT_REGION.
    region = os.environ.get("AWS_REGION") or None
    return boto3.session.Session(region_name=region).client("s3", config=config)
