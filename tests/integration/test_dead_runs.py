"""Which runs that never wrote their end are dead: the table of `catalog.runs.is_dead`, on both databases."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import runs
from ingest.model import Counts, RunStatus
from ingest.plan.clock import Reading
from ingest.system.processes import own_identity
from tests.faults.rig import dead_pid
from tests.fixtures.catalogs import reading, source_of, start_run, writing
from tests.fixtures.databases import migrate

HERE = socket.gethostname()
SECONDS, MINUTES, HOURS = timedelta(seconds=10), timedelta(minutes=3), timedelta(hours=2)


@pytest.mark.parametrize(
    ("command", "host", "process", "silent", "alone", "expected"),
    [
        ("sync", HERE, "living", MINUTES, False, "interrupted"),  # it started when the run was silent already
        ("sync", HERE, "living", -SECONDS, False, "running"),
        ("sync", HERE, "dead", MINUTES, False, "interrupted"),
        ("sync", HERE, "dead", SECONDS, False, "running"),  # it may live in another container
        ("sync", HERE, "dead", SECONDS, True, "interrupted"),  # nobody else holds the lock of this command
        ("backfill", HERE, "dead", SECONDS, True, "running"),
        ("sync", HERE, "living", -SECONDS, True, "interrupted"),
        ("sync", "another", "dead", MINUTES, False, "running"),
        ("sync", "another", "living", HOURS, False, "interrupted"),
        ("sync", "another", "living", SECONDS, True, "interrupted"),
    ],
)
async def test_who_is_dead(
    database_url: str, command: str, host: str, process: str, silent: timedelta, alone: bool, expected: str
) -> None:
    await migrate(database_url)
    started = datetime.now(UTC) - silent
    pid = os.getpid() if process == "living" else dead_pid()
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "127.0.0.1", "statements")
        left = await start_run(catalog, command, {}, source.id)
        async with writing(catalog) as connection:
            row = update(runs).where(runs.c.id == left)
            # The process of the tests is older than any silence here: only in the first row it may not be.
            since = datetime.fromtimestamp(1, UTC) if (process, silent) == ("living", MINUTES) else started
            await connection.execute(row.values(host=host, pid=pid, process=None, started_at=since, heartbeat_at=since))
        await start_run(catalog, "sync", {}, source.id, alone=alone)
        async with reading(catalog) as connection:
            found = (await connection.execute(select(runs.c.status).where(runs.c.id == left))).scalar_one()
    assert found == expected


async def test_the_lock_of_another_bucket_says_nothing(database_url: str) -> None:
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        one, other = (
            await source_of(catalog, "127.0.0.1", "statements"),
            await source_of(catalog, "127.0.0.1", "invoices"),
        )
        left = await start_run(catalog, "sync", {}, one.id)
        await start_run(catalog, "sync", {}, other.id, alone=True)
        async with reading(catalog) as connection:
            found = (await connection.execute(select(runs.c.status).where(runs.c.id == left))).scalar_one()
    assert found == "running"


async def status_of(catalog: Catalog, run_id: int) -> tuple[str, str | None]:
    async with reading(catalog) as connection:
        found = (await connection.execute(select(runs.c.status, runs.c.error).where(runs.c.id == run_id))).one()
    return found.status, found.error


@pytest.mark.parametrize("set_by", [-HOURS, SECONDS, MINUTES, HOURS, 500 * HOURS])
async def test_who_is_seen_is_not_asked_for_the_time(database_url: str, set_by: timedelta) -> None:
    """However a clock was set since the last beat: this process runs, and a child that has ended does not."""
    await migrate(database_url)
    beat = datetime.now(UTC) - set_by
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "127.0.0.1", "statements")
        living, dead = [await start_run(catalog, "backfill", {}, source.id) for _ in range(2)]
        async with writing(catalog) as connection:
            await connection.execute(update(runs).values(heartbeat_at=beat))
            await connection.execute(update(runs).where(runs.c.id == dead).values(pid=dead_pid()))
        await start_run(catalog, "sync", {}, source.id)
        assert await status_of(catalog, living) == ("running", None)
        assert await status_of(catalog, dead) == ("interrupted", "the process died")


async def test_a_process_id_that_came_again_is_not_the_run(database_url: str) -> None:
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "127.0.0.1", "statements")
        left = await start_run(catalog, "backfill", {}, source.id)
        place = str(own_identity()).rpartition("/")[0]
        async with writing(catalog) as connection:
            await connection.execute(update(runs).values(process=f"{place}/1"))
        await start_run(catalog, "sync", {}, source.id)
        assert (await status_of(catalog, left))[0] == "interrupted"


async def test_who_was_taken_for_dead_says_that_it_lives(database_url: str) -> None:
    """As another container does, or another machine, when a clock was set an hour ahead."""
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "127.0.0.1", "statements")
        living = await start_run(catalog, "backfill", {}, source.id)
        async with writing(catalog) as connection:
            elsewhere = {"host": "another", "process": None, "heartbeat_at": datetime.now(UTC) - HOURS}
            await connection.execute(update(runs).values(**elsewhere))
        await start_run(catalog, "sync", {}, source.id)
        assert (await status_of(catalog, living))[0] == "interrupted"
        await catalog.heartbeat(living, Reading(datetime.now(UTC)), Counts(), None)
        assert await status_of(catalog, living) == ("running", None)
        await catalog.finish_run(living, RunStatus.FAILED, {}, "why", Reading(datetime.now(UTC)))
        await catalog.heartbeat(living, Reading(datetime.now(UTC)), Counts(), None)  # one that came late
        assert await status_of(catalog, living) == ("failed", "why")
