"""A database that is away: waited for, and not beyond a request to stop."""

from __future__ import annotations

import asyncio
import signal

import pytest

from ingest.engine.record.patient import Outage
from ingest.errors import DatabaseLost
from ingest.tasks.stop import Stop


async def test_it_is_waited_for_and_said_so() -> None:
    outage, said = Outage(Stop()), []

    async def attempt() -> int:
        said.append(outage.trouble)
        if len(said) < 3:
            raise DatabaseLost("away")
        return 7

    assert await outage.wait_out(attempt) == 7
    assert said == ["", "the database is away: database_lost", "the database is away: database_lost"]
    assert outage.trouble == ""


async def test_a_request_to_stop_ends_the_wait() -> None:
    stop = Stop()
    outage = Outage(stop)

    tried = asyncio.Event()

    async def attempt() -> None:
        tried.set()
        raise DatabaseLost("away")

    waiting = asyncio.create_task(outage.wait_out(attempt))
    await tried.wait()
    stop.request(signal.SIGTERM)
    with pytest.raises(DatabaseLost):
        await asyncio.wait_for(waiting, 5)
