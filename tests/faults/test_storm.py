"""Storms of all commands, with consumers and deliveries in them: `make storm` draws new ones for as long as is said.

No part of the suite: what the processes of a storm come to is the scheduler's draw, and not the seed's. A storm searches;
what it finds becomes a test of its own.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.demo.broker import Broker
from ingest.demo.verify_service import VerifyService
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.databases import Template, copy_of
from tests.faults.storm import Storm
from tests.fixtures.forks import fork_server

SECONDS = float(os.environ.get("INGEST_TEST_STORM", "0"))
"""For each database: new storms for so long."""
SEED = os.environ.get("INGEST_TEST_SEED")
ONE = 12.0
"""Seconds of one storm, without the calm behind it."""


@pytest.fixture
def home() -> Iterator[Path]:
    """On a disk in memory where there is one: every step waits for its bytes to be durable."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where, ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.mark.skipif(not SECONDS, reason="a search, not a proof: make storm")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_when_it_is_over_one_quiet_round_puts_all_right(
    database: str,
    empty_databases: dict[str, Template],
    service: VerifyService,
    shared_broker: Broker,
    topic: str,
    home: Path,
) -> None:
    end, number = time.monotonic() + SECONDS, 0
    while True:
        number += 1
        seed = int(SEED or random.randrange(1 << 32))
        print(f"again with INGEST_TEST_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
        place = home / str(number)
        place.mkdir()
        with running(MemoryS3(page=7)) as server:
            url = await copy_of(empty_databases[database], place / "catalog.db")
            own = f"{topic}-{number}"
            await shared_broker.create(own, 2)
            service.received.clear()
            storm = Storm(random.Random(seed), server, service, fork_server(), shared_broker, own, place, url)
            try:
                await storm.rage(ONE)
                await storm.calm()
                await storm.assert_no_offset_is_ahead()
                await storm.put_right()
                await storm.assert_right()
            finally:
                fork_server().kill_all()
        print(f"{storm.started} commands, {storm.signalled} signals")  # noqa: T201 - as above
        if time.monotonic() >= end:
            return
