"""The audit trail: append-only, each event hashed together with the one before it.

An edited, dropped or reordered event breaks the chain, and `broken_links` says where. Writers take turns: on SQLite by
the write transaction, on PostgreSQL by an advisory lock that ends with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from ingest.catalog.lane import Dialect, Lane, Statement, Steps
from ingest.model import Audit

FIRST = "0" * 64
_TURN = 0x696E67657374  # the advisory lock's name: "ingest" in ASCII
_INSERT = (
    "INSERT INTO events (at, run_id, source_id, key, what, detail, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_READ = (
    "SELECT id, at, run_id, source_id, key, what, detail, prev_hash, hash FROM events WHERE id > ? ORDER BY id LIMIT ?"
)
_EVENTS_AT_ONCE = 2_000


def link(previous: str, at: datetime, run_id: int, source_id: int, line: tuple[str, str, str]) -> str:
    """The hash of one event: SHA-256 over the previous hash and every column (`line` is key, what, detail)."""
    stamp = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return hashlib.sha256(json.dumps([previous, stamp, run_id, source_id, *line]).encode()).hexdigest()


def append(dialect: Dialect, run_id: int, source_id: int, at: datetime, audits: Sequence[Audit]) -> Steps[None]:
    """Adds events at the end of the chain."""
    if not audits:
        return
    if dialect.is_postgres:
        yield Statement("SELECT pg_advisory_xact_lock(?)", (_TURN,))
    newest = yield Statement("SELECT hash FROM events ORDER BY id DESC LIMIT 1")
    previous = newest[0][0] if newest else FIRST
    moment, rows = dialect.time(at), []
    for audit in audits:
        detail = json.dumps(audit.detail, sort_keys=True)
        current = link(previous, at, run_id, source_id, (audit.key, audit.what, detail))
        rows.append((moment, run_id, source_id, audit.key, audit.what, detail, previous, current))
        previous = current
    yield Statement(_INSERT, rows=rows)


async def broken_links(lane: Lane) -> list[int]:
    """The ids of events that do not follow from the one before; empty when the chain holds."""
    broken, before, previous = [], 0, FIRST
    while rows := await lane.fetch(_READ, before, _EVENTS_AT_ONCE):
        for number, at, run_id, source_id, key, what, detail, previous_hash, found in rows:
            expected = link(previous_hash, _moment(at), run_id, source_id, (key, what, detail))
            if previous_hash != previous or found != expected:
                broken.append(int(number))
            before, previous = number, found
    return broken


def _moment(at: datetime | str) -> datetime:
    """SQLite keeps text, in UTC; also what people wrote by hand: with or without fraction or offset."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
