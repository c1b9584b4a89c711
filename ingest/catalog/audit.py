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

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog.tables import events, runs
from ingest.model import Audit

FIRST = "0" * 64
_TURN = 0x696E67657374  # the advisory lock's name: "ingest" in ASCII


def link(previous: str, at: datetime, run_id: int, source_id: int, line: tuple[str, str, str]) -> str:
    """The hash of one event: SHA-256 over the previous hash and every column (`line` is key, what, detail)."""
    stamp = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return hashlib.sha256(json.dumps([previous, stamp, run_id, source_id, *line]).encode()).hexdigest()


async def append(
    connection: AsyncConnection, run_id: int, source_id: int, at: datetime, audits: Sequence[Audit]
) -> None:
    """Adds events at the end of the chain, within the caller's transaction."""
    if not audits:
        return
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
    newest = select(events.c.hash).order_by(events.c.id.desc()).limit(1)
    previous = (await connection.execute(newest)).scalar() or FIRST
    rows = []
    for audit in audits:
        detail = json.dumps(audit.detail, sort_keys=True)
        current = link(previous, at, run_id, source_id, (audit.key, audit.what, detail))
        rows.append(
            {
                "at": at,
                "run_id": run_id,
                "source_id": source_id,
                "key": audit.key,
                "what": audit.what,
                "detail": detail,
                "prev_hash": previous,
                "hash": current,
            }
        )
        previous = current
    await connection.execute(insert(events), rows)


async def newest(connection: AsyncConnection) -> tuple[int, str] | None:
    """Id and hash of the last event; None before the first."""
    query = select(events.c.id, events.c.hash).order_by(events.c.id.desc()).limit(1)
    row = (await connection.execute(query)).one_or_none()
    return (int(row.id), str(row.hash)) if row is not None else None


async def broken_links(connection: AsyncConnection) -> list[int]:
    """The ids of events that do not follow from the one before, or are not what a run saw; empty when all is well."""
    broken = await _broken_chain(connection)
    seen = (
        select(runs.c.audit_id)
        .outerjoin(events, events.c.id == runs.c.audit_id)
        .where(runs.c.audit_id.is_not(None), events.c.hash.is_distinct_from(runs.c.audit_hash))
    )
    return sorted({*broken, *map(int, (await connection.execute(seen)).scalars())})


async def _broken_chain(connection: AsyncConnection) -> list[int]:
    broken, previous = [], FIRST
    stream = await connection.stream(select(events).order_by(events.c.id))
    async for row in stream:
        expected = link(row.prev_hash, row.at, row.run_id, row.source_id, (row.key, row.what, row.detail))
        if row.prev_hash != previous or row.hash != expected:
            broken.append(int(row.id))
        previous = row.hash
    return broken
