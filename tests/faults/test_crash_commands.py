"""Killed in the middle of a repair, of a hold, of a delivery or of a message, and run again: as if never killed.

What a service or a topic was told cannot be taken back: there it may be told the same once more, and never not at all.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import dead_letters, deliveries, holds
from ingest.demo.broker import Broker, Sent
from ingest.demo.verify_service import VerifyService
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.commands import Commands
from tests.faults.databases import Template, copy_of
from tests.faults.invariants import Seen, look
from tests.fixtures.catalogs import reading
from tests.fixtures.events import plain

OBJECTS = {f"d/{number}": b"%d" % number * 50 for number in range(4)} | {"rejected": b"r"}
BATCH = ("batch.barrier-passed", "batch.renamed:2", "batch.rows-written", "batch.committed")
ARMED: dict[str, tuple[str, ...]] = {
    "repair": ("verify.noted", "restore.submitted:2", "restore.downloaded", "staging.written:2", *BATCH, "run.worked"),
    "hold": ("hold.recorded", "hold.marked", "hold.written"),
    "hold-prefix": ("hold.recorded", "hold.written"),
    "release": ("release.deleted", "release.marked", "release.written"),
    "deliver": (
        "outbox.claiming", "outbox.claimed", "delivery.answered:2", "outbox.settling", "outbox.audited",
        "outbox.settled", "run.worked",
    ),
    "consume": (
        "batch.renamed:2", "batch.rows-written", "batch.committed", "letters.kept", "letters.published",
        "offsets.committing", "offsets.committed", "outbox.claimed", "delivery.answered", "outbox.settled",
    ),
}  # fmt: skip
"""Command -> where its process is killed."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "repair": ("verify", "--repair"),
    "hold": ("hold", "add", "d/1", "d/2", "--reason", "audit"),
    "hold-prefix": ("hold", "add", "--prefix", "d/", "--reason", "audit"),
    "release": ("hold", "remove", "d/1", "d/2"),
    "deliver": ("deliver",),
    "consume": ("consume", "--until-idle", "1s", "--patience", "0s"),
}


class Rig(Commands):
    def killed(self, scenario: str, order: str) -> None:
        assert self.run(*COMMANDS[scenario], INGEST_CRASH_AT=order) == -signal.SIGKILL

    async def look(self) -> Seen:
        seen = await look(self.settings)
        assert seen.broken_links == []
        return seen

    async def rows(self, table: Any, *columns: str) -> list[tuple[Any, ...]]:
        async with Catalog.open(self.url) as catalog, reading(catalog) as connection:
            found = await connection.execute(select(*(table.c[name] for name in columns)))
            return sorted(map(tuple, found), key=lambda row: [(value is not None, value) for value in row])


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, empty_databases: dict[str, Template], tmp_path: Path) -> str:
    return await copy_of(empty_databases[request.param], tmp_path / "catalog.db")


@pytest.fixture
def rig(empty: str, tmp_path: Path) -> Iterator[Rig]:
    """A bucket with objects, and nothing here yet."""
    with running(MemoryS3()) as server:
        for key, body in OBJECTS.items():
            server.put(key, body)
        yield Rig(server, tmp_path / "data", empty)


@pytest.mark.parametrize("order", ARMED["repair"])
async def test_a_repair(rig: Rig, order: str) -> None:
    assert rig.run("sync") == 0
    before = await rig.look()
    for number, path in enumerate(sorted((rig.data_dir / "statements").rglob("*"))):
        if path.is_file():
            path.write_bytes(b"damaged") if number % 2 else path.unlink()
    rig.killed("repair", order)
    assert rig.run("verify", "--repair") == 0
    end = await rig.look()
    end.assert_settled()
    end.assert_same(before)
    for key, told in end.trail.items():
        story = [what for what, _ in told]
        # Found once more where the kill came before the repair was recorded; repaired once and for all.
        assert (story[0], story[-1], story.count("repaired")) == ("downloaded", "repaired", 1), key
        assert set(story[1:-1]) == {"damaged"}
        assert len(story) <= 4
    assert rig.run("verify") == 0


@pytest.mark.parametrize(
    ("scenario", "order"), [(name, order) for name in ("hold", "hold-prefix", "release") for order in ARMED[name]]
)
async def test_a_hold(rig: Rig, scenario: str, order: str) -> None:
    """Record, mark and audit line are one transaction: all of it or nothing."""
    assert rig.run("sync") == 0
    if scenario == "release":
        assert rig.run(*COMMANDS["hold"]) == 0
    before = await rig.look(), await rig.rows(holds, "key", "is_prefix")
    rig.killed(scenario, order)
    killed = await rig.look()
    killed.assert_same(before[0])
    assert killed.trail == before[0].trail
    assert await rig.rows(holds, "key", "is_prefix") == before[1]
    assert rig.run(*COMMANDS[scenario]) == 0
    end = await rig.look()
    held = {"d/1", "d/2"} if scenario == "hold" else set()
    assert {key for key, row in end.rows.items() if row["hold"]} == held
    placed = [("d/", True)] if scenario == "hold-prefix" else [(key, False) for key in sorted(held)]
    assert await rig.rows(holds, "key", "is_prefix") == placed
    said = Counter(what for told in end.trail.values() for what, _ in told if what in ("held", "released"))
    assert said == {"hold": {"held": 2}, "hold-prefix": {"held": 1}, "release": {"held": 2, "released": 2}}[scenario]


