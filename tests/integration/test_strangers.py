"""A database that is another application's, or no place for a catalog, is named as such and left as it is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.driver import Rows
from ingest.catalog.sql.strangers import revision
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseError, DatabaseUnfit, SchemaAhead, SchemaMissing
from tests.fixtures.catalogs import opened_once, source_of, writing
from tests.fixtures.process import Done, run_ingest

_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
ODD_TABLES = {
    "a contact list": "CREATE TABLE contacts (name TEXT)",
    "one of our names": "CREATE TABLE objects (id INTEGER)",
    "another's migrations": "CREATE TABLE alembic_version (version_num TEXT); "
    "INSERT INTO alembic_version VALUES ('8d2f6a1c0b7e')",
    "another's, by number": "CREATE TABLE alembic_version (version_num TEXT); "
    "INSERT INTO alembic_version VALUES ('0002'); CREATE TABLE users (id INTEGER)",
    "a file format of its own": "PRAGMA application_id = 1196444487",
}


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


async def refused(url: str) -> str:
    """By what opens and by what upgrades, alike."""
    said = []
    for attempt in (schema.upgrade, opened_once, schema.current):
        with pytest.raises(DatabaseUnfit) as error:
            await attempt(url)
        said.append(error.value.message)
    assert len(set(said)) == 1
    return said[0]


@pytest.mark.parametrize("statements", ODD_TABLES.values(), ids=ODD_TABLES)
async def test_a_strangers_file(tmp_path: Path, statements: str) -> None:
    path = tmp_path / "contacts.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(statements)
    connection.close()
    before = digest(path)
    assert "another application's" in await refused(url_of(path))
    assert digest(path) == before
    assert [found.name for found in tmp_path.iterdir()] == ["contacts.db"]


async def test_a_new_file_an_empty_one_and_a_downgraded_one(tmp_path: Path) -> None:
    """Are nobody's: a catalog is made in each."""
    (tmp_path / "empty.db").touch()
    for name in ("new.db", "empty.db"):
        await opened_once(url_of(tmp_path / name))
        await schema.downgrade(url_of(tmp_path / name), "base")
        await opened_once(url_of(tmp_path / name))
        assert await schema.current(url_of(tmp_path / name)) == schema.revisions()[-1]


@pytest_asyncio.fixture
async def administrator(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def tables(administrator: asyncpg.Connection) -> list[str]:
    return [
        row[0] for row in await administrator.fetch("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid > 16000")
    ]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (ODD_TABLES["another's migrations"], "its alembic_version (8d2f6a1c0b7e) is another application's"),
        (ODD_TABLES["another's, by number"], "its alembic_version (0002) is another application's"),
        (
            "CREATE TABLE events (id int); CREATE VIEW runs AS SELECT 1",
            "of our names that are none of a catalog: events, runs",
        ),
    ],
    ids=["revision", "number", "names"],
)
async def test_a_strangers_database(
    postgres_url: str, administrator: asyncpg.Connection, statements: str, said: str
) -> None:
    await administrator.execute(statements)
    before = await tables(administrator)
    assert said in await refused(postgres_url)
    assert await tables(administrator) == before


async def test_tables_that_are_in_nobodys_way(postgres_url: str, administrator: asyncpg.Connection) -> None:
    await administrator.execute(
        "CREATE TABLE contacts (name text); CREATE SCHEMA other; CREATE TABLE other.events (id int)"
    )
    await schema.upgrade(postgres_url)
    await opened_once(postgres_url)


