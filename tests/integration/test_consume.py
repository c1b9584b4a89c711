"""``consume`` on a real broker, a real bucket, a real /v1/verify, and both databases."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from ingest.catalog import deadletters, overview
from ingest.catalog.catalog import Catalog
from ingest.demo.broker import Broker
from ingest.demo.verify_service import VerifyService
from ingest.engine.options import DeliverOptions, LetterOptions, SyncOptions
from ingest.errors import ExitCode
from ingest.jobs.deadletters import retry_letters
from ingest.jobs.deliver import deliver
from ingest.jobs.show import status
from ingest.jobs.sync import sync
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import newest_run, source_of, writing
from tests.fixtures.databases import migrate
from tests.fixtures.events import eventually, list_letters, notice, plain, record, row_of, run, sent, settings_for
from tests.fixtures.servers import Bucket

FOR_EVER = 1 << 30


async def trails(settings: Settings, expected: dict[str, list[str]]) -> bool:
    """Whether the audit trail of each of these keys is as expected."""
    return all([(await row_of(settings, key))[1] == trail for key, trail in expected.items()])


@asynccontextmanager
async def following(settings: Settings) -> AsyncIterator[asyncio.Task[RunReport]]:
    """A consumer at work, asked to stop at the end: to be a member once costs less than twice."""
    stop = Stop()
    running = asyncio.create_task(run(settings, stop, until_idle=None))
    yield running
    stop.request(signal.SIGTERM)


async def committed(broker: Broker, settings: Settings, position: int) -> bool:
    """Whether the first partition's offset is there."""
    return (await broker.committed(settings.kafka_topic, settings.kafka_group_id)).get(0) == position


async def dead_letters(settings: Settings) -> bool:
    return any(letter["state"] == "dead" for letter in await list_letters(settings))


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
        assert (await row_of(settings, key))[1] == ["downloaded", "delivered"]
    assert sum((await shared_broker.committed(topic, settings.kafka_group_id)).values()) == 80


async def test_every_form_is_taken_and_every_poison_becomes_a_dead_letter(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    name, body = moto.name, b"statement"
    etag = hashlib.md5(body).hexdigest()
    entity = {"bucket": {"name": name}, "object": {"key": "bridge +.pdf"}}
    cloud = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    forms = {
        "plain a.pdf": plain("plain a.pdf", name),
        "50%25.pdf": sent("k", {"s3_path": f"s3://{name}/50%25.pdf"}),  # literal: there is no `50%.pdf`
        "minio +.pdf": notice("minio +.pdf", name),
        "said.pdf": notice("said.pdf", name, size=len(body), eTag=etag),
        "outdated.pdf": notice("outdated.pdf", name, size=3, eTag="0" * 32),
        "bridge +.pdf": sent("k", {"detail-type": "Object Created", "detail": entity}),
        "cloud.pdf": sent("k", {**cloud, "data": {"s3_path": f"s3://{name}/cloud.pdf"}}),
        "binary.pdf": sent("k", {"s3_path": f"s3://{name}/binary.pdf"}, {"ce_specversion": b"1.0", "ce_type": b"t"}),
        "first.pdf": sent("k", {"Records": [record("first.pdf", name), record("second.pdf", name)]}),
    }
    poison = {
        "not_json": b"\x00\x01",
        "not_utf8": b'"\xff"',
        "unknown_form": b"{}",
        "other_bucket": b'{"s3_path": "s3://elsewhere/a"}',
        "empty_key": b'{"s3_path": ""}',
        "wrong_type": b'{"s3_path": 1}',
        "bad_path": b'{"s3_path": "ftp://x/y"}',
    }
    await moto.put(dict.fromkeys([*forms, "second.pdf"], body))
    await shared_broker.create(topic, 2)
    letters = [(b"k", value, [("trace", b"\xff1")]) for value in poison.values()]
    await shared_broker.send(topic, [*forms.values(), *letters])

    report = await run(settings)

    assert report.counts.downloaded == len(forms) + 1
    for key in [*forms, "second.pdf"]:
        assert (settings.data_dir / name / key.replace("%", "%25")).read_bytes() == body
    assert (report.exit_code, report.notes["dead_letters"]) == (ExitCode.PARTIAL, len(poison))
    kept = {letter["reason"]: letter for letter in await list_letters(settings)}
    assert kept.keys() == poison.keys()
    assert all(letter["state"] == "dead" and len(letter["attempts"]) == 1 for letter in kept.values())
    published = {
        dict(dead.headers)["ingest_reason"].decode(): dead for dead in await shared_broker.read(f"{topic}.dead")
    }
    assert {reason: dead.value for reason, dead in published.items()} == poison
    assert all(dict(dead.headers)["trace"] == b"\xff1" and dead.key == b"k" for dead in published.values())
    assert sum((await shared_broker.committed(topic, settings.kafka_group_id)).values()) == len(forms) + len(poison)


async def test_an_object_that_is_late_is_waited_for_and_one_that_never_comes_is_given_up(
    moto: Bucket, shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url, verify_url=service.url)
    await shared_broker.create(topic, 1)
    await moto.put({"there.pdf": b"there"})
    await shared_broker.send(topic, [plain(key, moto.name) for key in ("late.pdf", "never.pdf", "there.pdf")])
    stop = Stop()
    running = asyncio.create_task(run(settings, stop, patience=timedelta(seconds=6), until_idle=None))

    await eventually(lambda: service.accepted == ["there.pdf"], running)  # nobody waits behind those that wait
    await moto.put({"late.pdf": b"late"})
    await eventually(lambda: service.accepted == ["there.pdf", "late.pdf"], running)
    await eventually(lambda: dead_letters(settings), running)
    stop.request(signal.SIGTERM)
    report = await running

    assert report.exit_code == ExitCode.TERMINATED
    (letter,) = await list_letters(settings)
    assert (letter["key"], letter["reason"]) == ("never.pdf", "no_such_key")
    assert len(letter["attempts"]) >= 3
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: 3}

    # Given up, but not lost: once it is there, it is taken.
    failed = await retry_letters(settings, LetterOptions(None))
    assert (failed.exit_code, failed.notes["settled"]) == (ExitCode.PARTIAL, 0)
    assert len((await list_letters(settings))[0]["attempts"]) == len(letter["attempts"]) + 1
    await moto.put({"never.pdf": b"after all"})
    retried = await retry_letters(settings, LetterOptions([letter["id"]]))
    assert (retried.status, retried.notes["settled"]) == (RunStatus.OK, 1)
    assert await list_letters(settings) == []
    await deliver(settings, DeliverOptions(), progress=Silence(), stop=Stop())
    assert service.accepted == ["there.pdf", "late.pdf", "never.pdf"]


