"""The outbox on both engines: in line once, in one pair of hands at a time, settled once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from ingest.catalog import audit, in_line, outbox
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.catalog.outbox import LEASE, Claimed, Outbox, Settlement
from ingest.catalog.pruning import UNDELIVERED
from ingest.catalog.schema.tables import deliveries
from ingest.model import SUPERSEDED, Delivery, DeliveryState, LocalCopy, RemoteObject, Shard, Verified
from ingest.plan.resuming import Cursor
from tests.fixtures.catalogs import reading, source_of, start_run, writing
from tests.fixtures.databases import migrate

TARGET = "https://verify.example.com/v1/verify"
THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def catalog(database_url: str) -> AsyncIterator[Catalog]:
    await migrate(database_url)
    async with Catalog.open(database_url) as opened:
        await source_of(opened, "minio.example.com:9000", "statements")
        await start_run(opened, "deliver", {}, 1)
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
    async with reading(catalog) as connection:
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
        _, events = await story(catalog, 1, key)
        what[key] = [event["what"] for event in events]
    assert what == {"delivered": ["delivered"], "rejected": ["rejected"], "dead": ["undeliverable"], "again": []}
    assert await audit.broken_links(catalog.driver) == []
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
    async with writing(catalog) as connection:
        await connection.execute(update(deliveries).values(claimed_until=datetime.now(UTC) - timedelta(seconds=1)))
    (taken,) = await next_one.claim(10)
    assert await slow.settle([Settlement(claimed, DeliveryState.DELIVERED, 200)]) == []
    assert len(await next_one.settle([Settlement(taken, DeliveryState.DELIVERED, 200)])) == 1


async def test_a_renewed_lease_holds(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k"))
    ours = box(catalog)
    (claimed,) = await ours.claim(10)
    async with writing(catalog) as connection:
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
    waiting = f"SELECT key FROM objects WHERE key {{among}} AND {UNDELIVERED}"
    settled = f"SELECT key FROM objects WHERE state = 'present' AND NOT {UNDELIVERED}"
    found = await catalog.driver.fetch(waiting, catalog.driver.dialect.listed(asked), True)
    assert {key for (key,) in found} == {"waits", "dead", "changed"}
    assert {key for (key,) in await catalog.driver.fetch(settled, True)} == {"delivered", "never asked for"}


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


EARLIER = "https://earlier.example.com/v1/verify"


async def taken_over_in_hand(catalog: Catalog, *keys: str) -> tuple[Outbox, list[Claimed]]:
    """A dispatcher of the earlier address has claimed what another one then takes over."""
    batch = a_batch(*keys)
    batch.target = EARLIER
    await catalog.commit(batch)
    earlier = box(catalog, EARLIER)
    claimed = await earlier.claim(10)
    assert await box(catalog).take_over() == len(keys)
    assert await box(catalog).claim(10) == [], "they are under way"
    return earlier, claimed


async def test_what_an_earlier_address_takes_while_it_is_taken_over_is_recorded_there(catalog: Catalog) -> None:
    earlier, claimed = await taken_over_in_hand(catalog, "k", "twice")
    again = a_batch("twice")
    again.target = EARLIER
    await catalog.commit(again)
    assert len(await earlier.settle([Settlement(one, DeliveryState.DELIVERED, 200) for one in claimed])) == 2
    assert [(row["key"], row["target"], row["state"]) for row in await rows(catalog)] == [
        ("k", EARLIER, "delivered"),
        ("twice", EARLIER, "delivered"),
    ]
    assert await box(catalog).take_over() == 0


async def test_what_an_earlier_address_does_not_take_is_the_new_ones(catalog: Catalog) -> None:
    earlier, claimed = await taken_over_in_hand(catalog, "busy", "rejected", "unused", "dead")
    results: dict[str, dict[str, Any]] = {
        "busy": {"state": DeliveryState.PENDING, "status": 503, "pause": 60.0, "blamed": True},
        "rejected": {"state": DeliveryState.REJECTED, "status": 404, "blamed": True},
        "unused": {"state": DeliveryState.PENDING},
        "dead": {"state": DeliveryState.DEAD, "error": "its copy is missing or damaged"},
    }
    await earlier.settle([Settlement(one, **results[one.key]) for one in claimed])
    ours = box(catalog)
    again = await ours.claim(10)
    assert {(one.key, one.attempts, one.answered) for one in again} == {(key, 0, None) for key in results}
    await ours.settle([Settlement(one, DeliveryState.DELIVERED, 200) for one in again])
    assert {(row["target"], row["state"]) for row in await rows(catalog)} == {(TARGET, "delivered")}


async def test_what_is_under_way_to_one_address_is_not_dropped_for_another(catalog: Catalog) -> None:
    batch = a_batch("k")
    batch.target = EARLIER
    await catalog.commit(batch)
    await catalog.commit(a_batch("k"))
    earlier = box(catalog, EARLIER)
    claimed = await earlier.claim(1)
    assert await box(catalog).take_over() == 0
    assert len(await earlier.settle([Settlement(claimed[0], DeliveryState.DELIVERED, 200)])) == 1
    assert [(row["target"], row["state"]) for row in await rows(catalog)] == [
        (EARLIER, "delivered"),
        (TARGET, "pending"),
    ]


async def test_a_version_is_superseded_only_while_another_one_is_recorded(catalog: Catalog) -> None:
    await catalog.commit(a_batch("back", "changed"))
    plain = a_batch("back", "changed", etag="e2")
    plain.deliveries.clear()
    await catalog.commit(plain)
    ours = box(catalog)
    claimed = [one for one in await ours.claim(10) if one.etag == "e1"]
    await catalog.commit(a_batch("back"))
    settled = await ours.settle([Settlement(one, DeliveryState.DEAD, error=SUPERSEDED) for one in claimed])
    assert {(one.claimed.key, one.state) for one in settled} == {
        ("back", DeliveryState.PENDING),
        ("changed", DeliveryState.DEAD),
    }
    found = {(row["key"], row["etag"]): row["state"] for row in await rows(catalog)}
    assert found[("back", "e1")] == "pending"
    assert found[("changed", "e1")] == "dead"
    assert found[("changed", "e2")] == "pending"


async def test_one_that_was_put_in_line_too_late_gives_its_place_to_the_version_that_is_recorded(
    catalog: Catalog,
) -> None:
    """An event's consumer had read the row before another run recorded a newer version."""
    late = a_batch("k", fields={"account": "17"})
    newer = a_batch("k", etag="e2")
    newer.deliveries.clear()
    await catalog.commit(newer)
    late.present.clear()
    await catalog.commit(late)
    ours = box(catalog)
    (claimed,) = await ours.claim(10)
    await ours.settle([Settlement(claimed, DeliveryState.DEAD, error=SUPERSEDED)])
    (then,) = await ours.claim(10)
    assert (then.etag, then.fields) == ("e2", {"account": "17"})


