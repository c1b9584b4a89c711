"""A database that forgets what a run has written, while the run is at work: 6, and one more sync makes all of it good."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.catalog.schema import schema
from ingest.engine.options import VerifyOptions
from ingest.engine.record import recorder
from ingest.errors import CatalogWentBack, DatabaseError, SchemaAhead, SchemaMissing
from ingest.jobs.verify import verify
from ingest.observe.progress import Silence
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import Answer, Fault
from ingest.testing.raw_server import Visit
from tests.faults.mortal import Mortal
from tests.faults.rig import Rig, rigged, run_sync
from tests.faults.turning import Turning
from tests.fixtures.databases import migrate

KEYS = [f"2026/{number:02}.pdf" for number in range(40)]
OLD = {key: b"old " + key.encode() for key in KEYS}
NEW = {key: b"newer " + key.encode() for key in KEYS}
STAGE = 10
IN_LINE = "SELECT count(*) FROM deliveries WHERE state = 'pending'"
RECORDED = "SELECT count(*) FROM objects WHERE size = 17"
"""Of the newer ones: each is two bytes longer."""


@pytest_asyncio.fixture
async def own_url(database_url: str) -> str:
    await migrate(database_url)
    return database_url


@dataclass
class Stages:
    """Bodies are sent ten at a time. When the first ten are recorded the database is kept, and when the next ones are,
    it goes back to that; the rest comes after it."""

    turning: Turning
    met: int = 0
    reached: tuple[asyncio.Event, ...] = field(default_factory=lambda: (asyncio.Event(), asyncio.Event()))

    async def body(self, visit: Visit, answer: Answer) -> None:
        self.met += 1
        for event in self.reached[: (self.met - 1) // STAGE]:
            await event.wait()
        await visit.send(answer.head, answer.body)

    async def play(self) -> None:
        await self._recorded(STAGE)
        self.turning.keep()
        self.reached[0].set()
        await self._recorded(2 * STAGE)
        self.turning.turn()
        self.reached[1].set()

    async def _recorded(self, number: int) -> None:
        while await self.turning.ask(RECORDED) < number:  # noqa: ASYNC110 - there is no event for what others record
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def turned(
    tmp_path: Path, own_url: str, swift: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Rig, Stages]]:
    """Every object was taken, and is another one by now."""
    monkeypatch.setattr(recorder, "BATCH", STAGE)
    monkeypatch.setattr(recorder, "MOST_WAITING", 4 * STAGE)
    async with rigged(tmp_path, own_url, OLD, page=10) as rig:
        await rig.run(0)
        rig.server.fill(NEW)
        stages = Stages(Turning(own_url, tmp_path))
        rig.server.faults = [Fault("get", stages.body)]
        yield rig, stages


async def test_a_sync_notices_and_the_next_one_makes_it_good(turned: tuple[Rig, Stages]) -> None:
    rig, stages = turned
    report, _ = await asyncio.gather(rig.attempt(), stages.play())
    assert (report.exit_code, type(report.error)) == (6, CatalogWentBack), report.error
    rig.server.faults.clear()
    report = await run_sync(rig.settings)
    assert (report.exit_code, report.counts.failed) == (0, 0), report.error
    assert report.counts.adopted > 0
    await rig.check_all(report)
    found = await verify(rig.settings, VerifyOptions(), progress=Silence(), stop=Stop())
    assert (found.exit_code, found.counts.damaged) == (0, 0), found.error
    rows = await rig.rows()
    assert {row["size"] for row in rows.values()} == {17}


async def test_deliveries_that_were_lost_with_it_happen(turned: tuple[Rig, Stages]) -> None:
    """Also by a sync that is not told to deliver, as the one beside a consumer is."""
    rig, stages = turned
    rig.settings = rig.settings.replace(verify_url="http://127.0.0.1:9/v1/verify")
    report, _ = await asyncio.gather(rig.attempt(deliver_to=rig.settings.verify_url), stages.play())
    assert report.exit_code == 6, report.error
    assert await stages.turning.ask(IN_LINE) == STAGE
    rig.server.faults.clear()
    assert (await run_sync(rig.settings)).exit_code == 0
    assert await stages.turning.ask(IN_LINE) == len(KEYS)


@pytest.mark.parametrize(("revision", "error"), [("9999", SchemaAhead), ("0006", SchemaMissing)])
async def test_a_schema_of_another_version_is_written_to_no_more(
    turned: tuple[Rig, Stages], revision: str, error: type[DatabaseError]
) -> None:
    """Nobody asks a run that is under way for its version again, unless it does so itself."""
    rig, stages = turned
    stages.turning.turn = lambda: stages.turning.tell(f"UPDATE alembic_version SET version_num = '{revision}'")  # type: ignore[method-assign] # another deed at the same moment
    report, _ = await asyncio.gather(run_sync(rig.settings), stages.play())
    assert (report.exit_code, type(report.error)) == (6, error), report.error
    assert revision in str(report.error)
    assert await stages.turning.ask(RECORDED) == 2 * STAGE
    assert await stages.turning.ask("SELECT status FROM runs WHERE id = 2") == "failed"


@pytest.mark.parametrize("fate", ["replaced", "removed"])
async def test_a_file_that_has_lost_its_name_is_written_to_no_more(
    tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    """A backup is moved over a catalog that is open: what a run wrote would be gone with it, and nobody told."""
    monkeypatch.setattr(recorder, "BATCH", STAGE)
    file = tmp_path / "data" / ".ingest" / "catalog.db"
    async with rigged(tmp_path, sqlite_url, OLD, page=10) as rig:
        await rig.run(0)
        rig.server.fill(NEW)
        stages = Stages(Turning(sqlite_url, tmp_path))

        def turn() -> None:
            backup = file.with_name("backup.db")
            shutil.copy(file, backup)
            file.unlink() if fate == "removed" else os.replace(backup, file)

        stages.turning.turn = turn  # type: ignore[method-assign] # another deed at the same moment
        rig.server.faults = [Fault("get", stages.body)]
        report, _ = await asyncio.gather(run_sync(rig.settings), stages.play())
    assert (report.exit_code, type(report.error)) == (6, CatalogWentBack), report.error
    assert "removed or replaced" in str(report.error)


@dataclass
class Cluster(Turning):
    """The whole server: killed, its files copied as they lie there, and later put back in their place."""

    mortal: Mortal | None = None

    def keep(self) -> None:
        self._swap(self._data, self.home / "kept")

    def turn(self) -> None:
        self._swap(self.home / "kept", self._data)

    @property
    def _data(self) -> Path:
        assert self.mortal is not None
        return Path(self.mortal.server.pgdata)

    def _swap(self, source: Path, target: Path) -> None:
        assert self.mortal is not None
        self.mortal.kill()
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", source, target], check=True)
        self.mortal.start()


async def test_a_physical_copy_of_the_cluster_takes_over(
    tmp_path: Path, swift: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a standby does, or a server that crashed before its log was on the disk: sessions break, and it recovers."""
    monkeypatch.setattr(recorder, "BATCH", STAGE)
    with tempfile.TemporaryDirectory(prefix="ingest-tests-", ignore_cleanup_errors=True) as home:
        mortal = Mortal(Path(home) / "pg")
        try:
            await schema.upgrade(mortal.url)
            async with rigged(tmp_path, mortal.url, OLD, page=10) as rig:
                await rig.run(0)
                rig.server.fill(NEW)
                stages = Stages(Cluster(mortal.url, Path(home), mortal=mortal))
                rig.server.faults = [Fault("get", stages.body)]
                report, _ = await asyncio.gather(run_sync(rig.settings), stages.play())
                assert (report.exit_code, type(report.error)) == (6, CatalogWentBack), report.error
                rig.server.faults.clear()
                report = await run_sync(rig.settings)
                assert (report.exit_code, report.counts.changed) == (0, len(KEYS) - STAGE), report.error
                assert report.counts.adopted >= STAGE
                await rig.check_all(report)
        finally:
            mortal.stop()
