"""The hot lane: what a run needs of the database, in plain SQL straight on the drivers.

Importing SQLAlchemy costs more than a whole run with nothing to do (see docs/decisions/0002), so the jobs' own path goes
through this protocol, and what people ask goes through `ingest.catalog.queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from ingest.catalog.batch import Batch, PageMemory, ShardCursor
from ingest.model import CatalogRow, Counts, ListingOrder, RunStatus, Shard


class Source(NamedTuple):
    """One bucket at one endpoint, as the catalog knows it."""

    id: int
    endpoint: str
    bucket: str
    listing_order: ListingOrder = ListingOrder.UNKNOWN
    last_complete_sync: datetime | None = None


class RunRow(NamedTuple):
    """One row of ``runs``. `status` is ``running`` or one of `RunStatus`; times are aware UTC."""

    id: int
    source_id: int | None
    command: str
    arguments: Mapping[str, object]
    host: str
    pid: int
    started: datetime
    heartbeat: datetime
    finished: datetime | None
    status: str
    counts: Mapping[str, int]
    error: str | None


class StateTotal(NamedTuple):
    """Rows of one state and whether they are gone from the bucket; `bytes` is the sum of their sizes."""

    state: str
    gone: bool
    objects: int
    bytes: int
    oldest: datetime | None
    """The earliest ``last_modified``."""
    newest: datetime | None


class Lane(Protocol):
    """One open catalog. Every method may raise `DatabaseError`; `DatabaseBusy` when another try can help.

    Safe to use from many tasks of one event loop. Messages never hold a password.
    """

    async def close(self) -> None:
        """Waits for what is under way and lets the connections go."""

    def lock(self, kind: str, source_id: int) -> AbstractAsyncContextManager[None]:
        """Excludes other holders of the same kind and source as long as it is held; dies with this process.

        On PostgreSQL an advisory lock on a connection of its own. On SQLite nothing: there the file lock beside the
        data (``store.locks``) is enough, since both are on one machine.

        Raises:
            LockedError: it is taken.
        """

    async def source(self, endpoint: str, bucket: str) -> Source:
        """The row of this bucket; made on first use."""

    async def set_listing_order(self, source_id: int, order: ListingOrder) -> None: ...

    async def set_complete_sync(self, source_id: int, at: datetime) -> None:
        """Notes that everything in the bucket was listed and recorded by the run that started at `at`."""

    async def rows_between(
        self, source_id: int, after: str, upto: str | None, prefix: str = ""
    ) -> list[CatalogRow]:
        """All rows with ``after < key <= upto`` and this prefix, gone ones too, in the byte order of their keys.

        The caller bounds the range: a page of the listing spans as many rows as it has keys, give or take.
        """

    async def rows_for(self, source_id: int, keys: Sequence[str]) -> dict[str, CatalogRow]:
        """The rows of these keys; a key without a row is absent."""

    async def count_live(self, source_id: int, shard: Shard) -> int:
        """How many rows of the shard's range are not marked as gone."""

    async def commit(self, batch: Batch) -> None:
        """Writes all of the batch or nothing, in one transaction that survives a power loss once this returns.

        Writing the same batch again changes no row (only its audit lines are added again). Never retried after the
        commit itself was sent, so an audit line is never doubled by this method.
        """

    async def start_run(self, command: str, arguments: Mapping[str, object], source_id: int | None) -> int:
        """Adds a run as ``running`` and returns its id; first marks runs as interrupted whose process is gone."""

    async def heartbeat(self, run_id: int, counts: Counts) -> None: ...

    async def finish_run(
        self, run_id: int, status: RunStatus, counts: Counts, error: str | None = None
    ) -> None: ...

    async def recent_runs(self, limit: int, source_id: int | None = None) -> list[RunRow]:
        """The last runs, newest first."""

    async def totals(self, source_id: int) -> list[StateTotal]:
        """Objects and bytes by state."""

    async def plan_shards(self, run_id: int, shards: Sequence[Shard]) -> None:
        """Records the shards of a run. One that is known by its prefix, level and start takes over the new end."""

    async def open_shards(self, run_id: int) -> list[ShardCursor]:
        """The shards of a run that are not done, with their cursors."""

    async def resumable_run(self, command: str, arguments: Mapping[str, object], source_id: int) -> int | None:
        """The last run of this command and these arguments, if it did not end as ``ok`` and has open shards."""

    async def pages(self, source_id: int, filters: bytes) -> list[PageMemory]:
        """What is remembered under these filters, ordered by prefix and start."""


async def open_lane(url: str, *, readers: int = 2) -> Lane:
    """Opens the catalog at a ``sqlite+aiosqlite://`` or ``postgresql+asyncpg://`` URL and checks its schema.

    A SQLite file is created (0640), and migrated when it is behind; on PostgreSQL that is `ingest db upgrade`'s.
    `readers` connections serve reads beside the one that writes.

    Raises:
        SchemaMissing: PostgreSQL has no schema, or an older one.
        SchemaAhead: the schema is newer than this version of the tool.
        DatabaseError: unreachable, refused, not writable, or not a database; the message says which.
    """
    if url.startswith("sqlite"):
        from ingest.catalog.lane_sqlite import SqliteLane

        return await SqliteLane.open(url, readers=readers)
    from ingest.catalog.lane_postgres import PostgresLane

    return await PostgresLane.open(url, readers=readers)
