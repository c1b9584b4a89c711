"""The tour of the events: from a topic by way of the bucket to ``/v1/verify``, with what goes wrong on the way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote_plus

from ingest.demo.broker import Broker, Sent, broker
from ingest.demo.seed import BUCKET, Place, stocked
from ingest.demo.statements import statements
from ingest.demo.tour import LATE_KEY, LastRun, Tour
from ingest.demo.verify_service import VerifyService, verify_service
from ingest.errors import ExitCode, IngestError
from ingest.source.client import S3Client

TOPIC = "statements"
POISON = b'{"oops": "no path in here"}'
REFUSALS = 6
SILENT_KEY = "statements/2026/12/ACC-00000-2026-12.pdf"
_FOLLOW = ("consume", "--until-idle", "1s")


async def tour(directory: Path, count: int, show: Callable[[str], None], last_run: LastRun) -> list[str]:
    """Walks the events of `count` statements through, and returns the command lines it showed.

    Raises:
        IngestError: a command did not do what the tour says.
    """
    show(
        f"Starting an S3 server, a Kafka broker and a verification service on loopback, and putting {count} sample "
        f"statements into the bucket ..."
    )
    async with _all_three(directory, count, show) as (place, client, served, service):
        guide = Tour(place, show, last_run)
        bucket = dict(statements(count))
        await _all_announced(guide, served, service, bucket)
        await _trouble(guide, served, service, client, bucket)
        await _gap(guide, service, client, bucket)
        _conclude(guide, service, served)
        return guide.shown


@asynccontextmanager
async def announced(directory: Path, count: int) -> AsyncIterator[Place]:
    """Bucket, topic and service to be used by hand: each of `count` statements is announced, and nothing has read it.

    Raises:
        IngestError: one of them does not come up.
    """
    async with _all_three(directory, count, lambda _text: None) as (place, _, served, _):
        await served.send(TOPIC, [_by_path(key) for key, _ in statements(count)])
        yield place


@asynccontextmanager
async def _all_three(
    directory: Path, count: int, show: Callable[[str], None]
) -> AsyncIterator[tuple[Place, S3Client, Broker, VerifyService]]:
    async with stocked(directory, count, show) as (place, client), broker(directory / "broker") as served:
        with verify_service() as service:
            more = {
                "KAFKA_BOOTSTRAP_SERVERS": served.bootstrap,
                "KAFKA_TOPIC": TOPIC,
                "KAFKA_SESSION_TIMEOUT": "2s",
                "VERIFY_URL": service.url,
            }
            await served.create(TOPIC, 2)
            yield replace(place, more=more), client, served, service


async def _all_announced(guide: Tour, served: Broker, service: VerifyService, bucket: dict[str, bytes]) -> None:
    keys = list(bucket)
    twice = keys[::10]
    guide.show(f"\n# Each statement is announced, half by a path and half as MinIO does; {len(twice)} of them twice.")
    announced = [_by_path(key) if number % 2 else _by_notice(key) for number, key in enumerate(keys)]
    await served.send(TOPIC, [*announced, *map(_by_path, twice)])
    title = "The consumer downloads, records and hands over each of them once."
    await guide.job(title, *_FOLLOW, downloaded=len(keys), delivered=len(keys))
    guide.expect_copies(bucket)
    _expect_delivered(service, keys)
    await guide.run("What happened to the first one?", "history", keys[0])


async def _trouble(
    guide: Tour, served: Broker, service: VerifyService, client: S3Client, bucket: dict[str, bytes]
) -> None:
    body = next(iter(bucket.values()))
    late = [f"{LATE_KEY}.{number}" for number in range(1, 9)]
    bucket |= dict.fromkeys(late, body)
    for key in late:
        await client.put(key, body)
    service.fail(503, times=REFUSALS)
    guide.show(
        f"\n# {len(late)} more arrive, and a message that nobody can read; and the verification service answers its "
        f"next {REFUSALS} requests with 503."
    )
    await served.send(TOPIC, [*map(_by_path, late), (b"poison", POISON, ())])
    title = "The service is left alone until it recovers; the message becomes a dead letter, and so the exit code is 3."
    await guide.job(title, *_FOLLOW, code=ExitCode.PARTIAL, downloaded=len(late), delivered=len(late))
    _expect_delivered(service, bucket)
    (dead,) = await served.read(f"{TOPIC}.dead")
    if dead.value != POISON:
        raise IngestError("the demo's dead letter is not the message that was sent")
    await guide.run("Why was it given up?", "deadletters", "list")


async def _gap(guide: Tour, service: VerifyService, client: S3Client, bucket: dict[str, bytes]) -> None:
    bucket[SILENT_KEY] = next(iter(bucket.values()))
    await client.put(SILENT_KEY, bucket[SILENT_KEY])
    guide.show(f"\n# {SILENT_KEY} arrives, and no event says so.")
    title = "The nightly listing finds what the events missed, and puts it in line."
    await guide.job(title, "sync", "--deliver", downloaded=1, unchanged=len(bucket) - 1)
    await guide.job("It is handed over as well.", "deliver", delivered=1)
    guide.expect_copies(bucket)
    _expect_delivered(service, bucket)
    await guide.run("Where do we stand?", "status")
    await guide.run("Is the audit trail whole?", "db", "check")


def _by_path(key: str) -> Sent:
    return (key.encode(), json.dumps({"s3_path": f"s3://{BUCKET}/{key}", "account": key[-21:-12]}).encode(), ())


def _by_notice(key: str) -> Sent:
    what = {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key)}}
    return (key.encode(), json.dumps({"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": what}]}).encode(), ())


def _expect_delivered(service: VerifyService, keys: Iterable[str]) -> None:
    """Raises `IngestError` unless the service took each of these, and each once."""
    if sorted(service.accepted) != sorted(keys):
        raise IngestError(f"the demo's service took {len(service.accepted)} files and not those it should")


def _conclude(guide: Tour, service: VerifyService, served: Broker) -> None:
    guide.show(
        f"\nDone: {len(guide.shown)} commands, and each did what this tour says of it, by the catalog's counts, the "
        f"bytes on disk and what the service took.\n"
        f"Shown: {len(service.accepted)} statements verified, each once, though some were announced twice; a service "
        f"that failed for a while; a poison message kept; a silent object found.\n"
        f"Broker: {served.bootstrap}, topics {TOPIC} and {TOPIC}.dead\n"
        f"Service: {service.url}"
    )