async def test_removals_mark_gone_and_the_copy_stays(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a", "b.pdf": b"b"})
    async with following(settings) as running:
        await shared_broker.send(topic, [plain("a.pdf", moto.name), plain("b.pdf", moto.name)])
        await eventually(partial(trails, settings, {"a.pdf": ["downloaded"], "b.pdf": ["downloaded"]}), running)
        await moto.delete("a.pdf")
        removal = "s3:ObjectRemoved:Delete"
        # Of `b` the removal is old news (it was written again), and of `c` nothing was known.
        await shared_broker.send(topic, [notice(key, moto.name, removal) for key in ("b.pdf", "c.pdf", "a.pdf")])
        await eventually(partial(trails, settings, {"a.pdf": ["downloaded", "gone"]}), running)
    report = await running

    assert (report.counts.downloaded, report.counts.gone) == (2, 1)
    row, _ = await row_of(settings, "a.pdf")
    assert row is not None
    assert row["gone_at"] is not None
    assert (settings.data_dir / moto.name / "a.pdf").read_bytes() == b"a"
    row, trail = await row_of(settings, "b.pdf")
    assert row is not None
    assert (row["gone_at"], trail) == (None, ["downloaded"])
    assert (await row_of(settings, "c.pdf"))[0] is None
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {0: 5}, "the old news were settled, too"


async def test_the_gap_report_counts_what_no_event_announced(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"announced.pdf": b"1", "late.pdf": b"2", "silent.pdf": b"3"})
    async with following(settings) as running:
        await shared_broker.send(topic, [plain("announced.pdf", moto.name)])
        await eventually(partial(trails, settings, {"announced.pdf": ["downloaded"]}), running)

        report = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
        assert (report.counts.downloaded, report.notes["unannounced"]) == (2, 2)

        await shared_broker.send(topic, [plain("late.pdf", moto.name)])  # its event came after the listing

        async def all_but_one() -> bool:
            return bool((await status(settings))["unannounced"] == 1)

        await eventually(all_but_one, running)
    assert (await running).counts.downloaded == 1, "what the listing had brought was not brought again"


