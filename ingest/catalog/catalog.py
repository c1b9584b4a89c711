"""The catalog as everything above it sees it: rows by key range, batches in one transaction, runs, shards and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from ingest.catalog import page_memory, runs, writes
from ingest.catalog.batch import Batch, Committed
from ingest.catalog.schema import schema
from ingest.catalog.sources import Source
from ingest.catalog.sql.continuity import Continuity, CountedDriver, standing
from ingest.catalog.sql.driver import VERSION, Dialect, Driver, RunLock, Statement, Steps
from ingest.catalog.sql.url import Target
from ingest.errors import LockedError
from ingest.model import CatalogRow, Counts, KnownPage, ListingOrder, RunStatus, Shard
from ingest.plan.behind import Mark, Standing
from ingest.plan.clock import Reading
from ingest.plan.etags import Etags
from ingest.plan.resuming import Cursor, Earlier, Told
from ingest.plan.shards import key_range

__all__ = ["Catalog", "Source"]

_ROW = (
    f"SELECT key, size, {VERSION}, state, gone_at IS NOT NULL, local_path, attempts, "
    "CASE WHEN attempts > 0 THEN last_error LIKE 'no_such_key:%' END, listed_etag, seen FROM objects"
)
_ROWS_FROM = f"{_ROW} WHERE source_id = ? AND key >= ? ORDER BY key LIMIT ?"
_ROWS_BETWEEN = f"{_ROW} WHERE source_id = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
_ROWS_OF = f"{_ROW} WHERE source_id = ? AND key {{among}}"
_COPIES_OF = (
    "SELECT key, local_path, CASE state WHEN 'present' THEN digest END FROM objects WHERE local_path IS NOT NULL "
    "AND (state = 'pruned' OR state = 'present' AND digest IS NOT NULL) AND source_id = ? AND key {among}"
)
_LEARN_ORDER = (
    "UPDATE sources SET listing_order = ?, order_since = {now}, order_reason = ?, order_proofs = 0, "
    "order_lapses = order_lapses + CASE WHEN listing_order = 'bytes' THEN 1 ELSE 0 END WHERE id = ?"
)
_PROVE_ORDER = "UPDATE sources SET order_proofs = order_proofs + 1 WHERE id = ? RETURNING order_proofs, order_lapses"
_ETAGS = "SELECT etags FROM sources WHERE id = ?"
_SEEN = "SELECT seen FROM sources WHERE id = ?"
_COMPLETE = "UPDATE sources SET last_complete_sync = ? WHERE id = ?"
_PLACES_AFTER = (
    "SELECT source_id, key, local_path, digest FROM objects WHERE state = 'present' AND local_path IS NOT NULL "
    "AND (source_id, key) > (?, ?) ORDER BY source_id, key LIMIT ?"
)
_PLACES_SINCE = (
    "SELECT local_path, digest FROM objects WHERE state = 'present' AND local_path IS NOT NULL "
    "AND (source_id, key) IN (SELECT source_id, key FROM events WHERE id > ?)"
)
_LAST_EVENT = "SELECT COALESCE(MAX(id), 0) FROM events"
_COUNT_LIVE = {
    (bounded, level): "SELECT count(*) FROM objects WHERE source_id = ? AND key >= ? AND gone_at IS NULL"
    + " AND key < ?" * bounded
    + " AND replace(substr(key, ?), '/', '') = substr(key, ?)" * level
    for bounded in (False, True)
    for level in (False, True)
}
_SOURCES = "SELECT id FROM sources ORDER BY id"
_UNLIMITED = 1 << 62

_catalog_row: Callable[[Any], CatalogRow] = partial(tuple.__new__, CatalogRow)
"""A third of the cost of the class's own constructor, whose arity the queries already settle."""


