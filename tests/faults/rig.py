"""The rig of most rows: a misbehaving server, a data directory, a catalog on either engine, and runs in this process.

A row is tried like this: break something, `run`, which checks I1 to I3, I6 and I7; then `heal`, which repairs and runs
again, and compares with a run that never saw the fault (I4, I5).
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import update
from tenacity import wait_none

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.tables import metadata, runs
from ingest.engine.options import SyncOptions
from ingest.engine.transfer import transfer
from ingest.http.timeouts import Timeouts
from ingest.jobs.sync import sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan import gate
from ingest.settings import Settings
from ingest.source import bucket, retries
from ingest.source import gate as gatekeeper
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, serving
from tests.faults import invariants
from tests.faults.invariants import SECRET, Seen
from tests.fixtures.catalogs import writing
from tests.fixtures.databases import migrated_sqlite
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

TARGET = "2026/02/target.pdf"
"""The object that faults are aimed at: in the middle of the listing, neither the first nor the last of its page."""
OBJECTS: dict[str, bytes] = {
    key: random.Random(key).randbytes(size)
    for key, size in {
        "2026/01/a.pdf": 900,
        "2026/02/b.pdf": 1200,
        "2026/02/empty": 0,
        TARGET: 1000,
        "2026/02/z.pdf": 70_000,
        "index.txt": 30,
        "letter.pdf": 500,
        "zz/last.pdf": 10,
    }.items()
}
MODIFIED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENCE = timedelta(seconds=0.5)
QUICK = Timeouts(connect=2.0, idle=0.12, total=0.3, slowest=1 << 20)


class Printed(NamedTuple):
    """What a process said."""

    exit_code: int
    document: dict[str, Any]
    stderr: str


@dataclass
class Rig:
    """`home` is watched: only the data directory and the catalog in it may change."""

    server: MemoryS3
    settings: Settings
    home: Path

    def __post_init__(self) -> None:
        (self.home / "neighbour").write_text("not ours")

    async def run(self, exit_code: int, *, settings: Settings | None = None, **options: object) -> RunReport:
        """One sync that must end with this code; checks what must be true whatever happened."""
        report = await self.attempt(settings=settings, **options)
        assert report.exit_code == exit_code, report.error
        return report

    async def attempt(self, *, settings: Settings | None = None, **options: object) -> RunReport:
        """One sync, however it ends; checks what must be true whatever happened."""
        before = self._outside()
        report = await run_sync(settings or self.settings, **options)  # type: ignore[arg-type] # flags of any kind
        invariants.check_said(report)
        invariants.check_sums(report)
        assert self._outside() == before
        self.check_files()
        return report

    async def heal(self) -> RunReport:
        """No fault any more, and a new process: one run must end as if nothing had been."""
        self.server.faults.clear()
        await self.end_process()
        report = await self.run(0)
        await self.check_catalog()
        await invariants.check_reasons(self.settings, report)
        assert invariants.temporaries(self.settings) == []
        live(await self.look()).assert_same(await undisturbed(self.server.bodies))
        return report

    def check_files(self) -> None:
        """Whether or not there is a catalog to ask."""
        invariants.assert_versions(invariants.files_of(self.settings), self.server.versions)

    async def check_catalog(self) -> None:
        seen = await self.look()
        seen.assert_recorded()
        assert seen.broken_links == []

    async def check_all(self, report: RunReport) -> None:
        """With the database up: rows against files, and the run's own row."""
        await self.check_catalog()
        await invariants.check_reasons(self.settings, report)

    async def rows(self) -> dict[str, dict[str, Any]]:
        return (await self.look()).rows

    async def look(self) -> Seen:
        return await invariants.look(self.settings)

    async def end_process(self) -> None:
        """What this process left behind looks like that of one which has ended."""
        pid = dead_pid()
        url = self.settings.database_url.get_secret_value()
        async with Catalog.open(url) as catalog, writing(catalog) as connection:
            await connection.execute(update(runs).where(runs.c.status == "running").values(pid=pid))

    async def cli(self, *arguments: str, under: Sequence[str] = (), **variables: str) -> Printed:
        """The command as a process of its own, `under` another command; checks I7 and returns what it printed."""
        values = variables_of(self.settings) | variables
        done = await run_ingest(*arguments, "--json", variables=values, cwd=self.home, under=under)
        printed = Printed(done.code, json.loads(done.stdout or "{}"), done.stderr)
        check_printed(printed)
        return printed

    def _outside(self) -> list[tuple[str, int, str]]:
        """All but the data directory, and where the catalog is."""
        catalog = self.settings.sqlite_path
        ours = [self.settings.data_dir, *([catalog.parent] if catalog else [])]
        return list(invariants.tree(self.home, ours))


