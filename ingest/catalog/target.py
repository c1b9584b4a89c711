"""What a database URL says, read without SQLAlchemy: its import would cost more than a run with nothing to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.catalog.parameters import connect_arguments
from ingest.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseLost,
    SettingsError,
    TooManyFiles,
    descriptors_left,
    too_many_files,
)

_DRIVERS = frozenset({"sqlite3", "asyncpg", "sqlalchemy"})
_DIALECT_NAMES = re.compile(r"^(?:\([^)]*\)\s*|<class '[^']*'>:\s*)+")
_BUSY = ("locked",)
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
"""SQLSTATE of a serialization failure, a deadlock, a lock not had: the words come in the server's language."""
_DOWN = ("08", "57P")
"""What the SQLSTATE of a lost connection, and of a server that shuts down or starts up, begins with."""
_LOST = ("connection was closed", "connection is closed", "shutting down", "starting up", "terminating connection")

_NO_ROOM = (
    "The disk of the SQLite file may be full, or fails: see `df`, and free some space by hand, as `ingest cleanup` "
    "needs a little itself; then run again. Nothing that was recorded is lost."
)


@dataclass(frozen=True)
class Target:
    """A database: a SQLite `file`, or what `asyncpg.connect` is to be called with. `shown` has no password."""

    is_postgres: bool
    shown: str
    file: str = ""
    connect: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: str) -> Target:
        """
        Raises:
            SettingsError: it names no file, or parameters that are not known.
        """
        scheme, _, rest = url.partition("://")
        if scheme.startswith("sqlite"):
            if not rest.startswith("/") or "?" in rest:
                raise SettingsError("DATABASE_URL: SQLite wants three slashes and a file, and takes no parameters")
            return cls(False, url, file=unquote(rest.removeprefix("/")))
        parts = urlsplit(url)
        further = connect_arguments(parts.query)
        options = {"host": parts.hostname, "port": parts.port, "database": unquote(parts.path.lstrip("/"))}
        options |= {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
        options |= further
        plain = url.partition("?")[0]  # a password may stand behind it as well
        shown = plain.replace(f":{parts.password}@", ":***@", 1) if parts.password else plain
        return cls(True, shown, connect={name: value for name, value in options.items() if value})

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Everything that a driver raises becomes a `DatabaseError` of one line, without the password.

        Or a `TooManyFiles`: then it is not the database that has to be looked at.
        """
        try:
            yield
        except Exception as error:
            if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _DRIVERS:
                raise
            raise self._error(error) from error

    def _error(self, error: Exception) -> DatabaseError | TooManyFiles:
        if (exhausted := too_many_files(error)) is not None:
            return exhausted
        reason = str(getattr(error, "orig", None) or error)
        line = _DIALECT_NAMES.sub("", reason).split("\n")[0].strip() or type(error).__name__
        if password := self.connect.get("password"):
            line = line.replace(str(password), "***")
        lowered = line.lower()
        message = f"{self.shown}: {line}"
        state = str(getattr(getattr(error, "orig", None) or error, "sqlstate", None) or "")
        if state in _CONFLICTS or any(sign in lowered for sign in _BUSY):
            return DatabaseBusy(message)
        if isinstance(error, ConnectionError) or state.startswith(_DOWN) or any(sign in lowered for sign in _LOST):
            return DatabaseLost(message)
        if "no such table" in lowered or ("relation" in lowered and "does not exist" in lowered):
            return DatabaseError(message, hint="Run `ingest db upgrade`.")
        if "unable to open database file" in lowered and not descriptors_left():
            return TooManyFiles(message)
        if "unable to open database file" in lowered or "readonly" in lowered:
            return DatabaseError(message, hint="Check that the file and its directory can be written by this user.")
        if not self.is_postgres and ("is full" in lowered or "disk i/o error" in lowered):
            return DatabaseError(message, hint=_NO_ROOM)
        if "not a database" in lowered:
            return DatabaseError(message, hint="The file is not a SQLite database; check DATABASE_URL.")
        return DatabaseError(message)
