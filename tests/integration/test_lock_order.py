"""Transactions lock the source's row, then rows of objects, then the run's: side by side, none wait in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from ingest.catalog import pruning
from ingest.catalog.catalog import Catalog
from ingest.catalog.holds import Holder
from ingest.catalog.pruning import Sought
from ingest.model import Counts, RunStatus
from ingest.plan.clock import Reading
from tests.fixtures.catalogs import source_of
from tests.fixtures.databases import migrate

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("ending", [False, True], ids=["heartbeat", "end"])
async def test_a_batch_is_committed_while_the_run_says_how_it_is(postgres_url: str, ending: bool) -> None:
    await migrate(postgres_url)
    async with Catalog.open(postgres_url) as plain, plain.lock("sync of source 1") as lock:
        source = await source_of(plain, "127.0.0.1", "statements")
        lock.run = record = await plain.begin_run("sync", {}, source)
        catalog = plain.of_run(record)
        clock = Reading(datetime.now(UTC), None)
        beside = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        try:
            async with beside.transaction():  # as `Catalog.commit`: the source's row first, the run's last
                await beside.execute("UPDATE sources SET seen = seen + 1 WHERE id = $1", source.id)
                if ending:
                    saying = asyncio.create_task(catalog.finish_run(record.run_id, RunStatus.OK, {}, None, clock))
                else:
                    saying = asyncio.create_task(catalog.heartbeat(record.run_id, clock, Counts(), lock))
                while not await beside.fetchval(_WAITING):  # noqa: ASYNC110 - the server knows it, no event of ours
                    await asyncio.sleep(0.01)
                await beside.execute("UPDATE runs SET written = written + 1 WHERE id = $1", record.run_id)
            await saying
        finally:
            await beside.close()


_PRESENT = (
    "INSERT INTO objects (source_id, key, size, etag, last_modified, source_s3_path, state, local_path, downloaded_at) "
    "VALUES ($1, $2, 1, 'e', now(), 's3://statements/' || $2, 'present', $2, now())"
)


@pytest.mark.parametrize("work", ["intend", "hold"])
async def test_a_batch_is_committed_while_copies_are_to_go_or_to_stay(postgres_url: str, work: str) -> None:
    """The rows of both are written in orders of their own."""
    await migrate(postgres_url)
    async with Catalog.open(postgres_url) as catalog:
        source = await source_of(catalog, "127.0.0.1", "statements")
        beside = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        try:
            for key in ("a", "b"):
                await beside.execute(_PRESENT, source.id, key)
            at = datetime.now(UTC)
            sought = Sought(source.id, at, delivering=False, oldest_first=False)
            copies = [found.copy for found in await pruning.candidates(catalog, sought, after=None, limit=2)]
            holder = Holder(catalog, (await catalog.begin_run("hold", {}, source)).run_id, source.id)
            async with beside.transaction():
                await beside.execute("UPDATE sources SET seen = seen + 1 WHERE id = $1", source.id)
                await beside.execute("UPDATE objects SET attempts = 1 WHERE key = 'b'")
                writing: Coroutine[Any, Any, object] = (
                    pruning.intend(catalog, source.id, copies, at=at, delivering=False)
                    if work == "intend"
                    else holder.place(["a", "b"], is_prefix=False, reason="", by="", at=at)
                )
                doing = asyncio.create_task(writing)
                while not await beside.fetchval(_WAITING):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
                await beside.execute("UPDATE objects SET attempts = 1 WHERE key = 'a'")
            assert await doing in ({"a", "b"}, 2)
        finally:
            await beside.close()
