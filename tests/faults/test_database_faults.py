"""A faulty database: 6, no row without its file, and a file without a row is adopted by its digest."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from ingest.catalog.schema import schema
from ingest.catalog.sql import deadlines, postgres, sqlite, url
from ingest.testing import faults
from ingest.testing.memory_s3 import Fault
from tests.faults import invariants
from tests.faults.mortal import Mortal
from tests.faults.rig import OBJECTS, Rig, rigged

_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def own_url(postgres_uri: str) -> AsyncIterator[str]:
    """A migrated database that a test may spoil."""
    name = f"spoiled_{next(_numbers)}"
    base, question, query = postgres_uri.partition("?")
    connection = await asyncpg.connect(postgres_uri)
    await connection.execute(f"CREATE DATABASE {name}")
    url = f"postgresql+asyncpg://{base.partition('://')[2].rpartition('/')[0]}/{name}{question}{query}"
    await schema.upgrade(url)
    yield url
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries at the database, and few of them."""
    monkeypatch.setattr(deadlines, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(deadlines, "ANSWER", 1.0)
    monkeypatch.setattr(url, "ANSWER", 1.0)


async def spoil(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def heal_by_adopting(rig: Rig, stored: int) -> None:
    """`stored` copies lie in their places without a row: the next run takes them over, and fetches only the others."""
    asked = rig.server.count("get")
    counts, others = (await rig.heal()).counts, len(rig.server.objects) - stored
    assert rig.server.count("get") - asked == others
    assert (counts.adopted, counts.downloaded, counts.bytes) == (stored, others, counts.bytes if others else 0)


def stored(rig: Rig) -> int:
    return len(invariants.files_of(rig.settings))


@pytest.mark.parametrize(
    ("url", "said"),
    [("postgresql+asyncpg://u:{}@127.0.0.1:1/x", "127.0.0.1"), ("sqlite+aiosqlite:////dev/null/x.db", "/dev/null")],
    ids=["postgresql", "sqlite"],
)
async def test_down_at_start(rig: Rig, url: str, said: str) -> None:
    report = await rig.run(6, settings=rig.settings.replace(database_url=url.format(invariants.SECRET)))
    assert report.error is not None
    assert said in report.error.message
    assert rig.server.asked == []
    await rig.heal()


def refusing(sqlstate: str, words: str, times: int) -> tuple[str, ...]:
    """Inserts into `objects` fail with this error of the server, so many times. A sequence is not rolled back."""
    return (
        "CREATE SEQUENCE refusals",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF nextval('refusals') <= {times} THEN RAISE EXCEPTION '{words}' USING ERRCODE = '{sqlstate}'; END IF; "
        "RETURN NEW; END $$",
        "CREATE TRIGGER refuses BEFORE INSERT ON objects FOR EACH ROW EXECUTE FUNCTION refuse()",
    )


CONFLICTS = {
    "serialization failure": ("40001", "could not serialize access due to concurrent update"),
    "deadlock": ("40P01", "deadlock detected"),
    "in the language of the server": ("40P01", "Verklemmung entdeckt"),
}


@pytest.mark.parametrize("copy_from", [postgres.COPY_FROM, 1], ids=["few rows", "as if many"])
@pytest.mark.parametrize("conflict", CONFLICTS.values(), ids=CONFLICTS)
async def test_a_conflict_passes(
    tmp_path: Path,
    own_url: str,
    swift: None,
    monkeypatch: pytest.MonkeyPatch,
    conflict: tuple[str, str],
    copy_from: int,
) -> None:
    """Retried: nobody sees it, whichever way the rows go in."""
    monkeypatch.setattr(postgres, "COPY_FROM", copy_from)
    async with rigged(tmp_path, own_url) as rig:
        await spoil(own_url, *refusing(*conflict, times=2))
        report = await rig.run(0)
        await rig.check_all(report)
        assert report.counts.downloaded == len(OBJECTS)
        await rig.heal()


@pytest.mark.parametrize(
    ("sqlstate", "words", "code"),
    [
        *((*conflict, "database_busy") for conflict in CONFLICTS.values()),
        ("53100", "could not extend file: No space left on device", "database"),
        ("42501", "permission denied for table objects", "database"),
    ],
    ids=[*CONFLICTS, "its disk full", "no permission"],
)
async def test_an_error_of_the_database_stays(
    tmp_path: Path, own_url: str, swift: None, sqlstate: str, words: str, code: str
) -> None:
    """6 after a bounded number of tries; the copies are in their places, and adopted when it works again."""
    async with rigged(tmp_path, own_url) as rig:
        await spoil(own_url, *refusing(sqlstate, words, times=1 << 30))
        report = await rig.run(6)
        assert report.error is not None
        assert (report.error.code, words in report.error.message) == (code, True)
        assert report.counts.downloaded == 0
        assert await rig.rows() == {}
        await spoil(own_url, "DROP TRIGGER refuses ON objects")
        await heal_by_adopting(rig, stored(rig))


@pytest.mark.parametrize("operation", ["list", "get"])
async def test_its_connections_are_cut_in_mid_run(tmp_path: Path, own_url: str, swift: None, operation: str) -> None:
    """As by a restart: connected anew, and the run ends well."""
    name = own_url.rpartition("/")[2].partition("?")[0]
    async with rigged(tmp_path, own_url) as rig:
        loop_safe = cut_connections(own_url, name)
        rig.server.faults = [Fault(operation, faults.after_awaiting(loop_safe, faults.sane), after=1, times=1)]
        report = await rig.run(0)
        await rig.check_all(report)
        assert report.counts.downloaded == len(OBJECTS)
        await rig.heal()


def cut_connections(url: str, name: str) -> Callable[[], Awaitable[None]]:
    query = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )
    return lambda: spoil(url, query)


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    with tempfile.TemporaryDirectory(prefix="ingest-tests-", ignore_cleanup_errors=True) as home:  # as `postgres_uri`
        server = Mortal(Path(home) / "pg")
        yield server
        server.stop()


async def test_killed_in_mid_run(tmp_path: Path, swift: None, mortal: Mortal) -> None:
    """It does not come back during the run: 6. Started again, the copies that were placed are adopted."""
    await schema.upgrade(mortal.url)
    async with rigged(tmp_path, mortal.url) as rig:
        rig.server.faults = [Fault("get", faults.after(mortal.kill, faults.sane), after=3, times=1)]
        report = await rig.run(6)
        assert report.error is not None
        placed = stored(rig)
        mortal.start()
        await heal_by_adopting(rig, placed)


@pytest.fixture
def short_busy_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PRAGMAS", ("busy_timeout=50", *sqlite.PRAGMAS[1:]))


@pytest.fixture
def holder() -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Another process that holds a SQLite file for writing; calls back to let it go."""
    script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('BEGIN IMMEDIATE')\nprint(flush=True)\ninput()"
    started: list[subprocess.Popen[str]] = []

    def hold(path: Path) -> Callable[[], None]:
        command = [sys.executable, "-c", script, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()

        def release() -> None:
            process.communicate("\n")

        return release

    yield hold
    for process in started:
        process.communicate("\n") if process.poll() is None else None


@pytest.mark.usefixtures("short_busy_timeout")
@pytest.mark.parametrize("when", ["from the start", "in mid-run"])
async def test_locked_by_another_process(rig: Rig, holder: Callable[[Path], Callable[[], None]], when: str) -> None:
    """Longer than the busy timeout: 6, and it says that another program holds it."""
    path = rig.settings.sqlite_path
    assert path is not None
    releases: list[Callable[[], None]] = []

    def lock() -> None:
        releases.append(holder(path))

    if when == "from the start":
        lock()
    rig.server.faults = [Fault("get", faults.after(lock, faults.sane), after=3, times=1)]
    report = await rig.run(6)
    assert report.error is not None
    assert (report.error.code, "locked" in report.error.message) == ("database_busy", True)
    placed = stored(rig)
    releases[0]()
    await heal_by_adopting(rig, placed)


async def test_locked_for_a_moment(rig: Rig, holder: Callable[[Path], Callable[[], None]]) -> None:
    """Within the busy timeout: nobody sees it."""
    path = rig.settings.sqlite_path
    assert path is not None
    asyncio.get_running_loop().call_later(0.2, holder(path))
    await rig.run(0)
    await rig.heal()


# The schema.


async def test_schema_missing(tmp_path: Path, postgres_url: str, swift: None) -> None:
    """PostgreSQL is never migrated by a run: 6, and the command to do it is named."""
    async with rigged(tmp_path, postgres_url) as rig:
        report = await rig.run(6)
        assert report.error is not None
        assert (report.error.code, report.error.hint) == ("schema_behind", "Run `ingest db upgrade`.")
        assert rig.server.asked == []
        await schema.upgrade(postgres_url)
        await rig.heal()


async def test_schema_behind(tmp_path: Path, postgres_url: str, swift: None) -> None:
    if len(schema.revisions()) < 2:
        pytest.skip("there is only one revision so far")
    await schema.upgrade(postgres_url, schema.revisions()[-2])
    async with rigged(tmp_path, postgres_url) as rig:
        report = await rig.run(6)
        assert report.error is not None
        assert (report.error.code, report.error.hint) == ("schema_behind", "Run `ingest db upgrade`.")
        await schema.upgrade(postgres_url)
        await rig.heal()


async def test_schema_behind_on_sqlite(rig: Rig) -> None:
    """The embedded catalog is migrated by the run itself."""
    await schema.downgrade(rig.settings.database_url.get_secret_value(), "base")
    await rig.run(0)
    await rig.heal()


async def test_schema_ahead(tmp_path: Path, own_url: str, swift: None) -> None:
    """Made by a newer version: refused, and nothing is written."""
    async with rigged(tmp_path, own_url) as rig:
        head = schema.revisions()[-1]
        await spoil(own_url, "UPDATE alembic_version SET version_num = '9999'")
        report = await rig.run(6)
        assert report.error is not None
        assert report.error.code == "schema_ahead"
        await spoil(own_url, f"UPDATE alembic_version SET version_num = '{head}'")
        await rig.heal()


async def test_schema_ahead_on_sqlite(rig: Rig) -> None:
    path = rig.settings.sqlite_path
    assert path is not None
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    report = await rig.run(6)
    assert report.error is not None
    assert report.error.code == "schema_ahead"
    assert path.read_bytes() == before
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", schema.revisions()[-1:])
    connection.close()
    await rig.heal()


async def test_no_database_at_all(rig: Rig) -> None:
    """The file is something else: 6, it is named, and left as it is."""
    path = rig.settings.sqlite_path
    assert path is not None
    kept = path.read_bytes()
    path.write_bytes(b"a letter to the bank" * 1000)
    report = await rig.run(6)
    assert report.error is not None
    assert "not a database" in report.error.message
    assert path.read_bytes() == b"a letter to the bank" * 1000
    path.write_bytes(kept)
    await rig.heal()
