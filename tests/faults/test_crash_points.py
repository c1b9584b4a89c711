"""A process killed at each labelled point, on both databases: run again, everything is as if it had never been killed."""

from __future__ import annotations

import ast
import asyncio
import os
import random
import shutil
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.system.failpoints import LABELS, READ
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.databases import Template, copy_of, template_on
from tests.faults.invariants import Seen, check_sums, look
from tests.faults.test_crash_commands import ARMED as ARMED_COMMANDS
from tests.faults.test_killed_replacing import TAKING_AWAY, UNDOING
from tests.faults.test_two_at_once import WAITING
from tests.fixtures.process import started, until

ROOT = Path(__file__).resolve().parents[2]
LARGE = random.Random(0).randbytes((4 << 20) + 4096)
BEFORE = {
    "a": b"1",
    "a/b": b"2",
    "d/1": b"3" * 300,
    "d/2": b"",
    "d/2-b/x": b"8",
    "d/2/x": b"9",
    "d/gone": b"4",
    "e/": b"",
    "changing": b"old",
}
AFTER = {"d/3": b"5", "new": b"6" * 70_000, "new/below": b"7", "big": LARGE, "changing": b"the new one"}

NIGHTLY = {"staging", "partial", "batch", "shards", "sync", "run"}
ARMED: dict[str, tuple[str, ...]] = {
    "fresh": (*sorted(label for label in LABELS if label.startswith("identity.")), "order.learnt", "batch.renamed:3", "batch.published", "batch.committed", "shards.planned"),
    "nightly": (*sorted(label for label in LABELS if label.partition(".")[0] in NIGHTLY), "batch.renamed:2", "staging.written:3"),
    "cleanup": (
        "run.locked", "run.worked", "cleanup.decided", "cleanup.intended", "cleanup.unlinked", "cleanup.unlinked:2",
        "cleanup.all-unlinked", "cleanup.done", "cleanup.intent-written", "batch.rows-written",
    ),
    "restore": (
        "restore.submitted:2", "restore.downloaded", "staging.finished:2", "batch.barrier-passed",
        "batch.replaced-intended", "batch.replaced-kept", "batch.renamed:2", "batch.published", "batch.cursors-written",
        "batch.committed", "batch.replaced-ended", "run.worked",
    ),
}  # fmt: skip
"""Scenario -> where its process is killed."""


def test_every_label_is_passed_somewhere_and_known() -> None:
    passed = set()
    for path in (ROOT / "ingest").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                passed.add(ast.literal_eval(node.args[0]))
    assert passed == LABELS
    assert {
        order.partition(":")[0]
        for orders in (*ARMED.values(), *ARMED_COMMANDS.values(), UNDOING, TAKING_AWAY, [WAITING])
        for order in orders
    } == LABELS - READ


@pytest.fixture(scope="module")
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        yield server


@dataclass(frozen=True)
class Rig:
    """A copy of one starting point: a bucket, a data directory and a database that belong together."""

    scenario: str
    server: MemoryS3
    data_dir: Path
    url: str

    @property
    def command(self) -> list[str]:
        return {"cleanup": ["cleanup", "--older-than", "0d"], "restore": ["restore", "--prefix", ""]}.get(
            self.scenario, ["sync"]
        )

    @property
    def settings(self) -> Settings:
        return self.server.bucket.settings(self.data_dir, database_url=self.url)

    def start(self, **variables: str) -> AbstractAsyncContextManager[Process]:
        """The command as a process of its own."""
        own = self.server.bucket.variables(self.data_dir) | {"DATABASE_URL": self.url}
        return started(*self.command, "-q", variables=own | variables, cwd=ROOT)

    async def run(self) -> RunReport:
        """The same command in this process."""
        settings = self.settings
        if self.scenario == "cleanup":
            return await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
        if self.scenario == "restore":
            return await restore(settings, RestoreOptions(prefix=""), progress=Silence(), stop=Stop())
        return await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())

    async def look(self) -> Seen:
        return await look(self.settings)

    async def assert_repaired(self, end: Seen) -> None:
        """Whole as it was left, and after one more run as if it had never been killed."""
        (await self.look()).assert_whole(self.server.versions)
        report = await self.run()
        assert report.exit_code == 0, report.error
        check_sums(report)
        found = await self.look()
        found.assert_settled()
        found.assert_same(end, places=False)
        assert found.trail == end.trail
        shutil.rmtree(self.data_dir)