def check_printed(printed: Printed) -> None:
    """I7, as people and scripts see it."""
    said = [line for line in printed.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed.stderr
    assert SECRET not in printed.stderr + json.dumps(printed.document)
    assert printed.document.get("exit_code", printed.exit_code) == printed.exit_code
    if printed.exit_code not in (0, 3):
        assert len(said) == 1, printed.stderr
        assert sum(line.startswith("hint: ") for line in printed.stderr.splitlines()) == 1


async def run_sync(settings: Settings, *, stop: Stop | None = None, **options: object) -> RunReport:
    return await sync(settings, SyncOptions(**options), progress=Silence(), stop=stop or Stop())  # type: ignore[arg-type]


def settings_for(server: MemoryS3, data_dir: Path, **overrides: object) -> Settings:
    return server.bucket.settings(data_dir, **{"secret_key": SECRET, "patience": PATIENCE, **overrides})


def variables_of(settings: Settings) -> dict[str, str]:
    own = {"S3_SECRET_KEY": SECRET, "DATABASE_URL": settings.database_url.get_secret_value()}
    return Bucket(settings.endpoint_url, settings.bucket).variables(settings.data_dir) | own


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def live(found: Seen) -> Seen:
    """Without what is gone from the bucket: a run that never saw it has neither its row nor its copy."""
    gone = {key: row["local_path"] for key, row in found.rows.items() if row["gone_at"]}
    return replace(
        found,
        rows={key: row for key, row in found.rows.items() if key not in gone},
        files={path: copy for path, copy in found.files.items() if path not in gone.values()},
    )


_upgraded: set[str] = set()
_undisturbed: dict[frozenset[tuple[str, bytes]], Seen] = {}


async def undisturbed(objects: Mapping[str, bytes]) -> Seen:
    """What a run leaves that never saw a fault; the same whatever the database."""
    import tempfile

    known = frozenset(objects.items())
    if known not in _undisturbed:
        with tempfile.TemporaryDirectory() as home:
            async with holding(objects) as server:
                settings = settings_for(server, Path(home) / "data")
                report = await run_sync(settings)
                assert report.exit_code == 0, report.error
                _undisturbed[known] = await invariants.look(settings)
    return _undisturbed[known]


@asynccontextmanager
async def holding(
    objects: Mapping[str, bytes], *, tls: ssl.SSLContext | None = None, page: int = 3, name: str = "MinIO"
) -> AsyncIterator[MemoryS3]:
    """A server that holds `objects`. MinIO is known to list in byte order, SeaweedFS directory by directory."""
    server = MemoryS3(name == "SeaweedFS", page, name, MODIFIED)
    server.fill(objects)
    async with serving(server, tls=tls):
        yield server


@asynccontextmanager
async def rigged(
    home: Path, database_url: str, objects: Mapping[str, bytes] = OBJECTS, **how: Any
) -> AsyncIterator[Rig]:
    async with holding(objects, **how) as server:
        yield Rig(server, settings_for(server, home / "data", database_url=database_url), home)


def shorten_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of a second, where a row waits for one."""
    monkeypatch.setattr(bucket, "Timeouts", lambda: QUICK)


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries; their number stays what it is."""
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(retries, "PAUSE", wait_none())
    monkeypatch.setattr(gatekeeper, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(gate, "LONGEST_PAUSE", 0.01)


@pytest.fixture(scope="session")
def sqlite_template() -> bytes:
    """A migrated database's bytes: copied, not migrated anew for each test."""
    return asyncio.run(migrated_sqlite())


@pytest_asyncio.fixture
async def emptied_postgres(postgres_uri: str) -> str:
    """One migrated database for all tests of this worker, emptied for each."""
    url = postgres_uri.replace("postgresql:", "postgresql+asyncpg:")
    if url not in _upgraded:
        await schema.upgrade(url)
        _upgraded.add(url)
    connection = await asyncpg.connect(postgres_uri)
    names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
    await connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
    await connection.close()
    return url


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: bytes) -> str:
    """A migrated catalog without rows."""
    own = tmp_path / "data" / ".ingest"
    own.mkdir(parents=True)
    (own / "catalog.db").write_bytes(sqlite_template)
    return f"sqlite+aiosqlite:///{own}/catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def each_url(request: pytest.FixtureRequest) -> str:
    """A migrated catalog without rows, on each engine in turn."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "emptied_postgres")
    return url


@pytest_asyncio.fixture
async def rig(tmp_path: Path, sqlite_url: str, swift: None) -> AsyncIterator[Rig]:
    """The usual objects behind a misbehaving server, and a catalog in SQLite."""
    async with rigged(tmp_path, sqlite_url) as made:
        yield made


@pytest_asyncio.fixture
async def rig_on_each(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    """The same, on each database in turn."""
    async with rigged(tmp_path, each_url) as made:
        yield made
