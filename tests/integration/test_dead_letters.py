"""What was given up: on record before anything else, written to its topic when that takes it, and bounded in every way."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import audit, deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow
from ingest.demo.broker import Broker
from ingest.engine.options import CleanupOptions, LetterOptions
from ingest.errors import ExitCode, RowNotFound
from ingest.events.retry_queue import RetryQueue
from ingest.jobs import deadletters as jobs
from ingest.jobs.cleanup import cleanup
from ingest.jobs.show import status
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.faults import stall
from ingest.testing.memory_s3 import Fault, MemoryS3, serving
from tests.fixtures.catalogs import source_of
from tests.fixtures.door import Door, door_to
from tests.fixtures.events import eventually, list_letters, plain, row_of, run, sent, settings_for
from tests.fixtures.kafka_listener import Listener, standing_before
from tests.fixtures.lines import lines_said
from tests.fixtures.servers import Bucket

NOT_ENOUGH_REPLICAS = 19


async def test_a_topic_of_dead_letters_that_takes_nothing_holds_nothing_up(
    inner: Broker, moto: Bucket, topic: str, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog has them first, with a mark; so has SIGTERM its end."""
    monkeypatch.setattr("ingest.jobs.consume.PUBLISH_SECONDS", 0.05)
    monkeypatch.setattr("ingest.broker.kafka._ANSWER_SECONDS", 0.5)
    listener = Listener(inner.advertised or 0, inner.port)
    await moto.put({"a.pdf": b"a", "b.pdf": b"b"})
    async with standing_before(listener):
        outer = Broker(listener.port, tmp_path / "log")
        settings = await settings_for(moto, outer, topic, tmp_path, database_url)
        await outer.create(topic, 1)
        await outer.create(settings.kafka_dead_letter_topic, 1)
        await outer.send(topic, [plain("a.pdf", moto.name), sent("k", b"poison"), plain("b.pdf", moto.name)])
        listener.refuses_messages = NOT_ENOUGH_REPLICAS
        stop = Stop()
        running = asyncio.create_task(run(settings, stop, until_idle=None))

        async def all_committed() -> bool:
            return await outer.committed(topic, settings.kafka_group_id) == {0: 3}

        await eventually(all_committed, running)
        stop.request(signal.SIGTERM)
        report = await running
        assert (report.exit_code, report.counts.downloaded) == (ExitCode.TERMINATED, 2)
        assert (report.notes["dead_letters"], report.notes["unpublished"]) == (1, 1)
        assert (await status(settings))["unpublished_letters"] == 1
        assert [letter["unpublished"] for letter in await list_letters(settings)] == [True]

        listener.refuses_messages = 0
        assert (await run(settings)).notes["unpublished"] == 0
        await run(settings)
        assert [dead.value for dead in await outer.read(settings.kafka_dead_letter_topic)] == [b"poison"]
    assert (await status(settings))["unpublished_letters"] == 0
    assert [letter["unpublished"] for letter in await list_letters(settings)] == [False]


async def test_a_flood_of_poison_takes_bounded_batches_and_bounded_memory(
    moto: Bucket, shared_broker: Broker, topic: str, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"MOST_IN_FLIGHT": 60, "_POLL_MESSAGES": 20, "MOST_BYTES_IN_FLIGHT": 50_000}.items():
        monkeypatch.setattr(f"ingest.jobs.consume.{name}", value)
    monkeypatch.setattr(deadletters, "AT_ONCE", 25)
    monkeypatch.setattr("ingest.events.retry_queue._BYTES_AT_ONCE", 15_000)
    put, change, batches, held = deadletters.put, RetryQueue._change, [], []

    async def putting(catalog: Catalog, source_id: int, rows: Sequence[LetterRow], settled: Sequence[int] = ()) -> None:
        batches.append((len(rows), sum(row.size for row in rows)))
        await put(catalog, source_id, rows, settled)

    def changing(box: RetryQueue, *changes: Any) -> None:
        change(box, *changes)
        held.append((box.under_way, box.bytes_under_way))

    monkeypatch.setattr(deadletters, "put", putting)
    monkeypatch.setattr(RetryQueue, "_change", changing)
    settings = await settings_for(moto, shared_broker, topic, tmp_path, database_url)
    await shared_broker.create(topic, 1)
    poison = [b"?" * size for size in [1] * 200 + [1_000] * 100 + [20_000, 1]]
    await shared_broker.send(topic, [(b"k", value, ()) for value in poison])
    with lines_said() as lines:
        report = await run(settings)
    assert (report.notes["dead_letters"], report.notes["unpublished"]) == (len(poison), 0)
    assert max(number for number, _ in batches) == 25
    assert max(size for _, size in batches) == 20_001  # one that is larger than all that is allowed goes by itself
    assert max(number for number, _ in held) <= 60
    assert max(size for _, size in held) < 50_000 + 20 * 1_000 + 20_000
    assert sorted(dead.value for dead in await shared_broker.read(f"{topic}.dead")) == sorted(poison)
    said = [line for line in lines if line["event"] == "message_dead"]
    more = [line for line in lines if line.get("of") == "message_dead"]
    assert (len(said), sum(line["count"] for line in more)) == (20, len(poison) - 20)
    assert all("not_json: " in line["message"] for line in more)


