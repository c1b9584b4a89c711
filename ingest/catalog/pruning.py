"""What ``cleanup`` asks, and its intent: written, and checked once more, before any copy is unlinked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select, text, update

from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import undelivered, version_of_row
from ingest.catalog.holds import is_held
from ingest.catalog.queries import CopyRow, as_copy
from ingest.catalog.runs import NEWEST_OF_COMMAND, NO_DRY_RUN, OF_COMMAND
from ingest.catalog.schema.tables import objects
from ingest.catalog.sql.engine import lock_source
from ingest.model import State
from ingest.system.failpoints import failpoint

_CLEANUPS = (
    f"SELECT counts FROM runs WHERE {OF_COMMAND} AND id < ? AND {NO_DRY_RUN} "  # noqa: S608 - our own words
    f"AND status IN ('ok', 'partial') {NEWEST_OF_COMMAND} 1"
)


class Candidate(NamedTuple):
    """A copy old enough to go, and what may keep it."""

    copy: CopyRow
    held: bool
    undelivered: bool


class Sought(NamedTuple):
    """Which copies cleanup looks at: those of a source that were downloaded before a moment, in this order.

    `delivering` says that hand-overs count.
    """

    source_id: int
    downloaded_before: datetime
    delivering: bool
    oldest_first: bool

    def query(self, *columns: Any, after: CopyRow | None) -> Select[Any]:
        """Behind the copy `after`."""
        own = objects.c.source_id == self.source_id, objects.c.state == State.PRESENT.value
        query = select(*columns).where(*own, objects.c.downloaded_at <= self.downloaded_before)
        if after is None:
            return query
        key, since = after.remote.key, after.downloaded_at
        if not self.oldest_first:
            return query.where(objects.c.key > key)
        alike = and_(objects.c.downloaded_at == since, objects.c.key > key)
        return query.where(or_(objects.c.downloaded_at > since, alike))


async def candidates(catalog: Catalog, sought: Sought, *, after: CopyRow | None, limit: int) -> list[Candidate]:
    """Up to `limit` present copies, in their order."""
    columns = objects, is_held().label("held"), _undelivered(sought.delivering).label("undelivered")
    order = (objects.c.downloaded_at, objects.c.key) if sought.oldest_first else (objects.c.key,)
    query = sought.query(*columns, after=after).order_by(*order).limit(limit)
    async with catalog.reading() as connection:
        found = await connection.execute(query)
        return [Candidate(as_copy(row), bool(row.held), bool(row.undelivered)) for row in found]


async def count_behind(catalog: Catalog, sought: Sought, after: CopyRow) -> int:
    """How many copies come behind that one."""
    async with catalog.reading() as connection:
        return int((await connection.execute(sought.query(func.count(), after=after))).scalar_one())


async def only_copies_before(catalog: Catalog, source_id: int, run_id: int) -> int:
    """How many copies the last cleanup before this run kept since the bucket no longer had their objects."""
    own = (source_id, "cleanup") * 2
    last = await catalog.driver.fetch(_CLEANUPS, *own, run_id)
    return int(json.loads(last[0][0]).get("only_copies", 0)) if last else 0


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
        await lock_source(connection, source_id)
        looked_at = {
            (copy.remote.key, copy.remote.etag, copy.local_path, copy.downloaded_at, copy.gone) for copy in copies
        }
        gone = objects.c.gone_at.is_not(None)
        query = select(objects.c.key, version_of_row(), objects.c.local_path, objects.c.downloaded_at, gone)
        still = [tuple(row) for row in await connection.execute(query.where(*of_keys, *allowed))]
        intended = {str(row[0]) for row in still if row in looked_at}
        marked = objects.c.source_id == source_id, objects.c.key.in_(intended)
        await connection.execute(update(objects).where(*marked).values(pruned_at=at))
        failpoint("cleanup.intent-written")
    return intended


def _undelivered(delivering: bool) -> ColumnElement[bool]:
    return undelivered() if delivering else false()
