"""Every command at once, with consumers and deliveries, while the bucket changes and processes are killed: then a calm.

What is drawn follows from a seed. What comes of it follows from the machine's mood as well, so nothing is asserted of the
storm itself but its exit codes; when it is over, one quiet round of commands must put everything right.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import dead_letters, deliveries, objects, runs
from ingest.demo.broker import Broker, Sent
from ingest.demo.verify_service import VerifyService
from ingest.settings import Settings
from ingest.testing.memory_s3 import MemoryS3, etag_of
from tests.faults.invariants import look
from tests.fixtures.catalogs import reading, writing
from tests.fixtures.events import notice, plain
from tests.fixtures.forks import Forked, ForkServer
from tests.fixtures.process import environment

KEYS = [f"{folder}/{number}" for folder in "abc" for number in range(8)]
COMMANDS: list[tuple[str, ...]] = [
    ("deliver",),
    ("deliver", "--limit", "3"),
    ("deadletters", "retry", "--all"),
    ("sync", "--deliver"),
    ("backfill", "--since", "2020-01-01"),
    ("cleanup", "--older-than", "0d"),
    ("restore", "--prefix", "a/"),
    ("restore", "--prefix", ""),
    ("hold", "add", "--prefix", "b/", "--reason", "storm"),
    ("hold", "remove", "--prefix", "b/"),
    ("verify", "--repair"),
]
CONSUME = ("consume", "--patience", "1s")
MAY_END_WITH = {0, 1, 3, 4, 6, 7, 11, 143, -signal.SIGKILL, -signal.SIGTERM}
"""1: no hold to remove, or letters that failed again; 6: a database that another process kept locked while it stood still;
-SIGTERM: it had not begun."""
_STARTS = 8
AT_ONCE = 4
"""Commands beside the two consumers."""


@dataclass
class Storm:
    """`draw` decides everything that is decided here."""

    draw: random.Random
    server: MemoryS3
    service: VerifyService
    forks: ForkServer
    broker: Broker
    topic: str
    home: Path
    url: str
    consumers: list[Forked] = field(default_factory=list)
    others: list[tuple[tuple[str, ...], Forked]] = field(default_factory=list)
    still: dict[int, int] = field(default_factory=dict)
    """Processes that stand still, and for how many steps yet."""
    unsent: list[Sent] = field(default_factory=list)
    started: int = 0
    signalled: int = 0

    @property
    def settings(self) -> Settings:
        return self.server.bucket.settings(self.home / "data", database_url=self.url)

    @property
    def variables(self) -> dict[str, str]:
        return self.server.bucket.variables(self.home / "data") | {
            "DATABASE_URL": self.url,
            "VERIFY_URL": self.service.url,
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP_ID": f"group-of-{self.topic}",
            "KAFKA_SESSION_TIMEOUT": "3s",
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    async def rage(self, seconds: float) -> None:
        """Steps for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        for key in KEYS[::2]:
            self._put(key, f"{key} at first".encode())
        while loop.time() < end:
            self._weather()
            self._keep_running()
            self._signal()
            if len(self.unsent) >= 5:
                await self._send()
            await asyncio.sleep(self.draw.uniform(0.01, 0.1))
            self.forks.hear()
            self._reap()

    def _weather(self) -> None:
        """What others do to bucket and service."""
        key = self.draw.choice(KEYS)
        match self.draw.randrange(12):
            case 0 | 1 | 2 | 3:
                self._put(key, b"%s %d" % (key.encode(), self.draw.randrange(1 << 30)))
            case 4:
                self._put(key, self.draw.choice(self.server.versions.get(key, [b"first"])))
            case 5 if key in self.server.objects:
                del self.server.objects[key]
                self.unsent.append(notice(key, self.server.bucket.name, "s3:ObjectRemoved:Delete"))
            case 6:
                self.service.fail(self.draw.choice([500, 503, 429]), self.draw.randrange(1, 4))
            case _:
                pass

    def _put(self, key: str, body: bytes) -> None:
        self.server.put(key, body)
        said = self.draw.random() < 0.5
        name, size = self.server.bucket.name, len(body)
        told = notice(key, name, eTag=etag_of(body), size=size) if said else plain(key, name)
        self.unsent += [told] * (2 if self.draw.random() < 0.1 else 1)

    def _keep_running(self) -> None:
        while len(self.consumers) < 2:
            self.consumers.append(self._start(CONSUME))
        if len(self.others) < AT_ONCE:
            command = self.draw.choice(COMMANDS)
            self.others.append((command, self._start(command)))

    def _start(self, command: tuple[str, ...]) -> Forked:
        self.started += 1
        return self.forks.start([*command, "-q"], environment(self.variables), cwd=self.home)

    def _signal(self) -> None:
        """Some go on that stood still; now and then one is killed, asked to end, or stopped for a while."""
        for pid in [*self.still]:
            self.still[pid] -= 1
            if self.still[pid] <= 0:
                self._send_signal(pid, signal.SIGCONT)
                del self.still[pid]
        alive = [one.pid for one in [*self.consumers, *(child for _, child in self.others)] if one.code is None]
        if alive and self.draw.random() < 0.12:
            pid, number = self.draw.choice(alive), self.draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
            self.signalled += 1
            if number is signal.SIGSTOP:
                self.still[pid] = self.draw.randrange(2, 15)
            self._send_signal(pid, number)

    @staticmethod
    def _send_signal(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    async def _send(self) -> None:
        messages, self.unsent = self.unsent, []
        await self.broker.send(self.topic, messages)

    def _reap(self) -> None:
        for command, child in [*self.others, *((CONSUME, one) for one in self.consumers)]:
            if child.code is not None:
                assert_ended_well(command, child)
                self.still.pop(child.pid, None)
        self.others = [(command, child) for command, child in self.others if child.code is None]
        self.consumers = [child for child in self.consumers if child.code is None]

    async def calm(self) -> None:
        """Everything ends, and the last messages are sent."""
        for pid in self.still:
            self._send_signal(pid, signal.SIGCONT)
        self.still.clear()
        self.service.fail(200, 0)
        for child in self.consumers:
            self._send_signal(child.pid, signal.SIGTERM)
        for child in [*self.consumers, *(child for _, child in self.others)]:
            child.end()
        self._reap()
        await self._send()

    async def assert_no_offset_is_ahead(self) -> None:
        """Where the last that was said of an object is committed, it is on record, or its message is kept.

        Of an earlier word nothing follows: it may have been about an object that was gone before anybody asked for it.
        """
        committed = await self.broker.committed(self.topic, f"group-of-{self.topic}")
        rows = {row["key"] for row in await self.rows(objects)}
        letters = {(row["partition"], row["offset"]) for row in await self.rows(dead_letters)}
        last = {record.key.decode(): (record.partition, record.offset) for record in await self.broker.read(self.topic)}
        for key, (partition, offset) in last.items():
            if offset < committed.get(partition, 0) and key in self.server.objects:
                assert key in rows or (partition, offset) in letters, (key, partition, offset)

    async def put_right(self) -> None:
        """One round of quiet commands."""
        await self._time_passes()
        await self._consume_all()
        for command, codes in (
            (("deadletters", "retry", "--all"), {0, 1, 3}),
            (("sync", "--deliver"), {0}),
            (("verify", "--repair"), {0, 7}),
            (("deliver",), {0, 3}),
            (("verify",), {0}),
        ):
            if command[0] == "deliver":
                await self._time_passes()
            child = self._start(command)
            assert child.end() in codes, (command, child.code, child.said)

    async def _consume_all(self) -> None:
        """Started again, as a supervisor does, while the group still keeps a part of the topic for a member that was
        killed."""
        for _ in range(_STARTS):
            child = self._start((*CONSUME, "--until-idle", "1s"))
            assert child.end() in (0, 3, 4), child.said
            if await self._unread() == 0:
                return

    async def _unread(self) -> int:
        committed = await self.broker.committed(self.topic, f"group-of-{self.topic}")
        return len(await self.broker.read(self.topic)) - sum(committed.values())

    async def _time_passes(self) -> None:
        """What waits for another try is due."""
        async with Catalog.open(self.url) as catalog, writing(catalog) as connection:
            for table in ("deliveries", "dead_letters"):
                past = (
                    "'2020-01-01 00:00:00+00'" if catalog.driver.dialect.is_postgres else "'2020-01-01 00:00:00.000000'"
                )
                await connection.execute(
                    text(f"UPDATE {table} SET next_attempt_at = {past} WHERE next_attempt_at IS NOT NULL")
                )

    async def assert_right(self) -> None:
        """The state of a night without a storm."""
        seen = await look(self.settings)
        seen.assert_settled()
        assert seen.broken_links == []
        sent = {(row["key"], row["etag"]): row["state"] for row in await self.rows(deliveries)}
        assert {state for state in sent.values()} <= {"delivered", "dead"}
        for key, stored in self.server.objects.items():
            row = seen.rows[key]
            assert (row["etag"], row["gone_at"], row["state"] in ("present", "pruned")) == (stored.etag, False, True), (
                key
            )
            state = sent.get((key, stored.etag))
            assert state == "delivered" or (state is None and _was_pruned(seen.trail[key])), (
                key,
                state,
                seen.trail[key],
            )
        for key, row in seen.rows.items():
            assert row["gone_at"] == (key not in self.server.objects), key
        await self._assert_pruned_after_their_delivery()
        self._assert_received(sent)
        assert all(row["claimed_by"] is None for row in await self.rows(deliveries))
        for row in await self.rows(runs):
            assert_adds_up(row["command"], row["counts"])
            assert row["status"] != "running" or row["finished_at"] is None
        assert {row["key"] for row in await self.rows(dead_letters)}.isdisjoint(self.server.objects)
        assert await self._unread() == 0

    async def _assert_pruned_after_their_delivery(self) -> None:
        """Unless an event put the copy in line only when it was pruned: its object may be gone before it is brought back."""
        pruned = {
            (row["key"], row["etag"]): row["pruned_at"] for row in await self.rows(objects) if row["state"] == "pruned"
        }
        for row in await self.rows(deliveries):
            at = pruned.get((row["key"], row["etag"]))
            assert (
                at is None
                or row["state"] == "delivered"
                or (row["created_at"] > at and row["key"] not in self.server.objects)
            ), f"{row['key']} was pruned and not delivered"

    def _assert_received(self, sent: Mapping[tuple[str, str], str]) -> None:
        """Every body under its own etag, and whatever is on record as delivered was received."""
        bodies = {
            sha256(body).hexdigest(): md5(body).hexdigest() for of in self.server.versions.values() for body in of
        }
        received = {(taken.key, taken.fields["etag"]) for taken in self.service.received}
        for taken in self.service.received:
            assert bodies[taken.sha256] == taken.fields["etag"], taken
        assert {version for version, state in sent.items() if state == "delivered"} <= received

    async def rows(self, table: Any) -> list[dict[str, Any]]:
        async with Catalog.open(self.url) as catalog, reading(catalog) as connection:
            return [dict(row._mapping) for row in await connection.execute(select(table))]


def _was_pruned(trail: list[tuple[str, str]]) -> bool:
    """Whether the version that is recorded has been pruned: a backfill had taken it, which puts nothing in line, and its
    event came only then."""
    story = [what for what, _ in trail]
    taken = max((at for at, what in enumerate(story) if what in ("downloaded", "changed")), default=0)
    return "pruned" in story[taken:]


def assert_ended_well(command: tuple[str, ...], child: Forked) -> None:
    said = child.said
    assert child.code in MAY_END_WITH, (command, child.code, said)
    assert "Traceback" not in said, said
    assert "a defect" not in said, said


def assert_adds_up(command: str, counts: Mapping[str, int]) -> None:
    """I3, of whatever a run came to."""
    if command in ("sync", "backfill") and counts:
        assert counts["listed"] >= counts["new"] + counts["changed"] + counts["unchanged"] + counts["skipped"], counts
        assert counts["new"] + counts["changed"] >= counts["downloaded"] + counts["adopted"] + counts["failed"], counts
