"""Transactions of one run lock the source's row before the run's own: side by side, they never wait in a circle."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from ingest.catalog import schema
from ingest.catalog.catalog import Catalog
from ingest.model import Counts, RunStatus
from ingest.plan.clock import Reading

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("ending", [False, True], ids=["heartbeat", "end"])
async def test_a_batch_is_committed_while_the_run_says_how_it_is(postgres_url: str, ending: bool) -> None:
    await schema.upgrade(postgres_url)
    async with Catalog.open(postgres_url) as plain, plain.lock("sync of source 1") as lock:
        source = await plain.source("127.0.0.1", "statements")
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
