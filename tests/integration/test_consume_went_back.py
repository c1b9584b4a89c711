"""A database that forgets what came of messages whose offsets are committed: they are read again."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from ingest.catalog.schema.schema import upgrade
from ingest.demo.broker import Broker
from ingest.errors import CatalogWentBack
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.faults.turning import Turning
from tests.fixtures.events import eventually, plain, run, settings_for
from tests.fixtures.servers import Bucket

KEYS = [f"2026/{number}.pdf" for number in range(30)]
IN_LINE = "SELECT count(*) FROM deliveries"
NOWHERE = "http://127.0.0.1:9/v1/verify"


async def committed(broker: Broker, settings: Settings, position: int) -> bool:
    return (await broker.committed(settings.kafka_topic, settings.kafka_group_id)).get(0) == position


async def test_the_offsets_go_back_with_it(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    """No offset stays ahead of the catalog, and so each object is recorded and put in line in the end."""
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url, verify_url=NOWHERE)
    await upgrade(database_url)
    await moto.put(dict.fromkeys(KEYS, b"statement"))
    await shared_broker.create(topic, 1)
    turning = Turning(database_url, tmp_path)
    consuming = asyncio.create_task(run(settings, Stop(), until_idle=None))
    for start in (0, 10, 20):
        if start == 10:
            turning.keep()
        if start == 20:
            turning.turn()
        await shared_broker.send(topic, [plain(key, moto.name) for key in KEYS[start : start + 10]])
        if start < 20:
            await eventually(partial(committed, shared_broker, settings, start + 10), consuming)
    report = await consuming
    assert (report.exit_code, type(report.error)) == (6, CatalogWentBack), report.error
    assert await committed(shared_broker, settings, 10)
    await run(settings)
    assert await turning.ask(IN_LINE) == len(KEYS)
