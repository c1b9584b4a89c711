"""Two commands on the same keys at the same instant: one is held at a labelled point by SIGSTOP while the other comes.

Whoever wins, a copy and its row tell of the same version, and the newest version is not lost.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import runs
from ingest.engine.options import SyncOptions
from ingest.engine.record import copies
from ingest.errors import LockedError
from ingest.jobs.sync import backfill
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.commands import Commands
from tests.faults.databases import Template, copy_of
from tests.faults.invariants import Seen, by_key, copies_of, look
from tests.fixtures.catalogs import reading

WAITING = "copies.waiting"
KEYS = ("a", "a/b", "d/1")
SYNC = ("sync",)
PRUNE = ("cleanup", "--older-than", "0d", "--trust-catalog")
RESTORE = ("restore", "--prefix", "")
REPAIR = ("verify", "--repair")
BACKFILL = ("backfill", "--since", "2020-01-01")


class Rig(Commands):
    """Every key is present in its first version."""

    def put_second(self) -> None:
        for key in KEYS:
            self.server.put(key, f"{key} second, and longer".encode())

    async def settled(self) -> Seen:
        """I1 and I2 with nothing under way; and the next sync finds whatever is not the bucket's version."""
        seen = await look(self.settings)
        seen.assert_settled()
        assert self.run("sync") == 0
        end = await look(self.settings)
        end.assert_settled()
        return end

    def assert_newest(self, end: Seen) -> None:
        assert {row["state"] for row in end.rows.values()} == {"present"}
        assert by_key(end.files) == copies_of(self.server.objects)


@pytest.fixture(params=["sqlite", "postgresql"])
async def rig(
    request: pytest.FixtureRequest, empty_databases: dict[str, Template], tmp_path: Path
) -> AsyncIterator[Rig]:
    with running(MemoryS3()) as server:
        for key in KEYS:
            server.put(key, f"{key} first".encode())
        made = Rig(server, tmp_path / "data", await copy_of(empty_databases[request.param], tmp_path / "catalog.db"))
        assert made.run("sync") == 0
        yield made


def spoil(rig: Rig, command: tuple[str, ...]) -> None:
    """Gives the command something to bring back."""
    if command is RESTORE:
        assert rig.run(*PRUNE) == 0
    else:
        for path in (rig.data_dir / "statements").rglob("*"):
            if path.is_file():
                path.write_bytes(b"damaged")


@pytest.mark.parametrize("command", [RESTORE, REPAIR], ids=" ".join)
async def test_a_newer_version_waits_until_the_older_ones_row_is_committed(rig: Rig, command: tuple[str, ...]) -> None:
    """Its file came before the older row did: that row would have told of the newer file."""
    spoil(rig, command)
    with rig.held(*command, at="batch.all-renamed") as first:
        rig.put_second()
        with rig.held(*SYNC, at=WAITING) as second:
            first.go_on()
            assert first.end() == 0
            second.go_on()
            assert second.end() == 0
    rig.assert_newest(await rig.settled())


@pytest.mark.parametrize("command", [RESTORE, REPAIR], ids=" ".join)
async def test_an_older_version_gives_way_to_one_recorded_meanwhile(rig: Rig, command: tuple[str, ...]) -> None:
    """It was downloaded, not yet in place, when a sync recorded a newer one, and remembered the page as settled."""
    spoil(rig, command)
    with rig.held(*command, at="batch.collected") as first:
        rig.put_second()
        assert rig.run("sync") == 0
        first.go_on()
        assert first.end() in (3, 7)
    rig.assert_newest(await look(rig.settings))
    rig.assert_newest(await rig.settled())
    assert list((rig.data_dir / ".ingest" / "tmp").iterdir()) == []


async def test_a_new_object_gives_way_too(rig: Rig) -> None:
    """Both found a key that had no row; the slower one holds the older version."""
    rig.server.put("new", b"first")
    with rig.held(*("backfill", "--since", "2020-01-01"), at="batch.collected") as first:
        rig.server.put("new", b"second, and longer")
        assert rig.run("sync") == 0
        first.go_on()
        assert first.end() == 3
    rig.assert_newest(await rig.settled())


async def test_what_a_listing_does_not_want_stays_present(rig: Rig) -> None:
    """It is about to be recorded as known, without a copy, when another run takes it."""
    rig.server.put("new", b"wanted by one of them")
    with rig.held(*("backfill", "--since", "2100-01-01"), at="batch.collected") as first:
        assert rig.run("sync") == 0
        first.go_on()
        assert first.end() == 0
    rig.assert_newest(await rig.settled())


@pytest.mark.parametrize("killed", [False, True])
async def test_a_new_version_comes_while_the_old_copy_is_pruned(rig: Rig, killed: bool) -> None:
    """It is neither unlinked in the old one's place, nor recorded as pruned; a lock dies with its holder."""
    with rig.held(*PRUNE, at="cleanup.intended") as first:
        rig.put_second()
        with rig.held(*SYNC, at=WAITING) as second:
            first.send(signal.SIGKILL if killed else signal.SIGCONT)
            assert first.end() == (-signal.SIGKILL if killed else 0)
            second.go_on()
            assert second.end() == 0
    rig.assert_newest(await rig.settled())


