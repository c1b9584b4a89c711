"""What a database URL says, read without SQLAlchemy: its import would cost more than a run with nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ingest.catalog.sql.deadlines import ANSWER
from ingest.catalog.sql.faults import as_ours, is_of_a_driver
from ingest.catalog.sql.parameters import connect_arguments, places
from ingest.errors import SettingsError

CONNECT_SECONDS = 10.0
"""For a new connection, with TLS and login; `connect_timeout` in the URL says otherwise."""


@dataclass(frozen=True)
class Target:
    """A database: a SQLite `file`, or what `asyncpg.connect` is to be called with. `shown` has no password.

    `reach` is how many seconds a new connection may take, and `answer` how many an answer. `read_only` says that
    nothing is to be written: a database that can only be read will do, be it a file or a server that follows another.
    """

    is_postgres: bool
    shown: str
    file: str = ""
    connect: dict[str, Any] = field(default_factory=dict, repr=False)
    answer: float = ANSWER
    reach: float = CONNECT_SECONDS
    read_only: bool = False

    @classmethod
    def of(cls, url: str, *, read_only: bool = False) -> Target:
        """
        Raises:
            SettingsError: it names no file, or parameters that are not known.
        """
        scheme, _, rest = url.partition("://")
        if scheme.startswith("sqlite"):
            if not rest.startswith("/") or "?" in rest:
                raise SettingsError("DATABASE_URL: SQLite wants three slashes and a file, and takes no parameters")
            return cls(False, url, file=unquote(rest.removeprefix("/")), read_only=read_only)
        parts = urlsplit(url)
        further = connect_arguments(parts.query)
        hosts = parts.netloc.rpartition("@")[2]
        options: dict[str, Any] = {"database": unquote(parts.path.lstrip("/"))}
        options |= places(hosts) if "," in hosts else {"host": parts.hostname, "port": parts.port}
        options |= {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
        options |= further
        answer = options.pop("command_timeout", ANSWER)
        reach = options.pop("timeout", min(CONNECT_SECONDS, answer))
        plain = url.partition("?")[0]  # a password may stand behind it as well
        shown = plain.replace(f":{parts.password}@", ":***@", 1) if parts.password else plain
        connect = {name: value for name, value in options.items() if value}
        if read_only:
            connect["also_standby"] = True
        return cls(True, shown, connect=connect, answer=answer, reach=reach, read_only=read_only)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Everything that a driver raises becomes a `DatabaseError` of one line, without the password.

        Or a `TooManyFiles`: then it is not the database that has to be looked at.
        """
        try:
            yield
        except Exception as error:
            if not is_of_a_driver(error):
                raise
            raise as_ours(error, self.shown, self.connect.get("password", "")) from error