@dataclass(frozen=True)
class Catalog:
    """An open database. Every method raises `DatabaseError` when the database fails.

    Statements go by way of `driver`; what is asked of one subject only stands in the modules beside this one.
    """

    driver: Driver
    target: Target
    run: Continuity | None = None
    """The run whose transactions these are; see `of_run`."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, admit: schema.Admission = schema.admit_any, *, read_only: bool = False
    ) -> AsyncIterator[Catalog]:
        """Connects, has `admit` look at the catalog's id, and checks the schema (see `schema.fitting`).

        `read_only` says that nothing is to be written, and so a database that can only be read will do.
        """
        async with schema.fitting(url, admit, read_only=read_only) as driver:
            yield cls(driver, Target.of(url, read_only=read_only))

    def of_run(self, run: Continuity) -> Catalog:
        """The same database, for one run: what it writes is counted, and a database that has forgotten some of it, or
        is another version's by now, is written to no more (`Continuity.move`)."""
        return replace(self, driver=CountedDriver(self.driver, run), run=run)

    async def learn_order(self, source_id: int, order: ListingOrder, reason: str = "") -> None:
        """Keeps the listing order, and what has shown it; pages are remembered for byte-ordered listings only."""

        def learn(dialect: Dialect) -> Steps[None]:
            yield Statement(_LEARN_ORDER, (order.value, reason, source_id))
            if order is not ListingOrder.BYTES:
                yield from page_memory.forget_all(source_id, dialect)

        await self.driver.write(learn)

    async def prove_order(self, source_id: int) -> tuple[int, int]:
        """Notes that a source that is listed by directory has shown byte order throughout. Returns how often it has
        since it was last found out of it, and how often it was found so."""

        def prove(_dialect: Dialect) -> Steps[tuple[int, int]]:
            ((proofs, lapses),) = yield Statement(_PROVE_ORDER, (source_id,))
            return proofs, lapses

        return await self.driver.write(prove)

    async def etags(self, source_id: int) -> Etags:
        """What earlier runs have learnt of a server's etags."""
        rows = await self.driver.fetch(_ETAGS, source_id)
        return Etags.read(rows[0][0] if rows else None)

    async def complete(self, source_id: int, at: datetime) -> None:
        """Notes that the whole bucket was listed and nothing was left to do."""

        def note(dialect: Dialect) -> Steps[None]:
            yield Statement(_COMPLETE, (dialect.time(at), source_id))

        await self.driver.write(note)

    async def rows_for(self, source_id: int, keys: Sequence[str]) -> dict[str, CatalogRow]:
        """The rows of these keys, in any order."""
        rows = await self.driver.fetch(_ROWS_OF, source_id, self.driver.dialect.listed(keys))
        return {row[0]: _catalog_row(row) for row in rows}

    async def copies_recorded(self, source_id: int, keys: Sequence[str]) -> list[tuple[str, str, str | None]]:
        """Key, local path and digest of those of these keys whose copy is present, or pruned: then without digest."""
        return [(*row,) for row in await self.driver.fetch(_COPIES_OF, source_id, self.driver.dialect.listed(keys))]

    async def places_after(self, source_id: int, key: str, limit: int) -> list[tuple[int, str, str, str | None]]:
        """Source, key, local path and digest of present copies, in order, from that key of that source on."""
        return [(*row,) for row in await self.driver.fetch(_PLACES_AFTER, source_id, key, limit)]

    async def places_since(self, event_id: int) -> list[tuple[str, str | None]]:
        """Local path and digest of the present copies of which there is a later event, of all sources."""
        return [(*row,) for row in await self.driver.fetch(_PLACES_SINCE, event_id)]

    async def last_event(self) -> int:
        """The id of the newest event; 0 where there is none. They are written in the order of their ids."""
        return int((await self.driver.fetch(_LAST_EVENT))[0][0])

    async def rows_between(
        self, source_id: int, first: str, behind: str | None, limit: int = _UNLIMITED
    ) -> list[CatalogRow]:
        """The rows with ``first <= key < behind``, in byte order."""
        if behind is None:
            rows = await self.driver.fetch(_ROWS_FROM, source_id, first, limit)
        else:
            rows = await self.driver.fetch(_ROWS_BETWEEN, source_id, first, behind, limit)
        return list(map(_catalog_row, rows))

    async def count_live(self, source_id: int, shard: Shard) -> int:
        """How many rows of the shard are in the bucket as far as the catalog knows."""
        first, behind = key_range(shard)
        values: list[Any] = [source_id, first]
        if behind is not None:
            values.append(behind)
        if shard.level:
            values += [len(shard.prefix) + 1] * 2
        sql = _COUNT_LIVE[behind is not None, shard.level]
        return int((await self.driver.fetch(sql, *values, leisurely=True))[0][0])

    async def pages(self, source_id: int, prefix: str, start: str, limit: int) -> list[KnownPage]:
        """Remembered pages of this prefix from `start` on, in byte order."""
        return await page_memory.read(self.driver, source_id, prefix, start, limit)

    async def commit(self, batch: Batch) -> Committed:
        """Writes the batch in one transaction; writing it again changes nothing but the audit trail."""
        return await self.driver.write(partial(writes.write, batch))

    async def seen(self, source_id: int) -> int:
        """How often a run has written what it saw of the source's objects: what is asked for from now on is no older
        than any row with this number (`CatalogRow.seen`), or a lower one."""
        rows = await self.driver.fetch(_SEEN, source_id)
        return int(rows[0][0]) if rows else 0

    async def begin_run(
        self, command: str, arguments: Mapping[str, object], source: Source, *, alone: bool = False
    ) -> Continuity:
        """A new run; `alone` says that the lock of this command and source is ours.

        Raises:
            LockedError: `source` was renamed, moved or forgotten since it was read.
        """
        return await self.driver.write(partial(runs.begin, command, arguments, source, alone=alone))

    async def standing(self, marks: Sequence[Mark]) -> Standing:
        """What it says of runs that are known to have been recorded."""
        return await standing(self.driver, marks)

    async def forget_pages(self) -> None:
        """Nothing is known of any page of any source."""

        def forget(dialect: Dialect) -> Steps[None]:
            for (source_id,) in (yield Statement(_SOURCES)):
                yield from page_memory.forget_all(source_id, dialect)

        await self.driver.write(forget)

    async def heartbeat(self, run_id: int, clock: Reading, counts: Counts, lock: RunLock | None) -> None:
        """Over the lock's own connection, where there is a lock: it must not be idle, and shows that it is there."""
        beat = partial(runs.beat, run_id, clock, counts)
        if lock is None or self.run is None:
            await self.driver.write(beat)
        else:
            self.run.committed((await lock.beat(self.run.counted(beat)))[1])

    async def finish_run(
        self, run_id: int, status: RunStatus, tallies: Mapping[str, int], error: str | None, clock: Reading
    ) -> None:
        await self.driver.write(partial(runs.finish, run_id, status, tallies, error, clock=clock))

    async def last_run_died(self, source_id: int) -> bool:
        """Whether the newest finished run of this source left work behind: files without rows may exist."""
        return await runs.last_died(self.driver, source_id)

    async def unmarked(self, source_id: int, prefix: object) -> int:
        """How many objects the last listing of this prefix (as it was told) missed, and did not mark as gone."""
        return await runs.unmarked(self.driver, source_id, prefix)

    async def plan_shards(self, run_id: int, planned: Sequence[Shard]) -> None:
        """Adds shards, or gives those that were split their new end."""
        await self.driver.write(lambda _dialect: writes.plan_shards(run_id, planned))

    async def take_over(self, run_id: int, told: Told, plan: Sequence[Cursor]) -> None:
        """Begins a run with the plan of another one, all of it at once; `told` is what decides it then."""
        await self.driver.write(lambda _dialect: runs.take_over(run_id, told, plan))

    async def to_go_on(self, source_id: int, command: str, told: Told, run_id: int) -> Earlier | None:
        """The run before `run_id` that it may go on with (see `plan.resuming`)."""
        return await runs.to_go_on(self.driver, source_id, command, told, run_id)

    async def cursors(self, run_id: int) -> list[Cursor]:
        """The plan of a run, and how far it got."""
        return await runs.cursors(self.driver, run_id)

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[RunLock]:
        """The database's own lock, where it has one (PostgreSQL).

        Raises:
            LockedError: another session holds it.
        """
        async with self.driver.lock(name) as lock:
            if lock is None:
                raise LockedError(f"another {name} holds the lock in the database")
            yield lock