@dataclass
class Bases:
    """The starting points of each scenario, and how each ends when nothing is killed."""

    server: MemoryS3
    home: Path
    templates: dict[str, Template]
    ends: dict[str, Seen]
    requests: dict[str, int]
    """How many each scenario takes."""

    @classmethod
    async def build(cls, server: MemoryS3, home: Path, empty: Template) -> Bases:
        bases = cls(server, home, {"fresh": empty}, {}, {})
        (home / "fresh").mkdir()
        server.objects.clear()
        server.fill(BEFORE)
        first = await bases.copy("fresh", "first")
        await first.run()
        bases._keep("nightly", first)
        bases._keep("cleanup", first)
        del server.objects["d/gone"]
        server.fill(AFTER)
        pruned = await bases.copy("cleanup", "pruned")
        await pruned.run()
        bases._keep("restore", pruned)
        for scenario in ARMED:
            rig = await bases.copy(scenario, f"{scenario}-end")
            asked = len(server.asked)
            report = await rig.run()
            assert report.exit_code == 0, report.error
            bases.ends[scenario], bases.requests[scenario] = await rig.look(), len(server.asked) - asked
        return bases

    def _keep(self, scenario: str, rig: Rig) -> None:
        self.templates[scenario] = template_on(rig.url)
        shutil.copytree(rig.data_dir, self.home / scenario)

    async def copy(self, scenario: str, name: str) -> Rig:
        data_dir = self.home / name
        shutil.copytree(self.home / scenario, data_dir)
        return Rig(scenario, self.server, data_dir, await copy_of(self.templates[scenario], self.home / f"{name}.db"))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def bases(
    request: pytest.FixtureRequest,
    server: MemoryS3,
    empty_databases: dict[str, Template],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Bases]:
    home = tmp_path_factory.mktemp(f"bases-{request.param}")
    yield await Bases.build(server, home, empty_databases[request.param])


@pytest.mark.parametrize(("scenario", "order"), [(name, order) for name, orders in ARMED.items() for order in orders])
@pytest.mark.asyncio(loop_scope="module")
async def test_killed_there_and_run_again_it_ends_as_if_never_killed(bases: Bases, scenario: str, order: str) -> None:
    rig = await bases.copy(scenario, f"{scenario}-{order.replace(':', '-')}")
    async with rig.start(INGEST_CRASH_AT=order) as process:
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    await rig.assert_repaired(bases.ends[scenario])


SOAKING = "INGEST_TEST_SOAK" in os.environ
KILLS = 400 if SOAKING else 6


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(0 if SOAKING else 60)
async def test_killed_at_any_time_it_is_repaired_by_running_again(bases: Bases) -> None:
    seed = random.randrange(1 << 32) if SOAKING else 0
    print(f"seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    chance = random.Random(seed)
    for number in range(KILLS // 2):
        scenario = chance.choice(sorted(ARMED))
        rig = await bases.copy(scenario, f"random-{number}")
        server = rig.server
        wanted = len(server.asked) + chance.randint(0, bases.requests[scenario])
        async with rig.start() as process:
            await until(partial(_asked_or_ended, server, wanted, process))
            await asyncio.sleep(chance.uniform(0, 0.1))  # also between two requests, and after the last
            if process.returncode is None:
                process.kill()
            assert await process.wait() in (0, -signal.SIGKILL)
        await rig.assert_repaired(bases.ends[scenario])


def _asked_or_ended(server: MemoryS3, wanted: int, process: Process) -> bool:
    return len(server.asked) >= wanted or process.returncode is not None
