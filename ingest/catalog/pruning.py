"""What ``cleanup`` asks, and its intent: written, and checked once more, before any copy is unlinked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, false, select, text, update

from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import undelivered, version_of_row
from ingest.catalog.holds import is_held
from ingest.catalog.queries import CopyRow, as_copy
from ingest.catalog.tables import objects
from ingest.crashpoints import here
from ingest.model import State


class Candidate(NamedTuple):
    """A copy old enough to go, and what may keep it."""

    copy: CopyRow
    held: bool
    undelivered: bool


async def candidates(
    catalog: Catalog, source_id: int, *, after: str, limit: int, downloaded_before: datetime, delivering: bool
) -> list[Candidate]:
    """Up to `limit` present copies in key order from `after`; `delivering` says that hand-overs count."""
    query = (
        select(objects, is_held().label("held"), _undelivered(delivering).label("undelivered"))
        .where(
            objects.c.source_id == source_id,
            objects.c.key > after,
            objects.c.state == State.PRESENT.value,
            objects.c.downloaded_at <= downloaded_before,
        )
        .order_by(objects.c.key)
        .limit(limit)
    )
    async with catalog.reading() as connection:
        found = await connection.execute(query)
        return [Candidate(as_copy(row), bool(row.held), bool(row.undelivered)) for row in found]


async def intend(
    catalog: Catalog, source_id: int, copies: Sequence[CopyRow], *, at: datetime, delivering: bool
) -> set[str]:
    """Writes down that these copies are about to be unlinked; returns the keys for which that still holds.

    A copy that was replaced, held or queued for delivery since it was looked at is left out, and so is one that became
    the only one: its object has gone from the bucket.
    """
    keys = [copy.remote.key for copy in copies]
    of_keys = objects.c.source_id == source_id, objects.c.key.in_(keys)
    allowed = objects.c.state == State.PRESENT.value, ~is_held(), ~_undelivered(delivering)
    async with catalog.writing() as connection:
        if catalog.is_postgres:  # SQLite's write lock does the same: a hold comes before the intent, or sees it
            await connection.execute(text("LOCK TABLE holds, deliveries IN SHARE MODE"))
        looked_at = {
            (copy.remote.key, copy.remote.etag, copy.local_path, copy.downloaded_at, copy.gone) for copy in copies
        }
        gone = objects.c.gone_at.is_not(None)
        query = select(objects.c.key, version_of_row(), objects.c.local_path, objects.c.downloaded_at, gone)
        still = [tuple(row) for row in await connection.execute(query.where(*of_keys, *allowed))]
        intended = {str(row[0]) for row in still if row in looked_at}
        marked = objects.c.source_id == source_id, objects.c.key.in_(intended)
        await connection.execute(update(objects).where(*marked).values(pruned_at=at))
        here("cleanup.intent-written")
    return intended


def _undelivered(delivering: bool) -> ColumnElement[bool]:
    return undelivered() if delivering else false()