async def test_versions_of_one_object_are_under_way_one_after_the_other(catalog: Catalog) -> None:
    await catalog.commit(a_batch("k", "other"))
    ours, another = box(catalog), box(catalog)
    held = await ours.claim(10)
    assert {one.key for one in held} == {"k", "other"}
    await catalog.commit(a_batch("k", etag="e2"))
    assert await another.claim(10) == []
    assert await another.due_in() is None, "it is another's to end"
    await ours.settle([Settlement(one, DeliveryState.DELIVERED, 200) for one in held])
    assert [(one.key, one.etag) for one in await another.claim(10)] == [("k", "e2")]


async def test_what_died_is_due_again_where_its_version_is_taken_again(catalog: Catalog) -> None:
    """Not where it was only announced again, nor where another address has taken it."""
    elsewhere = a_batch("taken elsewhere")
    elsewhere.target = EARLIER
    await catalog.commit(elsewhere)
    await catalog.commit(a_batch("asked", "plain", "announced", "taken elsewhere"))
    ours, earlier = box(catalog), box(catalog, EARLIER)
    await ours.settle([Settlement(one, DeliveryState.DEAD, error="given up") for one in await ours.claim(10)])
    await earlier.settle([Settlement(one, DeliveryState.DELIVERED, 200) for one in await earlier.claim(10)])
    await catalog.commit(a_batch("asked"))
    plain, announced = a_batch("plain", "taken elsewhere"), a_batch("announced")
    plain.deliveries.clear()
    announced.present.clear()
    for batch in (plain, announced):
        await catalog.commit(batch)
    assert {one.key for one in await ours.claim(10)} == {"asked", "plain"}


async def test_what_a_wrong_clock_put_off_or_claimed_waits_no_longer_than_a_pause_or_a_lease(catalog: Catalog) -> None:
    ahead = a_batch("made ahead")
    ahead.at += timedelta(days=40)
    await catalog.commit(ahead)
    assert [one.key for one in await box(catalog).claim(10)] == ["made ahead"], "the database's clock counts"
    await catalog.commit(a_batch("put off", "soon", "claimed"))
    now = datetime.now(UTC)
    values: dict[str, dict[str, Any]] = {
        "put off": {"next_attempt_at": now + timedelta(days=40)},
        "soon": {"next_attempt_at": now + timedelta(hours=5)},
        "claimed": {"claimed_by": "another-host:1:0:1", "claimed_until": now + timedelta(days=40)},
    }
    async with writing(catalog) as connection:
        for key, value in values.items():
            await connection.execute(update(deliveries).where(deliveries.c.key == key).values(value))
    ours = box(catalog)
    assert await ours.take_back() == 0
    assert [one.key for one in await ours.claim(10)] == ["put off"], (
        "what is put off for hours was put off by a service"
    )
    (until,) = [row["claimed_until"] for row in await rows(catalog) if row["key"] == "claimed"]
    assert isinstance(until, datetime)
    assert until <= datetime.now(UTC) + LEASE


async def test_claims_and_pauses_go_by_the_databases_clock(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is an hour ahead neither takes what others hold, nor keeps for an hour what it took."""
    await catalog.commit(a_batch("k"))
    there = box(catalog)
    (claimed,) = await there.claim(10)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    with monkeypatch.context() as patched:
        patched.setattr("ingest.catalog.outbox.datetime", Ahead)
        here = box(catalog)
        assert await here.claim(10) == []
        await there.settle([Settlement(claimed, DeliveryState.PENDING, 503, pause=5.0, blamed=True)])
        due = await here.due_in()
    assert due is not None
    assert due <= 5.0


async def test_what_concerns_one_key_is_looked_up_by_it(tmp_path: Path) -> None:
    """SQLite does not know how many rows wait: by their state it would read them all, for each key anew."""
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    await migrate(url)
    async with Catalog.open(url) as catalog:
        for sql, values in ((outbox._DUE, (1, TARGET, 9)), (in_line._OF_KEYS, (1, "[]"))):
            plan = await catalog.driver.fetch(f"EXPLAIN QUERY PLAN {sql}", *values)
            assert [step for *_, step in plan if "(source_id=? AND key=?" in step], plan
