"""The audit trail: append-only, each event hashed together with the one before it.

An edited, dropped or reordered event breaks the chain, and `broken_links` says where. The last events could be dropped
without a trace in the chain, so each run also notes, at its end, the newest event that it sees. Writers take turns: on
SQLite by the write transaction, on PostgreSQL by an advisory lock that ends with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ingest.catalog.sql.driver import LAST_ID, Dialect, Driver, Insert, Statement, Steps, Transaction, read_time
from ingest.model import Audit

FIRST = "0" * 64
_TURN_POSTGRES = f"SELECT pg_advisory_xact_lock({0x696E67657374})"
"""The advisory lock's name is "ingest" in ASCII."""
_INSERT = Insert("events", ("at", "run_id", "source_id", "key", "what", "detail", "prev_hash", "hash"))
_NEWEST = "SELECT id, hash FROM events ORDER BY id DESC LIMIT 1"
_READ_SQLITE = (
    "SELECT id, at, run_id, source_id, key, what, detail, prev_hash, hash FROM events WHERE id >= ? ORDER BY id LIMIT ?"
)
_READ_POSTGRES = _READ_SQLITE.replace(" at,", " to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US BC'),")
"""PostgreSQL keeps times that no driver reads: before the year 1, after 9999, or none at all."""
_FIRST_ID = -LAST_ID - 1
"""What the column begins with. Ours begin at 1; who forges one may take any."""
_EVENTS_AT_ONCE = 2_000
_NOT_AS_SEEN = (
    "SELECT runs.audit_id FROM runs LEFT JOIN events ON events.id = runs.audit_id "
    "WHERE runs.audit_id IS NOT NULL AND events.hash IS DISTINCT FROM runs.audit_hash"
)


def link(previous: str, at: datetime, run_id: int, source_id: int, line: tuple[str, str, str]) -> str:
    """The hash of one event: SHA-256 over the previous hash and every column (`line` is key, what, detail)."""
    stamp = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return hashlib.sha256(json.dumps([previous, stamp, run_id, source_id, *line]).encode()).hexdigest()


def append(dialect: Dialect, run_id: int, source_id: int, at: datetime, audits: Sequence[Audit]) -> Steps[None]:
    """Adds events at the end of the chain."""
    if not audits:
        return
    if dialect.is_postgres:
        yield Statement(_TURN_POSTGRES)
    previous = (yield from newest())[1] or FIRST
    moment, rows = dialect.time(at), []
    for audit in audits:
        detail = json.dumps(audit.detail, sort_keys=True)
        current = link(previous, at, run_id, source_id, (audit.key, audit.what, detail))
        rows.append((moment, run_id, source_id, audit.key, audit.what, detail, previous, current))
        previous = current
    yield _INSERT.of(rows)


def appending(run_id: int, source_id: int, at: datetime, audits: Sequence[Audit]) -> Transaction[None]:
    """`append` as a transaction, or a part of one."""
    return lambda dialect: append(dialect, run_id, source_id, at, audits)


def newest() -> Steps[tuple[int | None, str | None]]:
    """Id and hash of the last event; None and None before the first."""
    rows = yield Statement(_NEWEST)
    return (int(rows[0][0]), rows[0][1]) if rows else (None, None)


async def broken_links(driver: Driver) -> list[int]:
    """The ids of events that do not follow from the one before, or are not what a run saw; empty when all is well."""
    broken, start, previous = set(), _FIRST_ID, FIRST
    query = _READ_POSTGRES if driver.dialect.is_postgres else _READ_SQLITE
    while start <= LAST_ID and (rows := await driver.fetch(query, start, _EVENTS_AT_ONCE)):
        for number, at, run_id, source_id, key, what, detail, previous_hash, found in rows:
            expected = _link_or_none(previous_hash, at, run_id, source_id, (key, what, detail))
            if expected is None or previous_hash != previous or found != expected:
                broken.add(int(number))
            start, previous = number + 1, found
    return sorted(broken.union(int(row[0]) for row in await driver.fetch(_NOT_AS_SEEN, leisurely=True)))


def _link_or_none(previous: str, at: Any, run_id: int, source_id: int, line: tuple[str, str, str]) -> str | None:
    """None for what cannot be hashed: SQLite keeps anything in any column, and so none of it is an event of ours."""
    try:
        moment = read_time(at.removesuffix(" AD"))
        return link(previous, moment, run_id, source_id, line)
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