async def test_a_catalog_of_a_later_version_is_no_strangers(database_url: str) -> None:
    await schema.upgrade(database_url)
    async with Catalog.open(database_url) as catalog, writing(catalog) as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for attempt in (schema.upgrade, opened_once):
        with pytest.raises(SchemaAhead, match="9999"):
            await attempt(database_url)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_an_encoding_that_does_not_hold_every_key(
    postgres_url: str, administrator: asyncpg.Connection, encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    await administrator.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    base, _, query = postgres_url.partition("?")
    assert f"its encoding is {encoding}" in await refused(f"{base.rpartition('/')[0]}/{name}?{query}")


async def test_a_catalog_in_a_schema_of_its_own(postgres_url: str, administrator: asyncpg.Connection) -> None:
    """As search_path says; where that leads elsewhere it is not made a second time without a word of the first."""
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    await administrator.execute(f"ALTER DATABASE {database} SET search_path = ingest")
    with pytest.raises(DatabaseUnfit, match="search_path names no schema"):
        await schema.upgrade(postgres_url)
    await administrator.execute("CREATE SCHEMA ingest")
    await schema.upgrade(postgres_url)
    await opened_once(postgres_url)
    await administrator.execute(f"ALTER DATABASE {database} RESET search_path")
    with pytest.raises(SchemaMissing, match=r"there is a catalog in: ingest\)"):
        await opened_once(postgres_url)


async def test_four_upgrades_at_once(tmp_path: Path, database_url: str) -> None:
    """From nothing: one does it, the others find it done."""

    async def upgrade() -> Done:
        return await run_ingest("db", "upgrade", variables={"DATABASE_URL": database_url}, cwd=tmp_path)

    for done in await asyncio.gather(*(upgrade() for _ in range(4))):
        assert (done.code, done.stderr) == (0, ""), done
    assert await schema.current(database_url) == schema.revisions()[-1]


async def test_a_catalog_that_is_made_between_two_questions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another upgrade: what is asked first is not there yet, what is asked next is."""
    async with open_driver(Target.of(postgres_url)) as driver:
        fetch, asked = driver.fetch, 0

        async def fetch_late(*question: Any) -> Rows:
            nonlocal asked
            asked += 1
            if asked == 2:
                await schema.upgrade(postgres_url)
            return await fetch(*question)

        monkeypatch.setattr(driver, "fetch", fetch_late)
        assert await revision(driver, "here", schema.our_tables) == schema.revisions()[-1]


async def test_an_upgrade_waits_for_one_that_takes_its_time(
    postgres_url: str, administrator: asyncpg.Connection
) -> None:
    """Longer than any statement of a run may."""
    async with administrator.transaction():
        await administrator.execute("SELECT pg_advisory_xact_lock(hashtextextended('ingest schema', 0))")
        waiting = asyncio.create_task(schema.upgrade(f"{postgres_url}&command_timeout=1"))
        async with asyncio.timeout(30):
            while not await administrator.fetchval(_WAITING):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        done, _ = await asyncio.wait({waiting}, timeout=1.5)
        assert not done
    await waiting


# Files that are damaged, or may not be written.


@pytest.mark.parametrize("harm", ["cut short", "pages overwritten", "header overwritten"])
@pytest.mark.parametrize("command", ["sync", "status", "cleanup", "verify"])
async def test_a_damaged_file(tmp_path: Path, harm: str, command: str) -> None:
    """6 with a hint that is true, and no word of nothing being lost."""
    path = tmp_path / "data" / ".ingest" / "catalog.db"
    await opened_once(url_of(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = path.read_bytes()
    spoiled = {
        "cut short": content[: len(content) // 2],
        "pages overwritten": content[:4096] + b"\xff" * (len(content) - 4096),
        "header overwritten": b"\0" * 100 + content[100:],
    }[harm]
    path.write_bytes(spoiled)
    variables = {
        "INGEST_DATA_DIR": str(tmp_path / "data"),
        "S3_ENDPOINT": "http://127.0.0.1:1",
        "S3_BUCKET": "statements",
        "S3_ACCESS_KEY": "ours",
        "S3_SECRET_KEY": "hush-hush",
    }
    done = await run_ingest(command, variables=variables, cwd=tmp_path)
    assert done.code == 6, done.stderr
    assert "put the last backup in its place" in done.stderr
    assert "nothing that was recorded is lost" not in done.stderr.lower()
    assert "Traceback" not in done.stderr


async def test_the_check_finds_what_no_command_has_read_yet(tmp_path: Path) -> None:
    """One page of an index, say."""
    path = tmp_path / "catalog.db"
    await opened_once(url_of(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_dead_letters_key'")
    connection.close()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    done = await run_ingest("db", "check", variables={"DATABASE_URL": url_of(path)}, cwd=tmp_path)
    assert done.code == 6
    assert "put the last backup in its place" in done.stderr


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="Is a directory") as refused:
        await schema.upgrade(url_of(tmp_path))
    assert "wants a file" in refused.value.hint


async def test_a_database_that_may_only_be_read(postgres_url: str, administrator: asyncpg.Connection) -> None:
    database = postgres_url.partition("?")[0].rpartition("/")[2]
    await schema.upgrade(postgres_url)
    await administrator.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    async with Catalog.open(postgres_url) as catalog:
        with pytest.raises(DatabaseError, match="read-only") as refused:
            await source_of(catalog, "minio.example.com", "statements")
        assert "standby" in refused.value.hint
