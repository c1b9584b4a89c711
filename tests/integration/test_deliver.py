"""From the bucket by the outbox to a real FastAPI service, on both databases."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from ingest.catalog import audit
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.catalog.copies import copies_of
from ingest.catalog.schema.tables import objects as table
from ingest.demo.verify_service import VerifyService
from ingest.engine.run import Run
from ingest.engine.transfer.refetch import refetching_singly
from ingest.errors import ExitCode, ObjectChanged
from ingest.jobs.show import history, status
from ingest.model import Delivery, DeliveryState, RunStatus
from ingest.observe.report import as_json
from ingest.store.files import FileStore
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import writing
from tests.fixtures.process import until
from tests.fixtures.servers import Bucket
from tests.fixtures.verify_service import in_line, opened, run_deliver, run_sync, run_work


async def test_each_object_is_delivered_once_with_its_bytes_and_what_the_service_said_is_kept(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    objects = {f"2026/{number:03}.pdf": f"statement {number}".encode() * number for number in range(40)}
    objects['odd/"q" é; x.csv'] = b"a,b\r\n"
    objects["large.bin"] = bytes(range(256)) * 4096 * 3  # 3 MiB: streamed
    settings = await in_line(weed, service.url, objects, tmp_path / "data", database_url)
    assert service.requests == 0, "sync posts nothing itself"

    report = await run_deliver(settings)
    assert (report.exit_code, report.counts.delivered, report.counts.pending) == (0, 42, 0), report.error
    assert sorted(service.accepted) == sorted(objects)
    for taken in service.received:
        assert taken.sha256 == hashlib.sha256(objects[taken.key]).hexdigest()
        assert taken.fields["s3_path"] == f"s3://{weed.name}/{taken.key}"
        assert taken.fields["etag"] == hashlib.md5(objects[taken.key]).hexdigest()
        assert "transfer-encoding" not in taken.headers, "the length is stated"
    assert {taken.content_type for taken in service.received if taken.key.endswith(".pdf")} == {"application/pdf"}
    assert len({taken.headers["idempotency-key"] for taken in service.received}) == 42

    told = await history(settings, "2026/007.pdf")
    (one,) = told["deliveries"]
    assert (one["state"], one["response_status"], one["attempts"]) == ("delivered", 200, 1)
    assert json.loads(one["response"])["sha256"] == hashlib.sha256(objects["2026/007.pdf"]).hexdigest()
    assert [event["what"] for event in told["events"]] == ["downloaded", "delivered"]
    assert (await status(settings))["deliveries"] == {"delivered": 42}

    assert (await run_sync(settings)).counts.unchanged == 42
    again = await run_deliver(settings)
    assert (again.exit_code, again.counts.delivered, service.requests) == (0, 0, 42)
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        assert await audit.broken_links(catalog.driver) == []


async def test_a_verdict_is_recorded_and_asked_for_again_only_on_demand(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"good": b"1", "bad": b"2"}, tmp_path / "data", database_url)
    service.rejects = {"/bad": 422}
    report = await run_deliver(settings)
    assert (report.exit_code, report.status) == (ExitCode.PARTIAL, RunStatus.PARTIAL)
    assert (report.counts.delivered, report.counts.rejected, report.counts.pending) == (1, 1, 0)
    (verdict,) = (await history(settings, "bad"))["deliveries"]
    assert (verdict["state"], verdict["response_status"]) == ("rejected", 422)
    assert json.loads(verdict["response"]) == {"verified": False, "reason": "not a statement"}

    assert (await run_deliver(settings)).exit_code == 0
    assert service.requests == 2, "a verdict is not asked for twice"
    service.rejects = {}
    again = await run_deliver(settings, again=(DeliveryState.REJECTED,))
    assert (again.exit_code, again.counts.delivered) == (0, 1)


async def test_a_limit_leaves_the_rest_in_line(weed: Bucket, service: VerifyService, tmp_path: Path) -> None:
    settings = await in_line(weed, service.url, {f"k{n}": b"x" for n in range(9)}, tmp_path / "data")
    report = await run_deliver(settings, limit=4)
    assert (report.exit_code, service.requests) == (0, 4)
    summary = as_json(report)
    assert {name: summary[name] for name in ("delivered", "rejected", "pending", "dead", "failed")} == {
        "delivered": 4,
        "rejected": 0,
        "pending": 5,
        "dead": 0,
        "failed": 0,
    }


async def test_an_event_brings_its_own_fields_and_they_never_speak_for_ours(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)
    fields = {"account": "17", "näme": "a\r\nb", "etag": "forged", "file": "forged", "s3_path": "s3://other/k"}

    async def work(run: Run) -> None:
        # Another target's row, so that the first one's conflict does not hide it.
        batch = Batch(run.id, run.source.id, run.source.bucket, datetime.now(UTC), target=service.url + "?again")
        etag = (await copies_of(run.catalog, run.source.id, ["k"]))["k"].remote.etag
        batch.deliveries.append(Delivery("k", etag, fields))
        await run.catalog.commit(batch)

    assert (await run_work(settings, work)).error is None
    elsewhere = settings.model_copy(update={"verify_url": service.url + "?again"})
    assert (await run_deliver(elsewhere)).counts.delivered == 1
    (taken,) = service.received
    assert taken.fields == {
        "s3_path": f"s3://{weed.name}/k",
        "etag": hashlib.md5(b"x").hexdigest(),
        "account": "17",
        "näme": "a\r\nb",
    }


async def test_a_copy_that_is_pruned_or_damaged_is_brought_back_first(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    objects = {
        "pruned": b"1" * 3000,
        "damaged": b"2" * 3000,
        "damaged large": b"3" * (1 << 20),
        "removed": b"4",
        "gone": b"5",
    }
    settings = await in_line(weed, service.url, objects, tmp_path / "data", database_url)
    root = settings.data_dir / weed.name
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(table).where(table.c.key == "pruned").values(state="pruned"))
    (root / "pruned").unlink()
    (root / "damaged").write_bytes(b"2" * 2999 + b"!")
    (root / "damaged large").write_bytes(b"3" * ((1 << 20) - 1) + b"!")
    (root / "removed").unlink()
    (root / "gone").unlink()
    await weed.delete("gone")

    report = await run_deliver(settings)
    assert (report.counts.delivered, report.counts.dead, report.counts.restored) == (4, 1, 4), report.error
    assert report.exit_code == ExitCode.PARTIAL
    assert {taken.key: taken.sha256 for taken in service.received} == {
        key: hashlib.sha256(body).hexdigest() for key, body in objects.items() if key != "gone"
    }, "no damaged byte was ever taken"
    assert (root / "damaged").read_bytes() == objects["damaged"]
    (dead,) = (await history(settings, "gone"))["deliveries"]
    assert dead["state"] == "dead"
    assert "cannot be brought back" in dead["last_error"]


async def test_a_newer_version_takes_the_place_of_one_that_was_not_delivered_yet(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"k": b"old"}, tmp_path / "data", database_url)
    await weed.put({"k": b"newer"})
    assert (await run_sync(settings)).counts.changed == 1
    report = await run_deliver(settings)
    assert (report.exit_code, report.counts.delivered, report.counts.dead) == (0, 1, 1)
    assert [taken.sha256 for taken in service.received] == [hashlib.sha256(b"newer").hexdigest()]
    assert [one["state"] for one in (await history(settings, "k"))["deliveries"]] == ["dead", "delivered"]


async def test_two_dispatchers_at_once_deliver_nothing_twice(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    keys = {f"k{number:03}": b"x" for number in range(200)}
    settings = await in_line(weed, service.url, keys, tmp_path / "data", database_url)

    async def work(run: Run) -> None:
        async with opened(run, limit=None) as first, opened(run) as second:
            await asyncio.gather(first.run(Stop(), until_empty=True), second.run(Stop(), until_empty=True))

    report = await run_work(settings, work)
    assert (report.error, report.counts.delivered) == (None, 200)
    assert sorted(service.accepted) == sorted(keys)


async def test_a_standing_dispatcher_takes_what_comes_and_stops_cleanly(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"first": b"1"}, tmp_path / "data", database_url)

    async def work(run: Run) -> None:
        stop = Stop()
        async with opened(run) as dispatcher:
            standing = asyncio.create_task(dispatcher.run(stop, until_empty=False))
            await until(lambda: dispatcher.counts.delivered == 1)
            await weed.put({"second": b"2"})
            assert (await run_sync(settings)).counts.downloaded == 1
            dispatcher.wake()
            await until(lambda: dispatcher.counts.delivered == 2)
            assert (dispatcher.in_flight, dispatcher.paused) == (0, False)
            stop.request(signal.SIGTERM)
            await asyncio.wait_for(standing, 10)

    assert (await run_work(settings, work)).error is None
    assert service.accepted == ["first", "second"]


async def test_a_version_that_comes_back_after_it_was_superseded_is_delivered(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    settings = await in_line(weed, service.url, {"k": b"A"}, tmp_path / "data", database_url)
    for body in (b"B", b"A"):
        await weed.put({"k": body})
        assert (await run_sync(settings)).counts.changed == 1
        assert (await run_deliver(settings)).counts.delivered == 1
    assert [taken.sha256 for taken in service.received] == [hashlib.sha256(body).hexdigest() for body in (b"B", b"A")]
    assert (await run_deliver(settings)).counts.delivered == 0


async def test_two_may_want_one_copy_brought_back_at_once(
    weed: Bucket, service: VerifyService, tmp_path: Path, database_url: str
) -> None:
    """Each is told of it, and whoever wants another version than the recorded one is told that."""
    settings = await in_line(weed, service.url, {"k": b"x"}, tmp_path / "data", database_url)
    (settings.data_dir / weed.name / "k").unlink()
    etag = hashlib.md5(b"x").hexdigest()

    async def work(run: Run) -> None:
        with closing(FileStore(settings.data_dir, weed.name)) as store:
            async with refetching_singly(run, store) as recall, asyncio.timeout(30):
                copies = await asyncio.gather(*(recall("k", etag) for _ in range(3)))
                assert {copy.digest for copy in copies} == {f"md5:{etag}"}
                with pytest.raises(ObjectChanged):
                    await recall("k", hashlib.md5(b"older").hexdigest())

    assert (await run_work(settings, work)).error is None
    assert (settings.data_dir / weed.name / "k").read_bytes() == b"x"
