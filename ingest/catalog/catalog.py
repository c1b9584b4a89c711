"""The catalog as the jobs see it: rows by key range, batches in one transaction, runs and shard cursors."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, insert, literal, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest.catalog import audit, schema, writes
from ingest.catalog.batch import Batch
from ingest.catalog.engine import create_engine, translated
from ingest.catalog.tables import objects, runs, shards, sources
from ingest.errors import LockedError
from ingest.liveness import is_alive
from ingest.model import CatalogRow, Counts, ListingOrder, RunStatus, Shard
from ingest.plan.shards import key_range

_KEYS_A_QUERY = 500  # SQLite's compiled limit on bound values is 32,766; small lists keep statements cached


class Source(NamedTuple):
    """One bucket at one endpoint."""

    id: int
    bucket: str
    order: ListingOrder
    is_new: bool


@dataclass(frozen=True)
class Catalog:
    """An open database. Every method raises `DatabaseError` when the database fails."""

    engine: AsyncEngine
    url: str

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Catalog]:
        """Checks the schema (see `schema.ensure`) and opens the connections."""
        await schema.ensure(url)
        engine = create_engine(url)
        try:
            yield cls(engine, url)
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        with translated(self.url):
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One write transaction: committed at the end, rolled back by an exception."""
        with translated(self.url):
            async with self.engine.connect() as plain:
                connection = await plain.execution_options(writes=True)
                async with connection.begin():
                    yield connection

    @property
    def is_postgres(self) -> bool:
        return make_url(self.url).get_backend_name() == "postgresql"

    async def source(self, endpoint: str, bucket: str) -> Source:
        """The row of this bucket; made when it is seen for the first time."""
        wanted = select(sources).where(sources.c.endpoint == endpoint, sources.c.bucket == bucket)
        async with self.reading() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        if row is None:
            async with self.writing() as connection:
                await connection.execute(
                    writes.upsert(
                        connection, sources, {"endpoint": endpoint, "bucket": bucket}
                    ).on_conflict_do_nothing()
                )
                row = (await connection.execute(wanted)).one()
            return Source(int(row.id), bucket, ListingOrder(row.listing_order), is_new=True)
        return Source(int(row.id), bucket, ListingOrder(row.listing_order), is_new=row.last_complete_sync is None)

    async def learn_order(self, source_id: int, order: ListingOrder) -> None:
        async with self.writing() as connection:
            await connection.execute(update(sources).where(sources.c.id == source_id).values(listing_order=order.value))

    async def complete(self, source_id: int, at: datetime) -> None:
        """Notes that the whole bucket was listed and nothing was left to do."""
        async with self.writing() as connection:
            await connection.execute(update(sources).where(sources.c.id == source_id).values(last_complete_sync=at))

    async def rows_for(self, source_id: int, keys: Sequence[str]) -> dict[str, CatalogRow]:
        """The rows of these keys, in any order."""
        found: dict[str, CatalogRow] = {}
        async with self.reading() as connection:
            for start in range(0, len(keys), _KEYS_A_QUERY):
                wanted = keys[start : start + _KEYS_A_QUERY]
                query = _rows().where(objects.c.source_id == source_id, objects.c.key.in_(wanted))
                for row in await connection.execute(query):
                    found[row[0]] = CatalogRow._make(row)
        return found

    async def rows_between(self, source_id: int, after: str, upto: str | None, limit: int = -1) -> list[CatalogRow]:
        """The rows with ``after < key <= upto``, in byte order."""
        query = _rows().where(between(source_id, after, upto)).order_by(objects.c.key)
        if limit >= 0:
            query = query.limit(limit)
        async with self.reading() as connection:
            return [CatalogRow._make(row) for row in await connection.execute(query)]

    async def count_live(self, source_id: int, shard: Shard) -> int:
        """How many rows of the shard are in the bucket as far as the catalog knows."""
        after, upto = key_range(shard)
        below = func.substr(objects.c.key, len(shard.prefix) + 1)
        wanted = [between(source_id, after, upto), objects.c.gone_at.is_(None), under(shard.prefix)]
        if shard.level:
            wanted.append(func.replace(below, "/", "") == below)
        async with self.reading() as connection:
            return int(
                (await connection.execute(select(func.count()).select_from(objects).where(*wanted))).scalar_one()
            )

    async def commit(self, batch: Batch) -> None:
        """Writes the batch in one transaction; writing it again changes nothing but the audit trail."""
        async with self.writing() as connection:
            await writes.write(connection, batch)

    async def start_run(self, command: str, arguments: Mapping[str, object], source_id: int) -> int:
        """A new run's id. Runs of this host whose process is gone are marked as interrupted first."""
        now = datetime.now(UTC)
        async with self.writing() as connection:
            await self._bury_the_dead(connection, now)
            row = {
                "source_id": source_id,
                "command": command,
                "arguments": dict(arguments),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started_at": now,
                "heartbeat_at": now,
                "status": "running",
                "counts": {},
            }
            result = await connection.execute(insert(runs).values(row).returning(runs.c.id))
            return int(result.scalar_one())

    async def heartbeat(self, run_id: int, counts: Counts) -> None:
        async with self.writing() as connection:
            await connection.execute(
                update(runs).where(runs.c.id == run_id).values(heartbeat_at=datetime.now(UTC), counts=asdict(counts))
            )

    async def finish_run(self, run_id: int, status: RunStatus, counts: Counts, error: str | None) -> None:
        now = datetime.now(UTC)
        values: dict[str, Any] = {"status": status.value, "counts": asdict(counts), "error": error}
        async with self.writing() as connection:
            values["audit_id"], values["audit_hash"] = await audit.newest(connection) or (None, None)
            await connection.execute(
                update(runs).where(runs.c.id == run_id).values(finished_at=now, heartbeat_at=now, **values)
            )

    async def last_run_died(self, source_id: int) -> bool:
        """Whether the newest finished run of this source left work behind: files without rows may exist."""
        query = (
            select(runs.c.status)
            .where(runs.c.source_id == source_id, runs.c.status != "running")
            .order_by(runs.c.id.desc())
            .limit(1)
        )
        async with self.reading() as connection:
            return (await connection.execute(query)).scalar() not in (None, RunStatus.OK, RunStatus.PARTIAL)

    async def plan_shards(self, run_id: int, planned: Sequence[Shard]) -> None:
        async with self.writing() as connection:
            await writes.put_cursors(connection, run_id, [(shard, shard.start_after, False) for shard in planned])

    async def resumable(self, source_id: int, command: str, arguments: Mapping[str, object]) -> int | None:
        """The newest run of this command with the same arguments, unless it ended well."""
        query = (
            select(runs.c.id, runs.c.status, runs.c.arguments)
            .where(runs.c.source_id == source_id, runs.c.command == command)
            .order_by(runs.c.id.desc())
            .limit(20)
        )
        async with self.reading() as connection:
            for row in await connection.execute(query):
                if row.arguments == dict(arguments):
                    return None if row.status == RunStatus.OK else int(row.id)
        return None

    async def cursors(self, run_id: int) -> list[tuple[Shard, str, bool]]:
        """Each planned shard of a run, how far it is recorded, and whether that is all of it."""
        query = select(shards).where(shards.c.run_id == run_id).order_by(shards.c.prefix, shards.c.start_after)
        async with self.reading() as connection:
            return [
                (Shard(row.prefix, row.start_after, row.end, row.level), row.cursor, row.done)
                for row in await connection.execute(query)
            ]

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[None]:
        """An advisory lock of PostgreSQL on a connection of its own; it dies with the connection. SQLite: nothing.

        Raises:
            LockedError: another session holds it.
        """
        if not self.is_postgres:
            yield
            return
        with translated(self.url):
            async with self.engine.connect() as plain:
                connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
                query = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
                if not (await connection.execute(query, {"name": f"ingest {name}"})).scalar():
                    raise LockedError(f"another {name} holds the lock in the database")
                yield
                with suppress(Exception):  # the lock ends with the connection in any case
                    await connection.execute(
                        text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": f"ingest {name}"}
                    )

    @staticmethod
    async def _bury_the_dead(connection: AsyncConnection, now: datetime) -> None:
        query = select(runs.c.id, runs.c.pid).where(runs.c.status == "running", runs.c.host == socket.gethostname())
        for run_id, pid in (await connection.execute(query)).all():
            if pid != os.getpid() and not is_alive(pid):
                values = {"status": RunStatus.INTERRUPTED.value, "finished_at": now, "error": "the process died"}
                await connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def _rows() -> Any:
    return select(
        objects.c.key,
        objects.c.size,
        objects.c.etag,
        objects.c.state,
        objects.c.gone_at.is_not(None),
        objects.c.local_path,
        objects.c.attempts,
    )


def between(source_id: int, after: str, upto: str | None) -> ColumnElement[bool]:
    """The rows of a source with ``after < key <= upto``."""
    bounds = [objects.c.source_id == source_id, objects.c.key > after]
    if upto is not None:
        bounds.append(objects.c.key <= upto)
    return and_(*bounds)


def under(prefix: str) -> ColumnElement[bool]:
    """Whether a row's key starts with `prefix`, byte for byte: nothing in it is a pattern."""
    return func.substr(objects.c.key, 1, len(prefix)) == literal(prefix)