@pytest.mark.parametrize("what", [("a", "a/b"), ("--prefix", "")], ids=" ".join)
async def test_what_is_said_to_be_held_is_there(rig: Rig, what: tuple[str, ...]) -> None:
    """A hold waits for the unlinks that a cleanup is past the intent of, and counts what they left."""
    hold = ("hold", "add", *what, "--reason", "audit")
    with rig.held(*PRUNE, at="cleanup.intended") as first, rig.held(*hold, at=WAITING) as second:
        first.go_on()
        assert first.end() == 0
        second.go_on()
        assert second.end() == 0
    seen = await look(rig.settings)
    seen.assert_settled()
    assert {row["state"] for row in seen.rows.values()} == {"pruned"}
    async with Catalog.open(rig.url) as catalog, reading(catalog) as connection:
        said = await connection.execute(select(runs.c.counts).where(runs.c.command == "hold add"))
        assert [(counts["placed"], counts["held"]) for (counts,) in said] == [(len(what) if what[0] == "a" else 1, 0)]


async def test_a_copy_that_became_the_only_one_stays(rig: Rig) -> None:
    """The bucket still had it when cleanup asked; a sync has marked it as gone since."""
    with rig.held(*("cleanup", "--older-than", "0d"), at="cleanup.decided") as first:
        del rig.server.objects["a"]
        assert rig.run("sync") == 0
        first.go_on()
        assert first.end() == 0
    seen = await look(rig.settings)
    seen.assert_settled()
    assert {key: row["state"] for key, row in seen.rows.items()} == {"a": "present", "a/b": "pruned", "d/1": "pruned"}


FORGET = ("source", "forget", "1", "--force")


@pytest.mark.parametrize("place", ["run.started", "shards.listed", "run.worked"])
async def test_what_a_run_is_at_work_on_is_not_forgotten(rig: Rig, place: str) -> None:
    rig.put_second()
    with rig.held(*SYNC, at=place) as first:
        assert rig.run(*FORGET) == 11
        first.go_on()
        assert first.end() == 0
    rig.assert_newest(await rig.settled())


async def test_a_run_does_not_begin_on_what_was_forgotten_meanwhile(rig: Rig) -> None:
    """Its rows would belong to no source."""
    with rig.held(*SYNC, at="run.locked") as first:
        assert rig.run(*FORGET) == 0
        first.go_on()
        assert first.end() == 11
    assert (await look(rig.settings)).rows == {}


async def test_a_process_that_hangs_with_the_lock_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others do not wait for ever, nor do they go on without it."""
    monkeypatch.setattr(copies, "COPIES_PATIENCE", 0.05)
    rig.put_second()
    with rig.held(*SYNC, at="batch.all-renamed") as first:
        report = await backfill(rig.settings, SyncOptions(), progress=Silence(), stop=Stop())
        assert isinstance(report.error, LockedError)
        assert str(first.pid) in report.error.message
        assert report.exit_code == 11
        first.go_on()
        assert first.end() == 0
    rig.assert_newest(await rig.settled())


@pytest.mark.parametrize(
    ("command", "replacing"), [(BACKFILL, False), (PRUNE, False), (REPAIR, False), (BACKFILL, True)]
)
async def test_who_waits_for_a_process_that_hangs_ends_when_asked_to(
    rig: Rig, command: tuple[str, ...], replacing: bool
) -> None:
    """With a batch of its own, or to undo what was left of one that replaces copies. It waited for a quarter of an hour,
    whatever was asked."""
    spoil(rig, REPAIR)
    rig.server.put("new", b"what both commands take")
    if replacing:
        rig.put_second()
    with rig.held(*SYNC, at="batch.all-renamed") as first:
        with rig.held(*command, at=WAITING) as second:
            second.send(signal.SIGTERM)
            second.go_on()
            assert second.end() == 143
        first.go_on()
        assert first.end() == 0
    assert rig.run(*REPAIR) == 0
    rig.assert_newest(await rig.settled())


async def test_a_kill_between_rename_and_row_is_undone_by_who_waits(rig: Rig) -> None:
    """The waiting run gets the lock, puts the old copies back, and then takes what its own decision says."""
    before = dict(rig.server.objects)
    rig.put_second()
    with rig.held(*SYNC, at="batch.all-renamed") as first:
        rig.server.objects = before
        with rig.held(*("backfill", "--since", "2020-01-01"), at="run.started") as second:
            first.kill()
            first.end()
            second.go_on()
            assert second.end() == 0
    seen = await look(rig.settings)
    seen.assert_settled()
    assert by_key(seen.files) == copies_of(before)
