"""``consume`` on a real broker, a real bucket, a real /v1/verify, and both databases."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from ingest.catalog import schema
from ingest.demo.broker import Broker, Sent
from ingest.demo.verify_service import VerifyService
from ingest.jobs.consume import consume
from ingest.jobs.options import ConsumeOptions
from ingest.jobs.stop import Stop
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from tests.fixtures.servers import Bucket

SOON = timedelta(seconds=0.5)
"""Without anything to do for so long, a run of these tests ends."""


def plain(key: str, bucket: str, **fields: object) -> Sent:
    return (key.encode(), json.dumps({"s3_path": f"s3://{bucket}/{key}", **fields}).encode(), ())


def notice(key: str, bucket: str, event: str = "s3:ObjectCreated:Put", **said: object) -> Sent:
    record = {
        "eventName": event,
        "eventTime": "2026-01-05T10:00:00.000Z",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), **said}},
    }
    return (key.encode(), json.dumps({"Records": [record]}).encode(), ())


async def settings_for(
    bucket: Bucket, broker: Broker, topic: str, tmp_path: Path, database_url: str, **more: Any
) -> Settings:
    await schema.upgrade(database_url)
    return bucket.settings(
        tmp_path / "data",
        database_url=database_url,
        kafka_bootstrap_servers=broker.bootstrap,
        kafka_topic=topic,
        kafka_group_id=f"group-of-{topic}",
        **more,
    )


async def run(settings: Settings, **options: Any) -> RunReport:
    chosen = ConsumeOptions(**{"until_idle": SOON, "patience": timedelta(0)} | options)
    async with asyncio.timeout(90):
        return await consume(settings, chosen, progress=Silence(), stop=Stop())


async def test_events_are_downloaded_recorded_and_delivered_once(
    moto: Bucket, shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url, verify_url=service.url)
    objects = {f"2026/{number:03} + ä.pdf": b"%d" % number * 100 for number in range(40)}
    await moto.put(objects)
    await shared_broker.create(topic, 3)
    await shared_broker.send(topic, [plain(key, moto.name, account=7) for key in objects for _ in range(2)])

    report = await run(settings)

    assert (report.status, report.error) == (RunStatus.OK, None)
    assert report.notes["messages"] == 80
    assert (report.counts.downloaded, report.counts.delivered) == (40, 40)
    assert sorted(service.accepted) == sorted(objects)
    assert {taken.fields["account"] for taken in service.received} == {"7"}
    for key, body in objects.items():
        assert (settings.data_dir / moto.name / key).read_bytes() == body
    assert sum((await shared_broker.committed(topic, settings.kafka_group_id)).values()) == 80
