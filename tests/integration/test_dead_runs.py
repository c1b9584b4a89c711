"""Which runs that never wrote their end are dead: the table of `catalog.runs._is_dead`, on both databases."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from ingest.catalog import schema
from ingest.catalog.catalog import Catalog
from ingest.catalog.tables import runs
from tests.faults.rig import dead_pid

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
    await schema.upgrade(database_url)
    started = datetime.now(UTC) - silent
    pid = os.getpid() if process == "living" else dead_pid()
    async with Catalog.open(database_url) as catalog:
        source = await catalog.source("127.0.0.1", "statements")
        left = await catalog.start_run(command, {}, source.id)
        async with catalog.writing() as connection:
            row = update(runs).where(runs.c.id == left)
            # The process of the tests is older than any silence here: only in the first row it may not be.
            since = datetime.fromtimestamp(1, UTC) if (process, silent) == ("living", MINUTES) else started
            await connection.execute(row.values(host=host, pid=pid, started_at=since, heartbeat_at=since))
        await catalog.start_run("sync", {}, source.id, alone=alone)
        async with catalog.reading() as connection:
            found = (await connection.execute(select(runs.c.status).where(runs.c.id == left))).scalar_one()
    assert found == expected


async def test_the_lock_of_another_bucket_says_nothing(database_url: str) -> None:
    await schema.upgrade(database_url)
    async with Catalog.open(database_url) as catalog:
        one, other = await catalog.source("127.0.0.1", "statements"), await catalog.source("127.0.0.1", "invoices")
        left = await catalog.start_run("sync", {}, one.id)
        await catalog.start_run("sync", {}, other.id, alone=True)
        async with catalog.reading() as connection:
            found = (await connection.execute(select(runs.c.status).where(runs.c.id == left))).scalar_one()
    assert found == "running"
