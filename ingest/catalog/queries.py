"""What people ask: totals, runs, one object's story, and the copies that cleanup and restore look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, exists, func, select

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import between, under
from ingest.catalog.tables import dead_letters, deliveries, events, objects, runs
from ingest.model import RemoteObject, Shard, State
from ingest.plan.shards import key_range


class CopyRow(NamedTuple):
    """An object whose copy is looked at, removed or brought back, as it was last recorded."""

    remote: RemoteObject
    state: str
    local_path: str | None
    gone: bool
    pruning: bool
    """A cleanup has said that it removes the copy, and may have been killed before or after."""
    downloaded_at: datetime | None
    digest: str | None
    last_error: str | None = None


async def totals(catalog: Catalog, source_id: int) -> dict[str, Any]:
    """Objects and bytes by state, the gone ones, and the span of downloads."""
    gone = func.count(objects.c.gone_at)
    span = func.min(objects.c.downloaded_at), func.max(objects.c.downloaded_at)
    query = (
        select(objects.c.state, func.count(), func.coalesce(func.sum(objects.c.size), 0), gone, *span)
        .where(objects.c.source_id == source_id)
        .group_by(objects.c.state)
    )
    async with catalog.reading() as connection:
        rows = (await connection.execute(query)).all()
    return {
        "states": {row[0]: {"objects": row[1], "bytes": int(row[2])} for row in rows},
        "objects": sum(row[1] for row in rows),
        "gone": sum(row[3] for row in rows),
        "first_download": min((row[4] for row in rows if row[4]), default=None),
        "last_download": max((row[5] for row in rows if row[5]), default=None),
    }


async def recent_runs(catalog: Catalog, source_id: int | None, limit: int) -> list[dict[str, Any]]:
    query = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if source_id is not None:
        query = query.where(runs.c.source_id == source_id)
    async with catalog.reading() as connection:
        return [dict(row._mapping) for row in await connection.execute(query)]


async def unannounced(catalog: Catalog, source_id: int, since: datetime, until: datetime | None = None) -> int:
    """Objects downloaded in this time that no consumed message has named in the version that was taken.

    A message that waits or was given up has named its object, too.
    """
    named = exists().where(dead_letters.c.source_id == objects.c.source_id, dead_letters.c.key == objects.c.key)
    wanted = [
        objects.c.source_id == source_id,
        objects.c.downloaded_at >= since,
        objects.c.announced_etag.is_distinct_from(objects.c.etag),
        ~named,
    ]
    if until is not None:
        wanted.append(objects.c.downloaded_at <= until)
    async with catalog.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(objects).where(*wanted))).scalar_one())


async def story(catalog: Catalog, source_id: int, key: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The object's row (None when the catalog does not know it) and its events, oldest first."""
    row_of = select(objects).where(objects.c.source_id == source_id, objects.c.key == key)
    trail = select(events).where(events.c.source_id == source_id, events.c.key == key).order_by(events.c.id)
    async with catalog.reading() as connection:
        row = (await connection.execute(row_of)).one_or_none()
        lines = [dict(event._mapping) for event in await connection.execute(trail)]
    return (dict(row._mapping) if row is not None else None), lines


async def deliveries_of(catalog: Catalog, source_id: int, key: str) -> list[dict[str, Any]]:
    """The deliveries of one key, oldest first, with what the service said."""
    query = select(deliveries).where(deliveries.c.source_id == source_id, deliveries.c.key == key)
    async with catalog.reading() as connection:
        return [dict(row._mapping) for row in await connection.execute(query.order_by(deliveries.c.id))]


async def copies(
    catalog: Catalog,
    source_id: int,
    states: Sequence[State],
    *,
    after: str,
    limit: int,
    prefix: str = "",
) -> list[CopyRow]:
    """Up to `limit` rows in these states, in key order from `after` (exclusive)."""
    wanted: list[ColumnElement[bool]] = [objects.c.state.in_([state.value for state in states])]
    if prefix:
        wanted.append(under(prefix))
    after, upto = key_range(Shard(prefix, after))
    query = select(objects).where(between(source_id, after, upto), *wanted).order_by(objects.c.key).limit(limit)
    async with catalog.reading() as connection:
        return [as_copy(row) for row in await connection.execute(query)]


async def copies_of(catalog: Catalog, source_id: int, keys: Sequence[str]) -> dict[str, CopyRow]:
    async with catalog.reading() as connection:
        found = await connection.execute(_copies(source_id).where(objects.c.key.in_(list(keys))))
        return {row.key: as_copy(row) for row in found}


async def check_chain(catalog: Catalog) -> list[int]:
    """Ids of audit events that break the chain."""
    return await audit.broken_links(catalog.lane)


def _copies(source_id: int) -> Any:
    return select(objects).where(objects.c.source_id == source_id)


def as_copy(row: Any) -> CopyRow:
    remote = RemoteObject(row.key, row.size, row.etag, row.last_modified, row.storage_class or "STANDARD")
    return CopyRow(
        remote,
        row.state,
        row.local_path,
        row.gone_at is not None,
        row.state == State.PRESENT and row.pruned_at is not None,
        row.downloaded_at,
        row.digest,
        row.last_error,
    )