@pytest.mark.parametrize("order", ARMED["deliver"])
async def test_a_delivery(rig: Rig, service: VerifyService, order: str) -> None:
    """Everything is delivered and ruled on once in the catalog; the service may see what was under way twice."""
    service.rejects = {"/rejected": 422}
    rig.more["VERIFY_URL"] = service.url
    assert rig.run("sync", "--deliver") == 0
    rig.killed("deliver", order)
    assert rig.run("deliver") in (0, 3)
    await assert_delivered(rig, service)


async def assert_delivered(rig: Rig, service: VerifyService) -> None:
    ruled = {key: "rejected" if key == "rejected" else "delivered" for key in rig.server.objects}
    found = await rig.rows(deliveries, "key", "state", "claimed_by", "attempts")
    assert found == [(key, state, None, 1) for key, state in sorted(ruled.items())]
    end = await rig.look()
    end.assert_settled()
    for key, told in end.trail.items():
        assert [what for what, _ in told] == ["downloaded", ruled[key]]
    seen = Counter(taken.key for taken in service.received)
    assert set(seen) == set(ruled)
    assert max(seen.values()) <= 2
    same = {taken.key: taken.headers["idempotency-key"] for taken in service.received}
    assert all(taken.headers["idempotency-key"] == same[taken.key] for taken in service.received)


@pytest.mark.parametrize("order", ARMED["consume"])
async def test_a_message(rig: Rig, service: VerifyService, shared_broker: Broker, topic: str, order: str) -> None:
    """Every object is recorded and delivered once; what cannot be carried out is kept once; every offset moves on."""
    service.rejects = {"/rejected": 422}
    group = f"group-of-{topic}"
    rig.more.update(
        VERIFY_URL=service.url, KAFKA_BOOTSTRAP_SERVERS=shared_broker.bootstrap, KAFKA_TOPIC=topic,
        KAFKA_GROUP_ID=group, KAFKA_SESSION_TIMEOUT="3s",
    )  # fmt: skip
    await shared_broker.create(topic, 1)
    sent = [plain(key, "statements") for key in OBJECTS]
    await shared_broker.send(topic, [*sent, (b"k", b"{}", []), plain("never there", "statements"), *sent[:2]])
    rig.killed("consume", order)
    assert rig.run(*COMMANDS["consume"]) in (0, 3)
    await assert_delivered(rig, service)
    letters = await rig.rows(dead_letters, "offset", "state", "reason")
    assert letters == [(len(sent), "dead", "unknown_form"), (len(sent) + 1, "dead", "no_such_key")]
    assert await shared_broker.committed(topic, group) == {0: len(sent) + 4}
    published = Counter(
        dict(dead.headers)["ingest_origin"].decode() for dead in await shared_broker.read(f"{topic}.dead")
    )
    assert published.keys() == {f"{topic}/0/{offset}" for offset, _, _ in letters}
    assert max(published.values()) <= 2  # never not at all
    assert await rig.rows(dead_letters, "publish_at") == [(None,), (None,)]


@pytest.mark.parametrize("order", ["letters.kept", "letters.published"])
async def test_two_consumers_of_which_one_is_killed(rig: Rig, shared_broker: Broker, topic: str, order: str) -> None:
    """Whoever has a partition then writes its letters: each once at least, and again where a move came in between."""
    group = f"group-of-{topic}"
    rig.more.update(
        KAFKA_BOOTSTRAP_SERVERS=shared_broker.bootstrap, KAFKA_TOPIC=topic, KAFKA_GROUP_ID=group,
        KAFKA_SESSION_TIMEOUT="3s",
    )  # fmt: skip
    await shared_broker.create(topic, 3)
    poison: list[Sent] = [(b"%d" % number, b"{%d" % number, []) for number in range(30)]
    await shared_broker.send(topic, [*(plain(key, "statements") for key in OBJECTS), *poison])
    both = rig.start(*COMMANDS["consume"], INGEST_CRASH_AT=order), rig.start(*COMMANDS["consume"])
    try:
        codes = [process.end() for process in both]
    finally:
        for process in both:
            process.kill()
    assert codes[0] in (-signal.SIGKILL, 0, 3)  # the other one may have been quicker with everything
    assert codes[1] in (0, 3)
    unwritten = True
    while unwritten:  # a run waits for no topic: it may end before all is written
        assert rig.run(*COMMANDS["consume"]) in (0, 3)
        unwritten = any(at for (at,) in await rig.rows(dead_letters, "publish_at"))

    assert {row["state"] for row in (await rig.look()).rows.values()} == {"present"}
    letters = await rig.rows(dead_letters, "partition", "offset", "publish_at")
    assert (len(letters), {published for *_, published in letters}) == (len(poison), {None})
    written = Counter(dead.value for dead in await shared_broker.read(f"{topic}.dead"))
    assert written.keys() == {value for _, value, _ in poison}
    assert sum((await shared_broker.committed(topic, group)).values()) == len(OBJECTS) + len(poison)
