"""Addresses of database servers: what is accepted, and that no password is kept or shown."""

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
def test_a_password_in_the_experiment_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"database": url})
    assert caught.value.field == "database"
    assert "leave it out; PGPASSWORD, ~/.pgpass or BORDERLINE_DATABASE" in caught.value.remedy
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", BROKEN)
def test_what_is_no_address_of_a_server_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_experiment({"database": url})
    assert caught.value.field == "database"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [url for url in [*WITH_PASSWORD, *BROKEN] if SECRET in url])
def test_a_password_is_shown_in_no_complaint_about_the_command_line(
    url: str, tmp_path: Path
) -> None:
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
def test_an_address_without_a_password_is_kept_as_it_is(url: str) -> None:
    assert parse_experiment({"database": url}).database == url
    assert parse_url(url).get_backend_name() == "postgresql"


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_the_environment_may_hold_a_password_and_what_is_kept_does_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORDERLINE_DATABASE", url)
    kept = default_database()
    assert kept is not None
    assert SECRET not in kept
    assert kept == without_password(kept)
    folder = Home(Path("runs")).folder("mine")
    assert folder.location(kept) == url


def test_without_a_server_the_study_is_a_file_whatever_the_environment_says_by_now(
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
def test_credentials_are_blotted_out_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
