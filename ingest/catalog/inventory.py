"""What ``verify`` asks: which copies have a row, and whether another run is changing them right now."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, text

from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import among
from ingest.catalog.runs import is_dead
from ingest.catalog.schema.tables import objects, runs
from ingest.model import State


async def copies_named(catalog: Catalog, source_id: int, keys: Sequence[str]) -> dict[str, str]:
    """Key -> local path of those keys whose copy the catalog says is present."""
    # PostgreSQL holds no NUL in a text, so no row of it has such a key, and asking would be an error.
    asked = [key for key in keys if "\0" not in key] if catalog.is_postgres else list(keys)
    named = among(objects.c.key, asked, is_postgres=catalog.is_postgres)
    query = select(objects.c.key, objects.c.local_path).where(
        objects.c.source_id == source_id, named, objects.c.state == State.PRESENT.value
    )
    async with catalog.reading() as connection:
        return {row.key: row.local_path for row in await connection.execute(query) if row.local_path is not None}


async def paths_holding(
    catalog: Catalog, source_id: int, text: str, *, after: str, limit: int
) -> list[tuple[str, str]]:
    """Up to `limit` (key, local path) of present copies whose path holds `text`, in key order from `after`."""
    query = (
        select(objects.c.key, objects.c.local_path)
        .where(
            objects.c.source_id == source_id,
            objects.c.key > after,
            objects.c.state == State.PRESENT.value,
            func.replace(objects.c.local_path, text, "") != objects.c.local_path,
        )
        .order_by(objects.c.key)
        .limit(limit)
    )
    async with catalog.reading() as connection:
        return [(row.key, row.local_path) for row in await connection.execute(query)]


async def others_at_work(catalog: Catalog, source_id: int, run_id: int) -> bool:
    """Whether another run of this source is under way: its files may be in place before their rows are."""
    query = select(runs.c.host, runs.c.pid, runs.c.process, runs.c.heartbeat_at).where(
        runs.c.source_id + 0 == source_id,  # by the index of those under way, which are few
        runs.c.id != run_id,
        text("status = 'running'"),
    )
    async with catalog.reading() as connection:
        return any(not is_dead(*row) for row in await connection.execute(query))
