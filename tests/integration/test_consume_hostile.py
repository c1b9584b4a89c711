"""Messages and doubles that might stop a consumer, or make it miss a version: nothing behind them waits."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from ingest.catalog.catalog import Catalog
from ingest.demo.broker import Broker
from ingest.demo.verify_service import VerifyService
from ingest.errors import ExitCode
from ingest.model import RunStatus
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import reading
from tests.fixtures.events import eventually, list_letters, notice, plain, row_of, run, sent, settings_for
from tests.fixtures.servers import Bucket

_UNREADABLE = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class Name(str):
    def encode(self, *_):
        return b"\\xff"

async def send(bootstrap, topic):
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(topic, b"{}", b"k", headers=[(Name("h"), b"v")])

asyncio.run(send(*sys.argv[1:]))
"""
REMOVAL = "s3:ObjectRemoved:Delete"


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


async def send_unreadable(broker: Broker, topic: str) -> None:
    """A message whose header has a name that is not UTF-8: brokers do not look."""
    environment = os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}  # the compiled half does not ask `Name`
    command = [sys.executable, "-c", _UNREADABLE, broker.bootstrap, topic]
    await asyncio.to_thread(subprocess.run, command, env=environment, check=True)


async def test_what_no_rule_of_messages_foresees_is_poison_and_holds_nothing_up(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a", "b.pdf": b"b"})
    poison = {
        "too_large": b"x" * 1_200_000,
        "not_json": b"x" * ((1 << 20) - 430),  # what a broker takes by default; not with our headers
        "wrong_type": sent("k", {"Records": [7]})[1],
    }
    long = [("h", b"v" * 300)]
    await shared_broker.send(topic, [plain("a.pdf", moto.name), *((b"k", value, long) for value in poison.values())])
    await send_unreadable(shared_broker, topic)
    await shared_broker.send(topic, [plain("b.pdf", moto.name)])

    report = await run(settings)

    assert (report.exit_code, report.counts.downloaded, report.notes["messages"]) == (ExitCode.PARTIAL, 2, 6)
    kept = {letter["reason"]: letter for letter in await list_letters(settings)}
    assert kept.keys() == {*poison, "unreadable"}
    assert kept["unreadable"]["offset"] == 4
    published = {
        dict(dead.headers)["ingest_reason"].decode(): dead for dead in await shared_broker.read(f"{topic}.dead")
    }
    assert {reason: dead.value for reason, dead in published.items()} == {**poison, "unreadable": b""}
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: 6}


async def test_a_late_double_of_an_older_version_does_not_hide_the_newer_one(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"old", "b.pdf": b"old", "c.pdf": b"c"})
    keys = ["a.pdf", "b.pdf"]
    old = [notice(key, moto.name, size=3, eTag=etag(b"old")) for key in keys]
    await shared_broker.send(topic, [*old, notice("c.pdf", moto.name, size=1, eTag=etag(b"c"))])
    assert (await run(settings)).counts.downloaded == 3
    await moto.put({"a.pdf": b"new", "b.pdf": b"new"})
    await moto.delete("c.pdf")

    await shared_broker.send(
        topic,
        [
            notice("a.pdf", moto.name, size=3, eTag=etag(b"new")),
            old[0],
            plain("b.pdf", moto.name, etag=etag(b"new")),
            plain("b.pdf", moto.name, etag=etag(b"old")),
            notice("c.pdf", moto.name, REMOVAL),
            notice("c.pdf", moto.name, size=1, eTag=etag(b"c")),
        ],
    )
    report = await run(settings)

    assert (report.counts.downloaded, report.counts.gone) == (2, 1)
    for key in keys:
        row, _ = await row_of(settings, key)
        assert row is not None
        assert row["etag"] == etag(b"new")
        assert (settings.data_dir / moto.name / key).read_bytes() == b"new"
    assert (await row_of(settings, "c.pdf"))[1] == ["downloaded", "gone"]


async def test_an_event_that_tells_a_wrong_size_is_not_believed(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    await shared_broker.create(topic, 1)
    await moto.put({"small.pdf": b"12345", "large.pdf": b"12345"})
    said = {"small.pdf": 0, "large.pdf": 10**12}
    await shared_broker.send(
        topic, [notice(key, moto.name, size=size, eTag=etag(b"12345")) for key, size in said.items()]
    )
    report = await run(settings)
    assert (report.status, report.counts.downloaded) == (RunStatus.OK, 2)
    assert {(settings.data_dir / moto.name / key).read_bytes() for key in said} == {b"12345"}


async def test_one_object_that_is_always_refused_holds_up_nobody_else(
    moto: Bucket, shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url, verify_url=service.url)
    await shared_broker.create(topic, 1)
    objects = {f"{number:02}.pdf": b"%d" % number for number in range(20)}
    await moto.put({"bad.pdf": b"bad", **objects})
    service.rejects = {"/bad.pdf": 403}
    stop = Stop()
    await shared_broker.send(topic, [plain("bad.pdf", moto.name)])
    running = asyncio.create_task(run(settings, stop, until_idle=None))
    await eventually(lambda: service.requests > 0, running)
    await shared_broker.send(topic, [plain(key, moto.name) for key in objects])
    await eventually(lambda: sorted(service.accepted) == sorted(objects), running)

    async def counted() -> bool:
        async with Catalog.open(settings.database_url.get_secret_value()) as catalog, reading(catalog) as connection:
            found = await connection.exec_driver_sql("SELECT attempts FROM deliveries WHERE key = 'bad.pdf'")
            return int(found.scalar_one()) > 1  # and so it is given up in the end

    await eventually(counted, running)
    stop.request(signal.SIGTERM)
    assert (await running).exit_code == ExitCode.TERMINATED


async def test_what_cannot_be_delivered_now_does_not_keep_a_run_that_ends_when_idle(
    moto: Bucket, shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url, verify_url=service.url)
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a"})
    service.fail(503, times=10**6, Retry_After="3600")
    await shared_broker.send(topic, [plain("a.pdf", moto.name)])
    first = await run(settings)
    elsewhere = settings.model_copy(update={"verify_url": "http://127.0.0.1:9/v1/verify"})
    second = await run(elsewhere)  # what waits is for the earlier address
    assert (first.counts.downloaded, first.counts.delivered) == (1, 0)
    assert second.status is RunStatus.OK
