"""What people ask: one object's story, and the copies that cleanup and restore look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import among, between
from ingest.catalog.schema.tables import deliveries, events, objects
from ingest.model import CatalogRow, RemoteObject, Shard, State
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
    gone_at: datetime | None = None
    seen: int = 0
    """As `CatalogRow.seen`."""

    @property
    def decided_on(self) -> CatalogRow:
        """What a download of this very version is decided on."""
        remote = self.remote
        return CatalogRow(
            remote.key, remote.size, remote.etag, self.state, self.gone, self.local_path, 0, seen=self.seen
        )


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
    wanted = objects.c.state.in_([state.value for state in states])
    within = between(source_id, *key_range(Shard(prefix, after)))
    query = select(objects).where(within, wanted).order_by(objects.c.key).limit(limit)
    async with catalog.reading() as connection:
        return [as_copy(row) for row in await connection.execute(query)]


async def copies_of(catalog: Catalog, source_id: int, keys: Sequence[str]) -> dict[str, CopyRow]:
    async with catalog.reading() as connection:
        named = among(objects.c.key, keys, is_postgres=catalog.is_postgres)
        found = await connection.execute(_copies(source_id).where(named))
        return {row.key: as_copy(row) for row in found}


async def check_chain(catalog: Catalog) -> list[int]:
    """Ids of audit events that break the chain."""
    return await audit.broken_links(catalog.driver)


def _copies(source_id: int) -> Any:
    return select(objects).where(objects.c.source_id == source_id)


def as_copy(row: Any) -> CopyRow:
    version = row.etag if row.version is None else row.version
    remote = RemoteObject(row.key, row.size, version, row.last_modified, row.storage_class or "STANDARD")
    return CopyRow(
        remote,
        row.state,
        row.local_path,
        row.gone_at is not None,
        row.state == State.PRESENT and row.pruned_at is not None,
        row.downloaded_at,
        row.digest,
        row.last_error,
        row.gone_at,
        row.seen,
    )
