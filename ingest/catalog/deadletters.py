"""Messages that could not be carried out: those that wait for another try, and those that were given up."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog.catalog import Catalog
from ingest.catalog.engine import upsert
from ingest.catalog.tables import dead_letters
from ingest.model import LetterState

LEASE = timedelta(minutes=5)
"""A letter that was handed out for a try is not handed out again before."""


class LetterRow(NamedTuple):
    """One message, as it came, and what became of it. `id` is None before it is written."""

    topic: str
    partition: int
    offset: int
    message_key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    state: str
    reason: str
    attempts: tuple[dict[str, str], ...]
    """``at``, ``error`` and ``message`` of each try, oldest first."""
    first_at: datetime
    next_attempt_at: datetime | None = None
    key: str | None = None
    """The object's key, where the message could be read."""
    id: int | None = None


async def put(catalog: Catalog, source_id: int, rows: Sequence[LetterRow], settled: Sequence[int] = ()) -> None:
    """Writes new letters, updates those with an id, and removes the `settled` ones, in one transaction.

    A new letter of a message that is there already changes nothing: it was consumed twice. A letter from an earlier
    topic of the same name makes room for it.
    """
    async with catalog.writing() as connection:
        new = [row for row in rows if row.id is None]
        if new:
            await _rewrite(connection, source_id, await _in_their_place(connection, source_id, new))
            statement = upsert(connection, dead_letters).on_conflict_do_nothing()
            await connection.execute(statement, [_values(source_id, row) for row in new])
        await _rewrite(connection, source_id, [row for row in rows if row.id is not None])
        if settled:
            await connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(list(settled))))


async def _rewrite(connection: AsyncConnection, source_id: int, rows: Sequence[LetterRow]) -> None:
    for row in rows:
        await connection.execute(
            update(dead_letters).where(dead_letters.c.id == row.id).values(_values(source_id, row))
        )


async def _in_their_place(connection: AsyncConnection, source_id: int, new: Sequence[LetterRow]) -> list[LetterRow]:
    """The letters that stand where `new` ones are to stand, as they have to be changed for them.

    Topics are made anew, with their offsets from 0: a letter of another message is moved aside; one of the same message
    that was given up waits again, if the new one would.
    """
    query = select(dead_letters).where(
        dead_letters.c.source_id == source_id,
        dead_letters.c.topic.in_({row.topic for row in new}),
        dead_letters.c.offset.in_({row.offset for row in new}),
    )
    standing = {(row.topic, row.partition, row.offset): row for row in map(_as_row, await connection.execute(query))}
    changed = []
    for row in new:
        old = standing.get((row.topic, row.partition, row.offset))
        if old is None:
            continue
        if (old.message_key, old.value, old.headers) != (row.message_key, row.value, row.headers):
            changed.append(old._replace(topic=f"{old.topic} (until {row.first_at.isoformat()})"))
        elif (old.state, row.state) == (LetterState.DEAD, LetterState.WAITING):
            changed.append(row._replace(id=old.id, attempts=(*old.attempts, *row.attempts)))
    return changed


async def due(catalog: Catalog, source_id: int, now: datetime, limit: int) -> list[LetterRow]:
    """Letters whose time has come; nobody else is handed them for the time of `LEASE`."""
    wanted = (
        select(dead_letters)
        .where(
            dead_letters.c.source_id == source_id,
            dead_letters.c.state == LetterState.WAITING.value,
            dead_letters.c.next_attempt_at <= now,
        )
        .order_by(dead_letters.c.next_attempt_at)
        .limit(limit)
    )
    async with catalog.reading() as connection:
        if (await connection.execute(wanted.limit(1))).first() is None:
            return []
    async with catalog.writing() as connection:
        return await _lease(connection, wanted.with_for_update(skip_locked=True), now)


async def _lease(connection: AsyncConnection, wanted: Any, now: datetime) -> list[LetterRow]:
    rows = [_as_row(row) for row in await connection.execute(wanted)]
    if rows:
        await connection.execute(
            update(dead_letters)
            .where(dead_letters.c.id.in_([row.id for row in rows]))
            .values(next_attempt_at=now + LEASE)
        )
    return rows


async def letters(
    catalog: Catalog,
    source_id: int,
    *,
    ids: Sequence[int] | None = None,
    state: LetterState | None = None,
    limit: int | None = None,
) -> list[LetterRow]:
    """Letters of a source, oldest first; those with these `ids`, in this `state`."""
    query = select(dead_letters).where(dead_letters.c.source_id == source_id).order_by(dead_letters.c.id)
    if ids is not None:
        query = query.where(dead_letters.c.id.in_(list(ids)))
    if state is not None:
        query = query.where(dead_letters.c.state == state.value)
    if limit is not None:
        query = query.limit(limit)
    async with catalog.reading() as connection:
        return [_as_row(row) for row in await connection.execute(query)]


def _values(source_id: int, row: LetterRow) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "message_key": _encoded(row.message_key),
        "value": _encoded(row.value),
        "headers": [[name, _encoded(value)] for name, value in row.headers],
        "state": row.state,
        "reason": row.reason,
        "attempts": list(row.attempts),
        "first_at": row.first_at,
        "next_attempt_at": row.next_attempt_at,
        "key": row.key,
    }


def _as_row(row: Any) -> LetterRow:
    return LetterRow(
        row.topic,
        row.partition,
        row.offset,
        _decoded(row.message_key),
        _decoded(row.value),
        tuple((name, _decoded(value) or b"") for name, value in row.headers),
        row.state,
        row.reason,
        tuple(row.attempts),
        row.first_at,
        row.next_attempt_at,
        row.key,
        int(row.id),
    )


def _encoded(value: bytes | None) -> str | None:
    return b64encode(value).decode("ascii") if value is not None else None


def _decoded(text: str | None) -> bytes | None:
    return b64decode(text) if text is not None else None
