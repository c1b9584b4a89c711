"""``consume`` and events as real servers send them: keys unencoded, other buckets', names and envelopes of all kinds."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog.batch import Batch, Committed
from ingest.catalog.catalog import Catalog
from ingest.demo.broker import Broker, Sent
from ingest.demo.verify_service import VerifyService
from ingest.engine.options import SyncOptions
from ingest.errors import DatabaseDataError, ExitCode
from ingest.jobs.sync import sync
from ingest.model import RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.faults import saying
from ingest.testing.memory_s3 import Fault, MemoryS3, Stored, serving
from tests.fixtures.events import eventually, list_letters, plain, record, row_of, run, sent, settings_for
from tests.fixtures.servers import Bucket

REMOVAL = "s3:ObjectRemoved:Delete"


def etag(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def written(key: str, bucket: str, event: str = "s3:ObjectCreated:Put", source: str = "ceph:s3", **said: Any) -> Sent:
    """A record whose key stands there as it is."""
    one = record("", bucket, event, **said)
    one["s3"]["object"]["key"] = key
    return sent(key, {"Records": [{**one, "eventSource": source}]})


def copies(settings: Settings, name: str) -> dict[str, bytes]:
    root = settings.data_dir / name
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def states(settings: Settings, *keys: str) -> dict[str, tuple[str, bool] | None]:
    """State, and whether it is gone."""
    found = {key: (await row_of(settings, key))[0] for key in keys}
    return {key: (str(row["state"]), row["gone_at"] is not None) if row else None for key, row in found.items()}


async def test_keys_that_were_never_encoded_are_found_and_never_another_object(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    keys = ["a+b.pdf", "x%2Fy.pdf", "50%.pdf", "c d+e.pdf", "lone+plus.pdf"]
    twins = {"a b.pdf": b"twin", "x/y.pdf": b"twin"}
    await moto.put({key: key.encode() for key in keys} | twins)
    of_aws = written(keys[-1], moto.name, source="aws:s3", size=len(keys[-1]), eTag=etag(keys[-1].encode()))
    await shared_broker.send(topic, [*(written(key, moto.name) for key in keys[:-1]), of_aws])

    report = await run(settings)

    assert (report.status, report.counts.downloaded) == (RunStatus.OK, len(keys))
    assert copies(settings, moto.name) == {key.replace("%", "%25"): key.encode() for key in keys}

    await shared_broker.send(topic, [written(key, moto.name, source="minio:s3") for key in keys[:2]])
    assert (await run(settings)).counts.downloaded == 2  # who encodes is known: these are the twins
    await moto.delete("a+b.pdf", "x/y.pdf")
    await shared_broker.send(topic, [written(key, moto.name, REMOVAL) for key in keys[:2]])
    assert (await run(settings)).counts.gone == 2
    assert await states(settings, "a+b.pdf", "x%2Fy.pdf", *twins) == {
        "a+b.pdf": ("present", True), "x%2Fy.pdf": ("present", False),
        "a b.pdf": ("present", False), "x/y.pdf": ("present", True),
    }  # fmt: skip


async def test_where_a_key_can_be_read_in_two_ways_its_etag_decides(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    await shared_broker.create(topic, 1)
    await moto.put({"a+b": b"plus", "a b": b"space", "c+d": b"plus", "c d": b"space"})
    after = {"eventTime": "2100-01-01T00:00:00Z"}
    waits = json.loads(written("late+d", moto.name, source="", size=4, eTag=etag(b"late"))[1] or b"")
    waits["Records"][0] |= after | {"eventSource": "aws:s3"}
    waits["Records"][0]["s3"]["object"]["key"] = "late%2Bd"  # `late+d`, or should that never come, `late%2Bd`
    await moto.put({"late%2Bd": b"an older one"})
    messages = [
        written("a+b", moto.name, source="", size=4, eTag=etag(b"plus")),
        written("c+d", moto.name, source="", size=5, eTag=etag(b"space")),
        sent("late", waits),
    ]
    await shared_broker.send(topic, messages)
    report = await run(settings)
    assert (report.exit_code, report.counts.downloaded) == (ExitCode.PARTIAL, 2)
    assert copies(settings, moto.name) == {"a+b": b"plus", "c d": b"space"}
    assert [letter["reason"] for letter in await list_letters(settings)] == ["no_such_key"]


async def test_a_name_that_nobody_knows_is_looked_at(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"old.pdf": b"1", "gone.pdf": b"1", "synced.pdf": b"1", "expired.pdf": b"1"})
    await shared_broker.send(topic, [plain(key, moto.name) for key in ("old.pdf", "gone.pdf", "expired.pdf")])
    assert (await run(settings)).counts.downloaded == 3
    await moto.put({"old.pdf": b"2"})
    await moto.delete("gone.pdf", "expired.pdf")
    names = {
        "old.pdf": "s3:Something:New",
        "gone.pdf": "Something:New",
        "never.pdf": "s3:Something:New",
        "synced.pdf": "s3:ObjectSynced:Create",
        "expired.pdf": "s3:ObjectLifecycle:Expiration:Current",
        "": "s3:BucketCreated:*",
        "big/": "s3:Scanner:BigPrefix",
        "read.pdf": "s3:ObjectAccessed:Get",
    }
    await shared_broker.send(topic, [written(key, moto.name, name) for key, name in names.items()])
    report = await run(settings)
    assert (report.status, report.error) == (RunStatus.OK, None)
    assert (report.counts.downloaded, report.counts.gone, report.notes["events"]) == (2, 2, 5)
    assert (settings.data_dir / moto.name / "old.pdf").read_bytes() == b"2"


async def test_other_buckets_records_are_passed_over_and_each_part_is_judged_by_itself(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a", "b.pdf": b"b", "c.pdf": b"c"})
    foreign = record("a.pdf", "elsewhere")
    mixed = [foreign, record("a.pdf", moto.name), {"s3": 7}, record("b.pdf", moto.name)]
    sns = {"Type": "Notification", "Message": json.dumps({"Records": [foreign, record("c.pdf", moto.name)]})}
    await shared_broker.send(topic, [sent("k", {"Records": [foreign]}), sent("k", mixed), sent("k", sns)])

    report = await run(settings)

    assert report.exit_code == ExitCode.PARTIAL  # for the part that nobody can read
    assert (report.counts.downloaded, report.notes["foreign"], report.notes["dead_letters"]) == (3, 3, 1)
    (letter,) = await list_letters(settings)
    assert (letter["state"], letter["reason"], letter["offset"]) == ("dead", "wrong_type", 1)
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: 3}


async def test_what_cannot_be_read_of_a_message_does_not_keep_the_rest_from_waiting(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    await shared_broker.create(topic, 1)
    stop = Stop()
    running = asyncio.create_task(run(settings, stop, patience=timedelta(minutes=1), until_idle=None))
    await shared_broker.send(topic, [sent("k", [record("late.pdf", moto.name), {"s3": 7}])])

    async def kept() -> list[str]:
        return [letter["state"] for letter in await list_letters(settings)]

    async def waits() -> bool:
        return await kept() == ["waiting"]

    async def dead() -> bool:
        return await kept() == ["dead"]

    await eventually(waits, running)
    await moto.put({"late.pdf": b"late"})
    await eventually(dead, running)
    stop.request(signal.SIGTERM)
    assert (await running).counts.downloaded == 1


HINTS: list[dict[str, Any]] = [
    {"size": 2**63}, {"size": 10**30}, {"size": -1}, {"size": "1"}, {"size": None}, {"eTag": "a\0b"},
    {"eTag": "e" * 900_000}, {"eTag": "ä"}, {"eTag": 7}, {"versionId": "\0", "sequencer": ["\0"]},
]  # fmt: skip


@pytest.mark.parametrize("refused", [False, True], ids=["there", "refused"])
async def test_no_hint_of_an_event_stops_the_reading(
    refused: bool, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    """Also where the bucket answers 403, so that nothing better is known of the object."""
    async with serving(MemoryS3()) as server:
        bucket = server.bucket
        settings = await settings_for(bucket, shared_broker, topic, tmp_path, database_url)
        keys = [f"{number}.pdf" for number in range(len(HINTS))]
        server.fill(dict.fromkeys([*keys, "\u00fc" * 511, "times.pdf", "last.pdf"], b"1"))
        if refused:
            spoiled = {*keys, "\u00fc" * 511, "times.pdf"}
            server.faults = [Fault("get", saying("403 Forbidden", "AccessDenied"), key) for key in spoiled]
            server.faults += [Fault("head", saying("403 Forbidden"), key) for key in spoiled]
        usual: dict[str, Any] = {"size": 1, "eTag": etag(b"1")}
        events = [record(key, bucket.name, **(usual | said)) for key, said in zip(keys, HINTS, strict=True)]
        for at in ("", "2026-01-05T10:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", 7):
            events.append({**record("times.pdf", bucket.name, **usual), "eventTime": at})
        events.append(record("\u00fc" * 511, bucket.name, **usual))
        fields = plain("last.pdf", bucket.name, **{"no\0te": "a\0b", "etag": "\0"})
        await shared_broker.create(topic, 1)
        await shared_broker.send(topic, [*(sent("k\0", one, {"h\0": b"\0"}) for one in events), fields])

        report = await run(settings)

    if not refused:
        assert (report.status, report.counts.downloaded) == (RunStatus.OK, len(keys) + 3)
        return
    assert (report.exit_code, report.counts.downloaded) == (ExitCode.PARTIAL, 1)
    assert {letter["reason"] for letter in await list_letters(settings)} == {"access_denied"}
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: len(events) + 1}


async def test_an_etag_that_no_index_takes_names_no_version(
    shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path, database_url: str
) -> None:
    async with serving(MemoryS3()) as server:
        settings = await settings_for(
            server.bucket, shared_broker, topic, tmp_path, database_url, verify_url=service.url
        )
        for key in ("long.pdf", "longer.pdf"):
            server.objects[key] = Stored(
                b"1", secrets.token_hex(450 if key == "long.pdf" else 3_000), datetime.now(UTC)
            )
        await shared_broker.create(topic, 1)
        await shared_broker.send(topic, [plain(key, server.bucket.name) for key in server.objects])
        report = await run(settings)
        assert (report.error, report.counts.downloaded, report.counts.delivered) == (None, 2, 2)
        listed = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    assert (listed.error, listed.counts.unchanged) == (None, 2)


async def test_what_a_database_cannot_keep_is_one_objects_failure(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: no bound of ours foresees it."""
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    keys = ["a.pdf", "b.pdf", "odd.pdf", "c.pdf"]
    await moto.put(dict.fromkeys(keys, b"1"))
    commit = Catalog.commit

    async def particular(self: Catalog, batch: Batch) -> Committed:
        if any(remote.key == "odd.pdf" for remote, _ in batch.present):
            raise DatabaseDataError("catalog: no such value")
        return await commit(self, batch)

    monkeypatch.setattr(Catalog, "commit", particular)
    await shared_broker.create(topic, 1)
    await shared_broker.send(topic, [plain(key, moto.name) for key in keys])
    report = await run(settings, patience=timedelta(hours=1))
    assert (report.exit_code, report.counts.downloaded, report.counts.failed) == (ExitCode.PARTIAL, 3, 1)
    assert [(letter["key"], letter["reason"]) for letter in await list_letters(settings)] == [
        ("odd.pdf", "database_data")
    ]
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: 4}
