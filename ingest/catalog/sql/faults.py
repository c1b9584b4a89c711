"""What a driver's exception means: by SQLSTATE or SQLite's own code, since the words come in the server's language.

| of PostgreSQL | of SQLite | is |
|---|---|---|
| 22…, 23…, 54000 | TOOBIG, CONSTRAINT, MISMATCH, RANGE | `DatabaseDataError`: this value, now and ever |
| 40001, 40P01, 55P03, 53300 | BUSY, LOCKED, PROTOCOL | `DatabaseBusy`: later |
| 08…, 57P…, 25P03, 25P04, no connection | | `DatabaseLost`: on another connection |
| no answer in time | | `DatabaseSilent`: the same, once |
| 26000, 42P05 | | `DatabaseUnfit`: a pooler shares our session with others |
| XX001, XX002 | CORRUPT, NOTADB, a short read | `DatabaseDamaged` |
| anything else | anything else | `DatabaseError`, with the hint that fits |
"""

from __future__ import annotations

import os
import re
import sqlite3
import ssl

from ingest.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseDataError,
    DatabaseError,
    DatabaseLost,
    DatabaseSilent,
    DatabaseUnfit,
    TooManyFiles,
    descriptors_left,
    too_many_files,
)

_DRIVERS = frozenset({"sqlite3", "asyncpg", "sqlalchemy"})
_DIALECT_NAMES = re.compile(r"^(?:\([^)]*\)\s*|<class '[^']*'>:\s*)+")
_VALUES = (OverflowError, UnicodeEncodeError)
"""What both drivers let through of their own conversions: a number or a text that the other side has no room for."""

_UPGRADE = "Run `ingest db upgrade`."
_WRITABLE = "Check that the file and its directory can be written by this user."
_NO_ROOM = (
    "The disk of the SQLite file may be full, or fails: see `df`, and free some space by hand, as `ingest cleanup` "
    "needs a little itself; then run again. Nothing that was recorded is lost."
)
_BY_STATE: tuple[tuple[str, type[DatabaseError], str | None], ...] = (
    ("22", DatabaseDataError, None),
    ("23", DatabaseDataError, None),
    ("54000", DatabaseDataError, None),
    ("40001", DatabaseBusy, None),
    ("40P01", DatabaseBusy, None),
    ("55P03", DatabaseBusy, None),
    (
        "53300",
        DatabaseBusy,
        "Raise max_connections, or the role's or the pooler's limit: one process of ingest holds at most 10.",
    ),
    ("53", DatabaseError, "The database server is out of space or memory: look at it, then run again."),
    ("08", DatabaseLost, None),
    ("57P", DatabaseLost, None),
    ("25P03", DatabaseLost, None),
    ("25P04", DatabaseLost, None),
    (
        "25006",
        DatabaseError,
        "Is it a standby, or was default_transaction_read_only set for the role or the database? ingest has to write.",
    ),
    ("28", DatabaseError, "Check DATABASE_URL's user and password, and the server's pg_hba.conf."),
    ("3D000", DatabaseError, "Check the name behind the last slash of DATABASE_URL, or create the database."),
    ("3F000", DatabaseError, "Create the schema that search_path names, or set search_path for the role."),
    ("42501", DatabaseError, "Make the user of DATABASE_URL the owner of the database, and of the tables in it."),
    ("42P01", DatabaseError, _UPGRADE),
    ("42703", DatabaseError, _UPGRADE),
    ("57014", DatabaseError, "Somebody cancelled the statement, or it took ten minutes: look at the server's load."),
    ("XX001", DatabaseDamaged, None),
    ("XX002", DatabaseDamaged, None),
)
"""What a SQLSTATE begins with; the first row that fits."""
_BY_CODE: dict[int, tuple[type[DatabaseError], str | None]] = {
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL), (DatabaseBusy, None)),
    **dict.fromkeys((sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT), (DatabaseDataError, None)),
    **dict.fromkeys((sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE), (DatabaseDataError, None)),
    **dict.fromkeys((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB), (DatabaseDamaged, None)),
    sqlite3.SQLITE_IOERR_SHORT_READ: (DatabaseDamaged, None),
    **dict.fromkeys((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), (DatabaseError, _NO_ROOM)),
    **dict.fromkeys((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN), (DatabaseError, _WRITABLE)),
    **dict.fromkeys((sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH), (DatabaseError, _WRITABLE)),
}
"""By SQLite's extended code, or else by its last byte, the primary one."""
_LONGEST = 511
"""Bytes of a path that SQLite opens (its MAX_PATHNAME)."""
_POOLED = ("26000", "42P05")
"""A prepared statement that is not ours any more, or was somebody else's before."""
_NO_TRANSACTIONS = "statement pooling mode"
"""pgbouncer's own words."""
_POOL_HINT = (
    "Set the pooler's mode for this database to `session` (pgbouncer: pool_mode = session), or name PostgreSQL's own "
    "port in DATABASE_URL: locks and prepared statements belong to a session."
)
_LOST = ("connection was closed", "connection is closed")
"""asyncpg's own words, in no language but its own; it has no code for them."""


def is_of_a_driver(error: Exception) -> bool:
    """Whether it is the database's, or its connection's, and not a defect of ours."""
    return isinstance(error, (OSError, *_VALUES)) or type(error).__module__.partition(".")[0] in _DRIVERS


def as_ours(error: Exception, where: str, password: str) -> DatabaseError | TooManyFiles:
    """The error of one line that says it, without the password; `where` is what the line begins with."""
    if (exhausted := too_many_files(error)) is not None:
        return exhausted
    cause = getattr(error, "orig", None) or error
    line = _DIALECT_NAMES.sub("", str(cause)).split("\n")[0].strip() or type(error).__name__
    line = line.replace(password, "***") if password else line
    message = f"{where}: {line}"
    if isinstance(cause, _VALUES):
        return DatabaseDataError(message)
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return _of_sqlite(code, message, line, where)
    return _of_postgres(cause, where, line)


def pooled(where: str) -> DatabaseUnfit:
    return DatabaseUnfit(f"{where}: a pooler in between lends a session for one transaction only", hint=_POOL_HINT)


def _of_sqlite(code: int, message: str, line: str, where: str) -> DatabaseError | TooManyFiles:
    kind, hint = _BY_CODE.get(code) or _BY_CODE.get(code & 0xFF) or (DatabaseError, None)
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN and not descriptors_left():
        return TooManyFiles(message)
    if (
        code & 0xFF == sqlite3.SQLITE_CANTOPEN
        and len(os.fsencode(os.path.abspath(where.partition(":///")[2]))) > _LONGEST
    ):
        hint = f"SQLite takes a path of {_LONGEST} bytes at most: set DATABASE_URL to a shorter one, or move the data."
    if line.startswith(("no such table", "no such column")):
        hint = _UPGRADE
    return kind(message, hint=hint)


def _of_postgres(error: BaseException, where: str, line: str) -> DatabaseError:
    message, state = f"{where}: {line}", str(getattr(error, "sqlstate", None) or "")
    if state in _POOLED or _NO_TRANSACTIONS in line:
        return pooled(where)
    for beginning, kind, hint in _BY_STATE:
        if state.startswith(beginning):
            return kind(message, hint=hint)
    if isinstance(error, TimeoutError):
        return DatabaseSilent(f"{where}: no answer in time")
    unreachable = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
    if unreachable or any(sign in line.lower() for sign in _LOST):
        return DatabaseLost(message)
    return DatabaseError(message)
