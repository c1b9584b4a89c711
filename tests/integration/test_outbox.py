"""The outbox on both engines: in line once, in one pair of hands at a time, settled once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from ingest.catalog import outbox, queries, schema
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import undelivered
from ingest.catalog.outbox import Outbox, Settlement
from ingest.catalog.tables import deliveries, objects
from ingest.model import Delivery, DeliveryState, LocalCopy, RemoteObject, Shard, State, Verified
from ingest.plan.resuming import Cursor

TARGET = "https://verify.example.com/v1/verify"
THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    await schema.upgrade(database_url)
    async with Catalog.open(database_url) as opened:
        await opened.source("minio.example.com:9000", "statements")
        await opened.start_run("deliver", {}, 1)
        yield opened


def a_batch(*keys: str, etag: str = "e1", fields: dict[str, str] | None = None) -> Batch:
    batch = Batch(1, 1, "statements", datetime.now(UTC), target=TARGET)
    for key in keys:
        copy = LocalCopy(f"statements/{key}", "md5:00", Verified.VERIFIED, 3)
        batch.present.append((RemoteObject(key, 3, etag, THEN), copy))
        batch.deliveries.append(Delivery(key, etag, fields or {}))
    return batch


def box(catalog: Catalog, target: str = TARGET) -> Outbox:
    return Outbox(catalog, 1, target, 1)


async def rows(catalog: Catalog) -> list[dict[str, object]]:
    async with catalog.reading() as connection:
        found = await connection.execute(select(deliveries).order_by(deliveries.c.id))
        return [dict(row._mapping) for row in found]


async def test_a_version_stands_in_line_once_with_its_fields_and_its_object(catalog: Catalog) -> None:
    fields = {"account": "17", "näme": "\r\n\"'"}
    await catalog.commit(a_batch("k", fields=fields))
    await catalog.commit(a_batch("k"))  # a duplicate event
    await catalog.commit(a_batch("k", etag="e2"))
    claimed = await box(catalog).claim(10)
    assert [(one.key, one.etag, one.fields) for one in claimed] == [("k", "e1", fields), ("k", "e2", fields)]
    assert {(one.object_etag, one.object_state, one.size, one.local_path) for one in claimed} == {
        ("e2", "present", 3, "statements/k")
    }


async def test_a_failed_transaction_leaves_neither_object_nor_delivery(catalog: Catalog) -> None:
    batch = a_batch("k")
    batch.run_id = 99  # no such run
    batch.cursors.append(Cursor(Shard(), "", False))
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        await catalog.commit(batch)
    assert await rows(catalog) == []
    assert await catalog.rows_for(1, ["k"]) == {}


async def test_two_dispatchers_never_hold_one_row(catalog: Catalog) -> None:
    keys = [f"k{number:03}" for number in range(120)]
    await catalog.commit(a_batch(*keys))
    boxes = [box(catalog) for _ in range(4)]
    taken = await asyncio.gather(*(one.claim(20) for one in boxes for _ in range(2)))
    held = [claim.key for claims in taken for claim in claims]
    assert sorted(held) == sorted(set(held))
    while claims := await boxes[0].claim(50):  # nothing was skipped for good
        held += [claim.key for claim in claims]
    assert sorted(held) == keys


async def test_a_claim_is_for_its_own_target_only(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    assert await box(catalog, "https://other.example.com/").claim(10) == []


async def test_results_are_recorded_once_with_their_audit_events(catalog: Catalog) -> None:
    await catalog.commit(a_batch("delivered", "rejected", "dead", "again"))
    ours = box(catalog)
    claimed = {one.key: one for one in await ours.claim(10)}
    settlements = [
        Settlement(claimed["delivered"], DeliveryState.DELIVERED, 200, '{"ok": true}', blamed=True),
        Settlement(claimed["rejected"], DeliveryState.REJECTED, 422, '{"ok": false}', blamed=True),
        Settlement(claimed["dead"], DeliveryState.DEAD, error="the copy is gone"),
        Settlement(claimed["again"], DeliveryState.PENDING, 503, "busy", error="503", pause=60.0, blamed=True),
    ]
    assert len(await ours.settle(settlements)) == 4
    assert await ours.settle(settlements) == [], "a second record of the same result is none"
    found = {str(row["key"]): row for row in await rows(catalog)}
    assert {key: (row["state"], row["response_status"], row["attempts"]) for key, row in found.items()} == {
        "delivered": ("delivered", 200, 1),
        "rejected": ("rejected", 422, 1),
        "dead": ("dead", None, 0),
        "again": ("pending", 503, 1),
    }
    assert found["delivered"]["response"] == '{"ok": true}'
    assert isinstance(found["delivered"]["delivered_at"], datetime)
    assert {row["claimed_by"] for row in found.values()} == {None}
    assert await outbox.totals(catalog, 1) == {"delivered": 1, "rejected": 1, "dead": 1, "pending": 1}
    what = {}
    for key in found:
        _, events = await queries.story(catalog, 1, key)
        what[key] = [event["what"] for event in events]
    assert what == {"delivered": ["delivered"], "rejected": ["rejected"], "dead": ["undeliverable"], "again": []}
    assert await queries.check_chain(catalog) == []
    assert await ours.claim(10) == [], "the one to try again is not due yet"
    due = await ours.due_in()
    assert due is not None
    assert 0 < due <= 60


async def test_what_is_given_back_is_due_at_once_and_nothing_counts_against_it(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    ours = box(catalog)
    (claimed,) = await ours.claim(10)
    await ours.settle([Settlement(claimed, DeliveryState.PENDING)])
    (again,) = await box(catalog).claim(10)
    assert again.attempts == 0


async def test_a_lease_that_ran_out_goes_to_the_next_and_the_first_settles_nothing(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    slow, next_one = box(catalog), box(catalog)
    (claimed,) = await slow.claim(10)
    async with catalog.writing() as connection:
        await connection.execute(update(deliveries).values(claimed_until=datetime.now(UTC) - timedelta(seconds=1)))
    (taken,) = await next_one.claim(10)
    assert await slow.settle([Settlement(claimed, DeliveryState.DELIVERED, 200)]) == []
    assert len(await next_one.settle([Settlement(taken, DeliveryState.DELIVERED, 200)])) == 1


async def test_a_renewed_lease_holds(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    ours = box(catalog)
    (claimed,) = await ours.claim(10)
    async with catalog.writing() as connection:
        await connection.execute(update(deliveries).values(claimed_until=datetime.now(UTC) - timedelta(seconds=1)))
    await ours.renew([claimed.id])
    assert await box(catalog).claim(10) == []


async def test_the_rows_of_a_killed_process_come_back_at_once_and_those_of_a_living_one_do_not(
    catalog: Catalog,
) -> None:
    await catalog.commit(a_batch("dead", "living", "elsewhere"))
    host = box(catalog).owner.rsplit(":", 3)[0]
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    dead = Outbox(catalog, 1, TARGET, 1, owner=f"{host}:{process.pid}:0:1")
    living = Outbox(catalog, 1, TARGET, 1, owner=f"{host}:1:0:1")
    elsewhere = Outbox(catalog, 1, TARGET, 1, owner="another-host:1:0:1")
    for one in (dead, living, elsewhere):
        assert len(await one.claim(1)) == 1
    assert await box(catalog).take_back() == 1
    assert [one.key for one in await box(catalog).claim(10)] == ["dead"]


async def test_what_is_reopened_starts_anew(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    ours = box(catalog)
    (claimed,) = await ours.claim(10)
    await ours.settle([Settlement(claimed, DeliveryState.REJECTED, 422, blamed=True)])
    assert await ours.reopen([DeliveryState.DEAD]) == 0
    assert await ours.reopen([DeliveryState.REJECTED, DeliveryState.DEAD]) == 1
    (again,) = await ours.claim(10)
    assert again.attempts == 0


async def test_cleanup_is_told_what_still_waits_in_the_version_that_is_recorded(catalog: Catalog) -> None:
    await catalog.commit(a_batch("waits", "delivered", "changed", "dead"))
    plain = a_batch("changed", "never asked for", etag="e2")
    plain.deliveries.clear()
    await catalog.commit(plain)
    ours = box(catalog)
    claimed = {one.key: one for one in await ours.claim(10)}
    await ours.settle([Settlement(claimed["delivered"], DeliveryState.DELIVERED, 200)])
    await ours.settle([Settlement(claimed["dead"], DeliveryState.DEAD)])
    asked = ["waits", "dead", "delivered", "changed", "never asked for", "unknown"]
    waiting = select(objects.c.key).where(objects.c.key.in_(asked), undelivered())
    query = select(objects.c.key).where(objects.c.state == State.PRESENT.value, ~undelivered())
    async with catalog.reading() as connection:
        assert set((await connection.execute(waiting)).scalars()) == {"waits", "dead", "changed"}
        found = set((await connection.execute(query)).scalars())
    assert found == {"delivered", "never asked for"}


async def test_what_waits_for_an_earlier_address_is_taken_over_once(catalog: Catalog) -> None:
    for target in ("https://first.example.com/", "https://second.example.com/", TARGET):
        batch = a_batch("in both", *(["earlier"] if target != TARGET else []))
        batch.target = target
        await catalog.commit(batch)
    ours = box(catalog)
    assert await ours.elsewhere() == {DeliveryState.PENDING: 4}
    assert await ours.take_over() == 1, "of two earlier addresses one speaks, and what is ours already stays"
    assert {one.key for one in await ours.claim(10)} == {"in both", "earlier"}
    assert await ours.elsewhere() == {}
    assert await outbox.totals(catalog, 1) == {"pending": 2}