async def test_an_event_announces_the_version_that_it_names_and_no_other(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    """The event of the version that was taken may be the one that was lost."""
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await moto.put({"k": b"newer"})
    report = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    assert report.notes["unannounced"] == 1
    events = [
        notice("k", moto.name, eTag=hashlib.md5(b"older").hexdigest()),
        notice("k", moto.name, "s3:ObjectRemoved:Delete"),
        notice("k", moto.name, eTag=hashlib.md5(b"newer").hexdigest()),
        notice("k", moto.name, eTag=hashlib.md5(b"older").hexdigest()),
    ]
    async with following(settings) as running:
        for number, (event, left) in enumerate(zip(events, (1, 1, 0, 0), strict=True), 1):
            await shared_broker.send(topic, [event])

            async def settled(number: int = number) -> bool:
                return await shared_broker.committed(topic, settings.kafka_group_id) == {0: number}

            await eventually(settled, running)
            assert (await status(settings))["unannounced"] == left
    assert (await running).counts.downloaded == 0


async def test_while_the_service_is_down_nothing_is_read_and_nothing_lost(
    moto: Bucket, shared_broker: Broker, service: VerifyService, topic: str, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    settings = await settings_for(moto, shared_broker, topic, tmp_path, url, verify_url=service.url)
    await shared_broker.create(topic, 1)
    objects = {f"{number}.pdf": b"%d" % number for number in range(30)}
    await moto.put(objects)
    service.fail(503, times=FOR_EVER)
    await shared_broker.send(topic, [plain(key, moto.name) for key in list(objects)[:15]])
    async with following(settings) as running:
        await eventually(lambda: service.requests >= 5, running)  # in a row: from now on there are only probes
        await eventually(lambda: committed(shared_broker, settings, 15), running)
        await shared_broker.send(topic, [plain(key, moto.name) for key in list(objects)[15:]])
        probes = service.requests
        await eventually(lambda: service.requests > probes, running)
        assert await committed(shared_broker, settings, 15)  # nothing more was read
        service.fail(503, times=0)
        await eventually(lambda: len(service.accepted) == len(objects), running)

    assert sorted(service.accepted) == sorted(objects)
    assert (await running).counts.delivered == len(objects)


async def test_a_database_that_stays_away_ends_the_run_without_a_commit(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.engine.record.patient.DATABASE_PATIENCE", 0.5)
    data = tmp_path / "catalog"
    settings = await settings_for(moto, shared_broker, topic, tmp_path, f"sqlite+aiosqlite:///{data}/catalog.db")
    await shared_broker.create(topic, 1)
    await moto.put({"a.pdf": b"a"})
    running = asyncio.create_task(run(settings, until_idle=None))
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        await eventually(lambda: newest_run(catalog), running)
        async with writing(catalog) as connection:
            await connection.exec_driver_sql("DROP TABLE events")
    await shared_broker.send(topic, [plain("a.pdf", moto.name)])

    report = await running

    assert report.exit_code == ExitCode.DATABASE
    assert await shared_broker.committed(topic, settings.kafka_group_id) == {}


async def test_the_same_letter_twice_is_one_letter(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str
) -> None:
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    await shared_broker.send(topic, [sent("k", b"poison")])
    await run(settings)
    await run(settings.model_copy(update={"kafka_group_id": "another"}))  # as after a crash before the commit
    assert len(await list_letters(settings)) == 1


async def test_due_letters_are_handed_out_once(moto: Bucket, tmp_path: Path, database_url: str) -> None:
    settings = moto.settings(tmp_path, database_url=database_url)
    await settings_for(moto, Broker(1, tmp_path / "log"), "t", tmp_path, database_url)
    now = datetime.now(UTC)
    due = now - timedelta(seconds=1)
    row = deadletters.LetterRow("t", 0, 1, None, b"\xff", (("h", b"\0"),), "waiting", "r", ({"at": "x"},), now, due)
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        await deadletters.put(catalog, source.id, [row])
        handed = [await deadletters.due(catalog, source.id, 10) for _ in range(2)]
        assert [len(rows) for rows in handed] == [1, 0]
        assert handed[0][0]._replace(id=None) == row
        assert await overview.letters(catalog, source.id) == {"waiting": 1, "dead": 0}


async def test_a_letter_of_an_earlier_topic_makes_room_for_one_at_its_place(tmp_path: Path, database_url: str) -> None:
    """A topic that is made anew begins at offset 0 again."""
    await migrate(database_url)
    now = datetime.now(UTC)
    dead = deadletters.LetterRow("t", 0, 1, None, b"old", (), "dead", "r", ({"at": "x"},), now)
    new = dead._replace(value=b"new", state="waiting", next_attempt_at=now)
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "minio.example.com:9000", "statements")
        await deadletters.put(catalog, source.id, [dead])
        await deadletters.put(catalog, source.id, [dead])  # consumed twice
        await deadletters.put(catalog, source.id, [new])
        await deadletters.put(catalog, source.id, [dead._replace(offset=2)])
        await deadletters.put(
            catalog, source.id, [new._replace(offset=2, value=b"old")]
        )  # sent once more, to the new one
        kept = await deadletters.letters(catalog, source.id)
    assert [(row.topic.partition(" ")[0], row.offset, row.value, row.state) for row in kept] == [
        ("t", 1, b"old", "dead"),
        ("t", 1, b"new", "waiting"),
        ("t", 2, b"old", "waiting"),
    ]
    assert [len(row.attempts) for row in kept] == [1, 1, 2]
    assert (kept[0].topic, kept[1].topic) == (f"t (until {now.isoformat()})", "t")
