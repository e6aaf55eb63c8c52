"""A prefix of an S3 bucket as a store, by boto3 and in the usual AWS way.

Credentials come from wherever boto3 finds them (environment, profile, the machine's instance
profile), region and endpoint from ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and their like. Every call
gives up within a minute or so, having tried a few times; what it failed with is one plain line.
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
"""Requests that a process makes at a time."""
CONNECT_TIMEOUT, READ_TIMEOUT, TRIES = 5.0, 15.0, 3
REQUEST_TIMEOUT = 90.0
"""All tries of one request together, with the pauses between them."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_EXAMPLE = "write s3://bucket/prefix"
_PAUSE = 0.5
# Larger files travel in parts, so that a broken connection costs a part.
_TRANSFER = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20)
_making = threading.Lock()


def parse_location(text: str) -> tuple[str, str]:
    """Return bucket and prefix of an ``s3://`` location; the prefix may be empty.

    Raises:
        ValueError: it is none; says why.
    """
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket or text!r} is no name of a bucket: {_EXAMPLE}")
    if any(not part.isprintable() or part in (".", "..") for part in prefix.split("/")):
        raise ValueError(f"the prefix has parts that no folder could have: {_EXAMPLE}")
    return bucket, "/".join(part for part in prefix.split("/") if part)


def open_bucket(location: str) -> BucketStore:
    """Return the store at ``s3://bucket/prefix``; nothing is asked of it yet.

    Raises:
        ValueError: it is no such location.
    """
    return BucketStore(*parse_location(location))


@dataclass(frozen=True)
class Content:
    """What was read of an object.

    Attributes:
        data: the bytes.
        version: by which `BucketStore.replace` knows it.
        age: seconds since it was written, by the clock of the server alone.
    """

    data: bytes
    version: str
    age: float


@dataclass(frozen=True)
class BucketStore:
    """All objects of a bucket below a prefix; safe for threads."""

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
        """Return the key of the object that has a name here."""
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
        """Return one entry; that of the prefix itself, as a key, without a name.

        Raises:
            FileNotFoundError: there is none.
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
            FileNotFoundError: there is none.
        """
        return self._get(self.key(name))

    def read_key(self, key: str, version: str) -> bytes:
        """Return a version of an object by its key in the bucket, whatever the prefix.

        Args:
            key: of the object.
            version: as `Entry.version` says.

        Raises:
            FileExistsError: the object has changed.
            FileNotFoundError: it is gone.
        """
        return self._get(key, IfMatch=f'"{version}"').data

    def read_part(self, key: str, first: int, last: int, version: str) -> bytes:
        """Return the bytes from one position to another, both included; else as `read_key`."""
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
                # botocore tries again to get an answer, but not to get the whole of it.
                if not answered or attempt == TRIES:
                    self._refuse_missing(key, error)
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("unreachable")

    def _refuse_missing(self, key: str, error: StorageError) -> None:
        """Say of an object that is not there that it is not there.

        Who may list only what lies below a prefix is told of what is missing that it is denied.

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
        """Write the content of a file, whole or not at all."""
        with self._explained(name) as client, path.open("rb") as file:
            client.upload_fileobj(file, self.bucket, self.key(name), Config=_TRANSFER)

    def create(self, name: str, content: bytes) -> str:
        """Write a new object and return its version.

        Raises:
            FileExistsError: there is one of that name.
        """
        return self._put(name, content, IfNoneMatch="*")

    def replace(self, name: str, content: bytes, version: str) -> str:
        """Write an object in place of one of this version, and return the new version.

        Raises:
            FileExistsError: it has another version by now, or is gone.
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
                # A server without conditions: what is left is to look before one leaps.
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
        """Yield the client; what it fails with is said in plain words."""
        try:
            yield _client()
        except (ClientError, BotoCoreError, boto3.exceptions.Boto3Error, ValueError) as error:
            raise explain(error, self.location, name) from error


def _age(headers: dict[str, str]) -> float:
    now, then = (parsedate_to_datetime(headers[name]) for name in ("date", "last-modified"))
    return (now - then).total_seconds()


def _client() -> Any:
    # Whoever changes the settings of a process, as tests do, gets another client.
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    with _making:
        return _make_client(os.getpid(), settings)


@lru_cache(maxsize=4)
def _make_client(_pid: int, _settings: tuple[tuple[str, str], ...]) -> Any:
    # Sums of everything sent and received are checked by default; whoever has a server that
    # cannot do so says it by AWS_REQUEST_CHECKSUM_CALCULATION, which a word here would overrule.
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=CONNECTIONS,
        user_agent_extra="borderline",
    )
    # Of its own accord boto3 knows the older name alone.
    region = os.environ.get("AWS_REGION") or None
    return boto3.session.Session(region_name=region).client("s3", config=config)
