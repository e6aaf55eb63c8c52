"""URLs of database servers: validation, and secrecy of passwords."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.experiment.folder import Home, default_database
from search.experiment.loading import load_experiment, parse_experiment
from search.urls import parse_url, redacted, without_password
from spaces.errors import BadInputError

SECRET = "hunter2"
WITH_PASSWORD = [
    f"postgresql://me:{SECRET}@db.example.com/studies",
    f"postgresql+psycopg2://me:{SECRET}@db.example.com:5432/studies",
    f"postgresql://db.example.com/studies?user=me&password={SECRET}",
    f"postgresql://db.example.com/studies?sslkey=mine.key&sslpassword={SECRET}",
    f"postgresql://me:a/{SECRET}@db.example.com/studies",
]
BROKEN = [
    f"me:{SECRET}@db.example.com",
    f"postgresql://me:{SECRET}@db.example.com:port/studies",
    f"postgresql://me:a@{SECRET}@db.example.com/studies",
    f"mysql://me:{SECRET}@db.example.com/studies",
    "sqlite:////tmp/study.db",
    "",
    "studies",
    "://",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_password_in_experiment_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"database": url})
    assert caught.value.field == "database"
    assert "leave it out; PGPASSWORD, ~/.pgpass or BORDERLINE_DATABASE" in caught.value.remedy
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", BROKEN)
def test_invalid_database_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"database": url})
    assert caught.value.field == "database"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [url for url in [*WITH_PASSWORD, *BROKEN] if SECRET in url])
def test_refused_overrides_do_not_show_the_password(url: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    for override in (f"database={url}", f"database: {url}", f"name={url}", f"budget={url}"):
        with pytest.raises(BadInputError) as caught:
            load_experiment(path, [override])
        if "://" in url or override.startswith("database="):
            assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.com/studies",
        "postgresql://me@db.example.com:5432/studies",
        "postgresql:///studies?host=/var/run/postgresql",
    ],
)
def test_url_without_password_is_stored_unchanged(url: str) -> None:
    assert parse_experiment({"database": url}).database == url
    assert parse_url(url).get_backend_name() == "postgresql"


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_password_in_environment_is_not_stored(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORDERLINE_DATABASE", url)
    stored = default_database()
    assert stored is not None
    assert SECRET not in stored
    assert stored == without_password(stored)
    folder = Home(Path("runs")).folder("mine")
    assert folder.location(stored) == url


def test_stored_location_overrides_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Home(Path("runs")).folder("mine")
    monkeypatch.setenv("BORDERLINE_DATABASE", WITH_PASSWORD[0])
    assert folder.location(None) == folder.study
    assert folder.location("postgresql://other/studies") == "postgresql://other/studies"
    monkeypatch.delenv("BORDERLINE_DATABASE")
    assert default_database() is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@db.example.com/x", "http://***@db.example.com/x"),
        ("postgresql://me:a/b@c@db/x", "postgresql://***@db/x"),
        (
            "postgresql://db/x?user=me&password=secret&x=1",
            "postgresql://db/x?user=me&password=***&x=1",
        ),
        ("'http://me:secret@db' of me@example.com", "'http://***@db' of me@example.com"),
        ("http://db:5000/x is away", "http://db:5000/x is away"),
    ],
)
def test_only_credentials_are_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown
