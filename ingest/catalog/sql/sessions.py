"""PostgreSQL's sessions: connected alike for whoever needs one, whatever is set for the role or the database.

What a session relies on it sets itself, by statements: a pooler refuses most of it among the parameters of a start.
`search_path` stays theirs, as it says where the tables are, and so does `default_transaction_read_only`: that is meant.
Times, bytes and texts travel in binary and UTF-8, so that no setting of their spelling matters.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from typing import Any

import asyncpg

from ingest.catalog.sql.deadlines import Deadlines
from ingest.catalog.sql.faults import pooled
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseUnfit

CLOSE_SECONDS = 5.0
_NOT_THIS_ONE = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)
"""Why another one of several hosts is tried."""
_SILENT_SECONDS, _PROBE_SECONDS, _PROBES = 15, 5, 3
"""After which a connection that carries nothing is probed, how often, and how many probes may stay unanswered."""
_STATEMENT = "10min"
"""No question of ours takes as long; it ends at the server, too, when nobody waits for it any more."""
_SETTINGS: tuple[tuple[int, str, str], ...] = (
    (0, "statement_timeout", _STATEMENT),
    (17, "transaction_timeout", "0"),
    (0, "default_transaction_isolation", "read committed"),  # the audit trail's turns, and upserts that meet
    (0, "standard_conforming_strings", "on"),
    (0, "idle_in_transaction_session_timeout", "2min"),  # a process that is stopped holds nobody up for longer
    (14, "idle_session_timeout", "0"),  # the lock's session has little to say
    (0, "tcp_keepalives_idle", "30"),  # the lock of a machine that is gone is free again within about a minute
    (0, "tcp_keepalives_interval", "10"),
    (0, "tcp_keepalives_count", "3"),
    (12, "tcp_user_timeout", "60000"),
)
"""The version of PostgreSQL that has it, its name, and what we need."""
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""What is recorded is relied on at once: files are unlinked, offsets committed. How durable is still the server's."""
_WHO = "SELECT pg_backend_pid(), current_setting('server_encoding')"
_MARK = "SELECT set_config('ingest.session', '{}', false)"
_MARKED = "SELECT current_setting('ingest.session', true)"
_ROUNDS = 3
_ENCODING_HINT = "Create the database anew: CREATE DATABASE ingest OWNER ingest ENCODING 'UTF8' TEMPLATE template0."


async def connect(target: Target, deadlines: Deadlines, **options: Any) -> Any:
    """A session of its own; `options` are the driver's. Raises whatever the driver does."""
    connection = await dial(**target.connect, timeout=target.reach, **options)
    try:
        await prepare(connection, deadlines)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def dial(dsn: str | None = None, *, also_standby: bool = False, **options: Any) -> Any:
    """As `asyncpg.connect`; `also_standby` says that a server that only reads will do where there is no other."""
    try:
        return await _dial(dsn, **options)
    except _NOT_THIS_ONE:
        if not also_standby or "target_session_attrs" not in options:
            raise
    return await _dial(dsn, **options | {"target_session_attrs": "any"})


async def _dial(dsn: str | None, *, host: Any = None, port: Any = None, **options: Any) -> Any:
    """The driver lets one of several hosts that is silent use up the time of all of them."""
    if not isinstance(host, list):
        return await asyncpg.connect(dsn, host=host, port=port, **options)
    failure: Exception | None = None
    for one, its_port in zip(host, port, strict=True):
        try:
            return await asyncpg.connect(dsn, host=one, port=its_port, **options)
        except _NOT_THIS_ONE as error:
            failure = error
    raise failure or ValueError("no host")


async def prepare(connection: Any, deadlines: Deadlines) -> None:
    """Makes a new session independent of what others have set for it, and of a network that forgets it."""
    _keep_alive(connection)
    version = connection.get_server_version().major
    settings = {name: value for since, name, value in _SETTINGS if version >= since}
    settings["lock_timeout"] = str(int(deadlines.answer * 800))  # milliseconds: it speaks before we stop listening
    said = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())
    await connection.execute(f"{said}; SET application_name = 'ingest'; {_DURABLE}")


def _keep_alive(connection: Any) -> None:
    sock = connection._transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    unanswered = 1000 * (_SILENT_SECONDS + _PROBE_SECONDS * _PROBES)
    for name, value in (
        ("TCP_KEEPIDLE", _SILENT_SECONDS),
        ("TCP_KEEPINTVL", _PROBE_SECONDS),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", unanswered),
    ):
        if hasattr(socket, name):  # Linux has all of them
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def require_fitting(connection: Any, target: Target, deadlines: Deadlines) -> None:
    """
    Raises:
        DatabaseUnfit: its encoding does not hold every key, or a pooler lends the session for a transaction only.
    """
    pid, encoding = await connection.fetchrow(_WHO)
    if encoding != "UTF8":
        raise DatabaseUnfit(f"{target.shown}: its encoding is {encoding}, and not UTF8", hint=_ENCODING_HINT)
    if pid != connection.get_server_pid() and await _is_shared(connection, target, deadlines):
        raise pooled(target.shown)


async def _is_shared(ours: Any, target: Target, deadlines: Deadlines) -> bool:
    """Behind a pooler (the process that answers is not the one that let us in): whether sessions are lent.

    Then a mark that is left in ours shows in another one, or not in ours while the other is in a transaction.
    """
    mark = secrets.token_hex(8)
    other = await connect(target, deadlines)
    try:
        for _ in range(_ROUNDS):
            await ours.execute(_MARK.format(mark))
            async with other.transaction():
                if await other.fetchval(_MARKED) == mark or await ours.fetchval(_MARKED) != mark:
                    return True
        return False
    finally:
        other.terminate()