def a_letter(number: int, **said: Any) -> LetterRow:
    attempt = {"at": "2026-01-01T00:00:00+00:00", "error": "poison", "message": "it is none"}
    row = LetterRow("t", 0, number, None, b"x" * 100, (), "dead", "not_json", (attempt,), datetime.now(UTC))
    return row._replace(**said)


async def kept(settings: Settings, rows: Sequence[LetterRow]) -> None:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        for start in range(0, len(rows), 5_000):
            await deadletters.put(catalog, source.id, rows[start : start + 5_000])


async def test_letters_are_listed_in_pages(
    moto: Bucket, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = await settings_for(moto, Broker(1, tmp_path / "log"), "t", tmp_path, database_url)
    monkeypatch.setattr(deadletters, "BYTES_AT_ONCE", 3 * 136)  # of base64 for 100 bytes
    await kept(settings, [a_letter(number) for number in range(10)])
    pages, letters = [], deadletters.letters

    async def reading(*arguments: Any, **told: Any) -> list[LetterRow]:
        pages.append(len(rows := await letters(*arguments, **told)))
        return rows

    monkeypatch.setattr(deadletters, "letters", reading)
    found = await list_letters(settings)
    assert ([letter["offset"] for letter in found], pages) == ([*range(10)], [3, 3, 3, 1, 0])
    assert {letter["message"] for letter in found} == {"x" * 100}
    some = jobs.letters(settings, after=found[3]["id"], limit=5, begun=True)
    assert [(letter["offset"], len(letter["message"])) async for letter in some] == [(at, 90) for at in range(4, 9)]


async def discard(settings: Settings, ids: Sequence[int] | None = None, **told: Any) -> RunReport:
    return await jobs.discard_letters(settings, LetterOptions(ids, **told))


async def test_letters_are_discarded_by_what_they_are(
    moto: Bucket, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "AT_ONCE", 3)
    settings = await settings_for(moto, Broker(1, tmp_path / "log"), "t", tmp_path, database_url)
    rows = [a_letter(number) for number in range(8)]
    rows += [a_letter(8, reason="empty", key="a.pdf"), a_letter(9, first_at=datetime(2025, 1, 1, tzinfo=UTC))]
    rows += [a_letter(10, state="waiting", next_attempt_at=datetime.now(UTC) + timedelta(minutes=1))]
    await kept(settings, rows)

    async def left() -> list[int]:
        return [letter["offset"] for letter in await list_letters(settings)]

    assert (await discard(settings, reason="empty", dry_run=True)).notes["discarded"] == 1
    assert (await discard(settings, reason="empty")).notes["discarded"] == 1
    assert (await row_of(settings, "a.pdf"))[1] == ["discarded"]
    assert (await discard(settings, older_than=timedelta(days=30))).notes["discarded"] == 1
    assert await left() == [*range(8), 10]
    one = (await list_letters(settings))[1]["id"]
    assert (await discard(settings, [one], reason="another")).notes["discarded"] == 0
    assert (await discard(settings, [one], older_than=timedelta(days=30_000))).notes["discarded"] == 0
    assert (await discard(settings, [one])).notes["discarded"] == 1
    unknown = await discard(settings, [one])
    assert (unknown.exit_code, isinstance(unknown.error, RowNotFound)) == (ExitCode.FAILED, True)
    assert (await discard(settings)).notes["discarded"] == 7
    (waiting,) = await list_letters(settings)  # it was not given up; by its name it goes as well
    assert (await discard(settings, [waiting["id"]])).notes["discarded"] == 1
    assert await left() == []
    assert await check_chain(settings) == []


async def check_chain(settings: Settings) -> list[int]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        return await audit.broken_links(catalog.driver)


async def test_more_letters_than_a_statement_takes_arguments(moto: Bucket, tmp_path: Path, database_url: str) -> None:
    """PostgreSQL's protocol counts them in two bytes."""
    settings = await settings_for(moto, Broker(1, tmp_path / "log"), "t", tmp_path, database_url)
    many = [a_letter(number, value=None) for number in range(33_000)]
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        await deadletters.put(catalog, source.id, many)
        ids = [*range(1, 33_001)]
        assert await deadletters.missing(catalog, source.id, [*ids, 33_001]) == [33_001]
        await deadletters.put(catalog, source.id, [], ids)
        assert await deadletters.highest(catalog, source.id) == 0


async def retry(settings: Settings, stop: Stop | None = None) -> RunReport:
    return await jobs.retry_letters(settings, LetterOptions(None), stop=stop)


async def given_up(
    server: MemoryS3, tmp_path: Path, number: int, url: str = "", through: Door | None = None
) -> Settings:
    """Letters about objects that are there by now."""
    keys = [f"{one}.pdf" for one in range(number)]
    server.fill(dict.fromkeys(keys, b"1"))
    nobody, catalog = Broker(1, tmp_path / "log"), url or f"sqlite+aiosqlite:///{tmp_path}/c.db"
    settings = await settings_for(server.bucket, nobody, "t", tmp_path / "data", catalog)
    if through is not None:
        settings = settings.replace(endpoint=through.endpoint)
    values = [plain(key, server.bucket.name)[1] for key in keys]
    await kept(
        settings, [a_letter(at, value=value, key=key) for at, (key, value) in enumerate(zip(keys, values, strict=True))]
    )
    return settings


async def tries(settings: Settings) -> list[int]:
    return [len(letter["attempts"]) for letter in await list_letters(settings)]


async def test_letters_are_retried_in_pages_and_each_once(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails again is not tried again by the same command, however many pages there are."""
    monkeypatch.setattr(deadletters, "BYTES_AT_ONCE", 100)
    async with serving(MemoryS3()) as server:
        settings = await given_up(server, tmp_path, 7, database_url)
        del server.objects["2.pdf"], server.objects["5.pdf"]
        report = await retry(settings)
    assert report.exit_code == ExitCode.PARTIAL
    assert (report.notes["retried"], report.notes["settled"], report.notes["dead_letters"]) == (7, 5, 2)
    assert [(letter["key"], letter["reason"]) for letter in await list_letters(settings)] == [
        ("2.pdf", "no_such_key"),
        ("5.pdf", "no_such_key"),
    ]
    assert await tries(settings) == [2, 2]


async def test_a_retry_ends_at_once_while_the_bucket_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.jobs.deadletters.GRACE", 0.1)
    async with serving(MemoryS3()) as server:
        settings = await given_up(server, tmp_path, 2)
        server.faults = [Fault(operation, stall) for operation in ("head", "get")]
        stop = Stop()
        running = asyncio.create_task(retry(settings, stop))
        await eventually(lambda: server.asked, running)
        stop.request(signal.SIGTERM)
        report = await running
    assert (report.exit_code, report.notes["settled"]) == (ExitCode.TERMINATED, 0)
    assert await tries(settings) == [1, 1]


async def test_a_retry_says_that_the_bucket_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any run: 4, and no letter has one more attempt against it."""
    monkeypatch.setattr("ingest.events.handler._UNPROVEN_SECONDS", 0.5)
    async with serving(MemoryS3()) as server, door_to(server.bucket.endpoint) as door:
        settings = await given_up(server, tmp_path, 3, through=door)
        await door.shut()
        report = await retry(settings)
        assert (report.exit_code, report.notes["settled"]) == (ExitCode.SOURCE, 0)
        assert await tries(settings) == [1, 1, 1]
        await door.open()
        assert (await retry(settings)).exit_code == ExitCode.OK


async def test_cleanup_removes_what_was_given_up_long_ago(tmp_path: Path, database_url: str) -> None:
    async with serving(MemoryS3()) as server:
        settings = await given_up(server, tmp_path, 1, database_url)
        old = datetime.now(UTC) - timedelta(days=40)
        waiting = {"state": "waiting", "next_attempt_at": datetime.now(UTC)}
        await kept(settings, [a_letter(7, first_at=old), a_letter(8, first_at=old, **waiting)])
        settings = settings.model_copy(update={"keep_letters": timedelta(days=30)})
        for dry_run, left in ((True, [0, 7, 8]), (False, [0, 8])):
            report = await cleanup(settings, CleanupOptions(dry_run=dry_run), progress=Silence(), stop=Stop())
            assert report.notes["trimmed_letters"] == 1
            assert [letter["offset"] for letter in await list_letters(settings)] == left
