"""Parses addresses of databases, and shows them without passwords."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import sqlalchemy

from spaces.errors import BadInputError

DRIVER = "postgresql+psycopg2"
EXAMPLE = "write postgresql://user@host/name"
_HIDDEN = ("password", "sslpassword")
"""Query options that hold secrets; the second decrypts the key of a client."""


def engine_url(text: str) -> sqlalchemy.URL:
    """Return an address for SQLAlchemy with the driver that this project installs."""
    return parse_url(text).set(drivername=DRIVER)


def parse_url(text: str, field: str = "database") -> sqlalchemy.URL:
    """Return the address of a database on a Postgres server.

    Args:
        text: such as ``postgresql://user@host/name``.
        field: name of the setting, for errors.

    Raises:
        BadInputError: it is not such an address. The message shows no password.
    """
    try:
        url = sqlalchemy.make_url(text)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # An address that cannot be parsed may hold a password anywhere.
        raise BadInputError(field, "..", "is not the URL of a database", EXAMPLE) from None
    if "@" in (url.host or ""):
        remedy = "write an @ in a password as %40"
        raise BadInputError(field, "..", "has more than one @", remedy)
    if url.get_backend_name() != "postgresql":
        problem = f"{url.get_backend_name()} is not supported, only postgresql"
        raise BadInputError(field, shown_url(url), problem, EXAMPLE)
    return url


def refuse_password(text: str) -> None:
    """Refuse a password in an address that would be written to a file.

    Raises:
        BadInputError: the address holds a password, or cannot be parsed.
    """
    url = parse_url(text)
    if url.password is not None or any(secret in url.query for secret in _HIDDEN):
        remedy = "leave it out; PGPASSWORD, ~/.pgpass or BORDERLINE_DATABASE may hold it"
        raise BadInputError("database", shown_url(url), "passwords are not stored in files", remedy)


def without_password(text: str) -> str:
    """Return an address that is safe to store and to show."""
    return shown_url(parse_url(text, "BORDERLINE_DATABASE"))


def shown_url(url: sqlalchemy.URL) -> str:
    """Return an address without its password."""
    bare = sqlalchemy.URL.create(
        url.drivername, url.username, None, url.host, url.port, url.database, url.query
    )
    return bare.difference_update_query(_HIDDEN).render_as_string(hide_password=False)


def sqlite_uri(database: Path) -> str:
    """Return the tracking URI of a database file."""
    path = str(database.absolute()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}"


def sqlite_file_uri(database: Path) -> str:
    """Return the address of a database file that takes options of sqlite, such as ``?mode=ro``."""
    # Both sqlite and SQLAlchemy decode it.
    path = quote(str(database.absolute())).replace("%", "%25")
    return f"sqlite:///file:{path}"


def redacted(text: str) -> str:
    """Return text with the credentials in its addresses replaced by asterisks."""
    text = re.sub(r"([?&]password=)[^&\s'\"<>]*", r"\1***", text)
    # Up to the last @: a password may hold a / or an @ that should have been escaped.
    return re.sub(r"://[^\s'\"<>]*@", "://***@", text)
