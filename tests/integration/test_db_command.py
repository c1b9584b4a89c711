"""``ingest db upgrade`` and ``downgrade``: what they will do is said, a copy is kept, and nobody is at work meanwhile."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import migrations, schema
from ingest.errors import DatabaseError
from ingest.plan.identity import DirectoryMark
from ingest.store import identity
from tests.faults.databases import sqlite_file
from tests.fixtures.catalogs import source_of, start_run
from tests.fixtures.process import Done, run_ingest

NEWEST = migrations.revisions()[-1]
BEFORE = migrations.revisions()[-2]


async def db(home: Path, url: str, *arguments: str) -> Done:
    variables = {"DATABASE_URL": url, "INGEST_DATA_DIR": str(home / "data"), "XDG_STATE_HOME": str(home / "state")}
    return await run_ingest("db", *arguments, variables=variables, cwd=home)


def rows_of(file: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as opened:
        return opened.execute("SELECT endpoint, version_num FROM sources, alembic_version").fetchall()


async def noted(url: str) -> None:
    async with Catalog.open(url) as catalog:
        await source_of(catalog, "minio", "statements")


def copies(home: Path) -> list[Path]:
    return sorted(home.glob("catalog.db.*.bak"))


async def test_an_upgrade_says_what_it_does_and_keeps_a_copy(tmp_path: Path, database_url: str) -> None:
    await schema.upgrade(database_url)
    await noted(database_url)
    await schema.downgrade(database_url, "0006")
    for left in copies(tmp_path):
        left.unlink()
    tried = await db(tmp_path, database_url, "upgrade", "--dry-run")
    assert (tried.code, await schema.current(database_url), copies(tmp_path)) == (0, "0006", []), tried.stderr
    done = await db(tmp_path, database_url, "upgrade")
    assert (done.code, await schema.current(database_url)) == (0, NEWEST), done.stderr
    for said in (tried, done):
        assert f"from 0006 to {NEWEST}" in said.stdout
        assert all(f"{step.revision}: {step.does}" in said.stdout for step in migrations.way_up("0006"))
    file = sqlite_file(database_url)
    if file is None:
        return
    (kept,) = copies(tmp_path)
    assert str(kept) in done.stdout
    assert "0006" in kept.name
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert rows_of(kept) == [("minio", "0006")]
    assert rows_of(file) == [("minio", NEWEST)]
    again = await db(tmp_path, database_url, "upgrade")
    assert (again.code, copies(tmp_path), again.stdout) == (0, [kept], f"The schema is at {NEWEST}.\n")


async def test_what_is_in_the_log_only_is_copied_too(tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    url = f"sqlite+aiosqlite:///{file}"
    await schema.upgrade(url)
    await schema.downgrade(url, "0006")
    with closing(sqlite3.connect(file, isolation_level=None)) as another:
        another.execute("PRAGMA wal_autocheckpoint = 0")
        another.execute("INSERT INTO sources (endpoint, bucket) VALUES ('minio', 'in the log')")
        kept = await schema.upgrade(url)
    assert kept is not None
    assert rows_of(kept) == [("minio", "0006")]


async def test_the_first_use_of_a_newer_version_keeps_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    await schema.upgrade(url)
    await schema.downgrade(url, "0006")
    for left in copies(tmp_path):
        left.unlink()
    await noted(url)
    (kept,) = copies(tmp_path)
    assert caplog.text.count("catalog_migrated") == 1
    assert str(kept) in caplog.text


async def test_where_no_copy_can_be_kept_nothing_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    await schema.upgrade(url)
    await schema.downgrade(url, "0006")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    before = copies(tmp_path)
    with pytest.raises(DatabaseError, match="No space left") as raised:
        await schema.upgrade(url)
    assert "Nothing was migrated" in raised.value.hint
    monkeypatch.undo()
    assert (await schema.current(url), copies(tmp_path), list(tmp_path.glob("*.new"))) == ("0006", before, [])


async def test_a_downgrade_says_what_is_lost(tmp_path: Path, database_url: str) -> None:
    await schema.upgrade(database_url)
    tried = await db(tmp_path, database_url, "downgrade", "0006", "--dry-run")
    assert (tried.code, await schema.current(database_url)) == (0, NEWEST), tried.stderr
    done = await db(tmp_path, database_url, "downgrade", "0006", "--json")
    assert (done.code, await schema.current(database_url)) == (0, "0006"), done.stderr
    document = json.loads(done.stdout)
    assert (document["from"], document["to"], document["revision"]) == (NEWEST, "0006", "0006")
    undone = [step.revision for step in reversed(migrations.way_up("0006"))]
    assert [step["revision"] for step in document["steps"]] == undone
    for said in (tried.stdout, done.stderr):
        assert all(step.loses in said for step in migrations.way_up("0006"))
    if sqlite_file(database_url) is not None:
        assert rows_of(Path(document["copy"])) == []
        assert Path(document["copy"]).name.startswith(f"catalog.db.{NEWEST}-")


@pytest.mark.parametrize(
    ("arguments", "code", "at"),
    [
        ([], 2, NEWEST),
        (["--yes"], 0, BEFORE),
        (["base"], 2, NEWEST),
        (["base", "--yes"], 0, None),
        (["7777"], 2, NEWEST),
        ([NEWEST], 2, NEWEST),
    ],
)
async def test_nothing_is_lost_unasked(tmp_path: Path, arguments: list[str], code: int, at: str | None) -> None:
    """Without a revision, and for all of it, somebody has to say so."""
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    await schema.upgrade(url)
    done = await db(tmp_path, url, "downgrade", *arguments)
    assert (done.code, await schema.current(url)) == (code, at), done.output


async def test_no_downgrade_while_runs_are_at_work(tmp_path: Path, database_url: str) -> None:
    await schema.upgrade(database_url)
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "minio", "statements")
        await start_run(catalog, "consume", {}, source.id)
    refused = await db(tmp_path, database_url, "downgrade", "0006")
    assert (refused.code, await schema.current(database_url)) == (11, NEWEST), refused.output
    assert "consume (run 1, pid" in refused.stderr


async def test_where_no_catalog_was_ever_made(tmp_path: Path) -> None:
    """There is no backup to put back, and nothing to attach; where there was one, there is."""
    url = f"sqlite+aiosqlite:///{tmp_path}/data/.ingest/catalog.db"
    settings = {"DATABASE_URL": url, "INGEST_DATA_DIR": f"{tmp_path}/data", "XDG_STATE_HOME": f"{tmp_path}/state"}
    commands = (("source", "list"), ("source", "forget", "1"), ("source", "rename", "a", "b"))
    for command in (*commands, ("db", "check"), ("db", "downgrade")):
        done = await run_ingest(*command, variables=settings, cwd=tmp_path)
        assert (done.code, "`ingest sync` makes it" in done.stderr) == (6, True), (command, done.stderr)
    identity.write_inside(tmp_path / "data", DirectoryMark("1" * 32, "2" * 32, url))
    for command in commands:
        done = await run_ingest(*command, variables=settings, cwd=tmp_path)
        assert (done.code, "Put its backup back" in done.stderr) == (6, True), (command, done.stderr)
