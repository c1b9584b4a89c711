"""How many events a second go end to end: topic, bucket, catalog, /v1/verify. Run by hand: every part is real.

    python benchmarks/events.py [--events 3000] [--database URL] [--form plain|notice] [--no-deliver] [--profile FILE]

The verification service, the broker and the S3 server take their share of the same cores; the line says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from ingest.catalog.catalog import Catalog
from ingest.catalog.tables import events
from ingest.demo.broker import Broker, Sent, broker
from ingest.demo.seed import BUCKET, Place
from ingest.demo.server import serve
from ingest.source.client import S3Client

SIZE = 16 << 10
TOPIC = "events"
_PARTITIONS = 4


def body_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)


def key_of(number: int) -> str:
    return f"statements/2026/{number % 12 + 1:02}/ACC-{number:06}.pdf"


def message(form: str, number: int) -> Sent:
    key = key_of(number)
    if form == "plain":
        return (key.encode(), json.dumps({"s3_path": f"s3://{BUCKET}/{key}", "account": number}).encode(), ())
    etag = hashlib.md5(body_of(number), usedforsecurity=False).hexdigest()
    record = {
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": datetime.now(UTC).isoformat(),
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "size": SIZE, "eTag": etag}},
    }
    return (key.encode(), json.dumps({"Records": [record]}).encode(), ())


@contextmanager
def service() -> Iterator[tuple[str, int]]:
    """The demo's /v1/verify in a process of its own, as a real one would be: its address and process id."""
    code = (
        "import sys, time\nfrom ingest.demo.verify_service import verify_service\n"
        "with verify_service() as running:\n    print(running.url, flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close() if process.stdin else None


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def fill(place: Place, count: int) -> None:
    limit = asyncio.Semaphore(32)
    async with S3Client(place.settings) as client:

        async def put(number: int) -> None:
            async with limit:
                await client.put(key_of(number), body_of(number))

        await asyncio.gather(*(put(number) for number in range(count)))


async def consume(place: Place, served: Broker, arguments: argparse.Namespace, verify_url: str) -> dict[str, Any]:
    """Runs the command as a user would, and returns its summary."""
    command = [sys.executable, "-m", "ingest"]
    if arguments.profile:
        command = [sys.executable, "-m", "cProfile", "-o", arguments.profile, "-m", "ingest"]
    extra = {"KAFKA_BOOTSTRAP_SERVERS": served.bootstrap, "KAFKA_TOPIC": TOPIC, "VERIFY_URL": verify_url}
    extra |= {"DATABASE_URL": arguments.database} if arguments.database else {}
    process = await asyncio.create_subprocess_exec(
        *command, "consume", "--until-idle", "2s", "--json",
        env=place.environment | extra, cwd=place.directory / "server",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode:
        sys.exit(errors.decode()[-2000:])
    lines = [json.loads(line) for line in errors.decode().splitlines() if line.startswith("{")]
    joined = next(line["timestamp"] for line in lines if line["event"] == "partitions_assigned")
    url = arguments.database or place.settings.database_url.get_secret_value()
    return {
        **json.loads(output),
        "active_seconds": (await last_event(url) - datetime.fromisoformat(joined)).total_seconds(),
    }


async def last_event(url: str) -> datetime:
    """When the last download or delivery was recorded."""
    async with Catalog.open(url) as catalog, catalog.reading() as connection:
        found: datetime = (await connection.execute(select(func.max(events.c.at)))).scalar_one()
        return found


async def main(arguments: argparse.Namespace) -> None:
    home = Path(tempfile.mkdtemp(prefix="ingest-events-"))
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(broker(home / "broker"))
        server = await stack.enter_async_context(serve(home / "server", BUCKET))
        url, verifier = stack.enter_context(service())
        place = Place(server, home)
        await fill(place, arguments.events)
        await served.create(TOPIC, _PARTITIONS)
        await served.send(TOPIC, [message(arguments.form, number) for number in range(arguments.events)])
        before, started = cpu_of(verifier), time.monotonic()
        report = await consume(place, served, arguments, "" if arguments.no_deliver else url)
        elapsed = time.monotonic() - started
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(
            json.dumps(
                {
                    "events": arguments.events, "form": arguments.form, "downloaded": report["downloaded"],
                    "delivered": report["delivered"], "seconds": round(report["active_seconds"], 2),
                    "events_a_second": round(arguments.events / report["active_seconds"]),
                    "whole_run": round(elapsed, 2), "cpu_of_ingest": round(own.ru_utime + own.ru_stime, 2),
                    "cpu_of_verify": round(cpu_of(verifier) - before, 2), "peak_mb": own.ru_maxrss >> 10,
                }
            )
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--database", default="")
    parser.add_argument("--form", choices=["plain", "notice"], default="notice")
    parser.add_argument("--no-deliver", action="store_true")
    parser.add_argument("--profile", default="")
    asyncio.run(main(parser.parse_args()))
