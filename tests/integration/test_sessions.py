"""Sessions of PostgreSQL: whatever role, database or pooler make of them, they are as we need them, and few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.engine import create_engine
from ingest.catalog.sql import postgres
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.url import Target
from ingest.demo.broker import Broker
from ingest.demo.verify_service import VerifyService
from ingest.errors import DatabaseBusy, DatabaseUnfit
from ingest.model import Audit
from tests.faults.rig import OBJECTS, rigged
from tests.fixtures.catalogs import opened_once, source_of, start_run
from tests.fixtures.events import plain, run, sent, settings_for
from tests.fixtures.poolers import pooled
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket
from tests.fixtures.verify_service import run_deliver, run_sync

HOSTILE = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "datestyle": "German, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_indexscan": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "100ms",
    "idle_session_timeout": "100ms",
    "intervalstyle": "iso_8601",
    "jit_above_cost": "0",
    "lock_timeout": "1ms",
    "plan_cache_mode": "force_custom_plan",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "standard_conforming_strings": "off",
    "statement_timeout": "100ms",
    "synchronous_commit": "off",
    "timezone": "Asia/Kathmandu",
    "transaction_timeout": "100ms",
    "transform_null_equals": "on",
}
OURS = {
    "application_name": "ingest",
    "default_transaction_isolation": "read committed",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "2min",
    "lock_timeout": "24s",
    "standard_conforming_strings": "on",
    "statement_timeout": "10min",
    "synchronous_commit": "on",
    "transaction_timeout": "0",
}
_NUMBER_OF_OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ingest' AND datname = $1"


@pytest_asyncio.fixture
async def administrator(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


def name_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


async def be_hostile(administrator: asyncpg.Connection, url: str, **settings: str) -> None:
    for name, value in (settings or HOSTILE).items():
        await administrator.execute(f"ALTER DATABASE {name_of(url)} SET {name} = {value!r}")


async def test_each_session_says_what_it_needs(postgres_url: str, administrator: asyncpg.Connection) -> None:
    """The pool's, also when it was used before, and a migration's."""
    await schema.upgrade(postgres_url)
    await be_hostile(administrator, postgres_url)
    one_row = "SELECT " + ", ".join(f"current_setting('{name}')" for name in OURS)
    async with Catalog.open(postgres_url) as catalog:
        for _ in range(2):
            (found,) = await catalog.driver.fetch(one_row)
            assert dict(zip(OURS, found, strict=True)) == OURS
    async with create_engine(postgres_url).connect() as connection:
        (row,) = await connection.execute(text(one_row))
        assert dict(zip(OURS, row, strict=True)) == OURS


@pytest.mark.parametrize(("theirs", "ours"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_only_what_is_not_durable_is_overruled(
    postgres_url: str, administrator: asyncpg.Connection, theirs: str, ours: str
) -> None:
    await schema.upgrade(postgres_url)
    await be_hostile(administrator, postgres_url, synchronous_commit=theirs)
    async with Catalog.open(postgres_url) as catalog:
        assert await catalog.driver.fetch("SHOW synchronous_commit") == [(ours,)]


async def test_a_night_under_hostile_settings(
    tmp_path: Path, postgres_url: str, administrator: asyncpg.Connection, swift: None
) -> None:
    """From the upgrade to the audit trail's check, as if there were none."""
    await be_hostile(administrator, postgres_url)
    await schema.upgrade(postgres_url)
    async with rigged(tmp_path, postgres_url) as rig:
        report = await rig.run(0)
        assert report.counts.downloaded == len(OBJECTS)
        await rig.check_all(report)
        for command in (
            ["cleanup", "--older-than", "0d", "--trust-catalog"],
            ["restore", "--prefix", ""],
            ["db", "check"],
        ):
            assert (await rig.cli(*command)).exit_code == 0


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_the_audit_trail_is_one_chain(
    postgres_url: str, administrator: asyncpg.Connection, isolation: str
) -> None:
    """Two runs at once write it; with a snapshot from before its turn, one would not see the other's last event."""
    await schema.upgrade(postgres_url)
    await be_hostile(administrator, postgres_url, default_transaction_isolation=isolation)

    async def write() -> None:
        async with Catalog.open(postgres_url) as catalog:
            source = await source_of(catalog, "minio.example.com", "statements")
            run_id = await start_run(catalog, "sync", {}, source.id)
            for number in range(30):
                line = Audit("downloaded", f"k{number}", {})
                await catalog.driver.write(audit.appending(run_id, source.id, datetime.now(UTC), [line] * 3))

    await asyncio.gather(write(), write(), write())
    async with Catalog.open(postgres_url) as catalog:
        assert await audit.broken_links(catalog.driver) == []


# How many.


@asynccontextmanager
async def counted(url: str) -> AsyncIterator[list[int]]:
    """How many sessions of ours the server has, each time that it was asked."""
    found: list[int] = []
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))

    async def ask() -> None:
        while True:
            found.append(await connection.fetchval(_NUMBER_OF_OURS, name_of(url)))
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        yield found
    finally:
        asking.cancel()
        await asyncio.wait({asking})
        await connection.close()


async def test_one_process_holds_ten_connections_at_most(postgres_url: str, administrator: asyncpg.Connection) -> None:
    """However much is asked at once. The tenth is for a lock that is taken again while the server still has the old."""
    await schema.upgrade(postgres_url)
    async with Catalog.open(postgres_url) as catalog, catalog.lock("sync of source 1"):
        await asyncio.gather(*(catalog.driver.fetch("SELECT pg_sleep(0.05)") for _ in range(40)))
        found = await administrator.fetchval(_NUMBER_OF_OURS, name_of(postgres_url))  # none ends before the pool
    assert found == postgres.CONNECTIONS + 1 == 9


async def test_so_does_each_command(
    moto: Bucket,
    shared_broker: Broker,
    service: VerifyService,
    topic: str,
    tmp_path: Path,
    postgres_url: str,
) -> None:
    """All of its parts share one pool: listers, transfers, recorder, outbox, dead letters, and the lock beside it."""
    settings = await settings_for(moto, shared_broker, topic, tmp_path, postgres_url, verify_url=service.url)
    await shared_broker.create(topic, 3)
    await moto.put({f"{number % 7}/{number:03}": b"%d" % number for number in range(70)})
    async with counted(postgres_url) as found:
        assert (await run_sync(settings)).counts.downloaded == 70
        assert (await run_deliver(settings)).counts.delivered == 70
        keys = {f"new/{number:03}": b"%d" % number for number in range(30)}
        await moto.put(keys)
        await shared_broker.send(topic, [plain(key, moto.name) for key in keys] + [sent("k", b"no JSON")])
        assert (await run(settings)).counts.delivered == 30
    assert 2 <= max(found) <= 10


@pytest_asyncio.fixture
async def limited_url(postgres_url: str, administrator: asyncpg.Connection) -> AsyncIterator[str]:
    """For a role that may have one connection."""
    role = f"limited_{name_of(postgres_url)}"
    await administrator.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")
    await administrator.execute(f"ALTER DATABASE {name_of(postgres_url)} OWNER TO {role}")
    yield postgres_url.replace("//postgres:@", f"//{role}:@").replace("//postgres@", f"//{role}@")
    await administrator.execute(f"ALTER DATABASE {name_of(postgres_url)} OWNER TO postgres")
    await administrator.execute(f"DROP OWNED BY {role} CASCADE")
    await administrator.execute(f"DROP ROLE {role}")


async def test_too_many_connections_are_waited_for(limited_url: str) -> None:
    """Whoever has one gives it back; at the start another process does."""
    other = await asyncpg.connect(limited_url.replace("+asyncpg", ""))
    opening = asyncio.create_task(schema.current(limited_url))
    await asyncio.sleep(0.2)
    assert not opening.done()
    await other.close()
    assert await opening is None
    async with open_driver(Target.of(limited_url)) as driver:
        assert await asyncio.gather(*(driver.fetch("SELECT pg_sleep(0.05)::text") for _ in range(4))) == [[("",)]] * 4


async def test_too_many_connections_are_not_waited_for_for_ever(limited_url: str) -> None:
    other = await asyncpg.connect(limited_url.replace("+asyncpg", ""))
    with pytest.raises(DatabaseBusy, match="too many connections") as refused:
        await schema.current(f"{limited_url}&command_timeout=1")
    assert "10" in refused.value.hint
    await other.close()


async def test_a_connection_that_is_lost_in_a_copy(
    postgres_url: str, administrator: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole transaction is written by another one."""
    monkeypatch.setattr(postgres, "COPY_FROM", 1)
    await schema.upgrade(postgres_url)
    await administrator.execute(
        "CREATE SEQUENCE losses; CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('losses') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); END IF; "
        "RETURN NEW; END $$; CREATE TRIGGER loses BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION lose()"
    )
    async with Catalog.open(postgres_url) as catalog:
        source = await source_of(catalog, "minio.example.com", "statements")
        run_id = await start_run(catalog, "sync", {}, source.id)
        lines = [Audit("downloaded", f"k{number}", {}) for number in range(50)]
        await catalog.driver.write(audit.appending(run_id, source.id, datetime.now(UTC), lines))
        assert await catalog.driver.fetch("SELECT count(*) FROM events") == [(50,)]
        assert await audit.broken_links(catalog.driver) == []


# A pooler in between.


async def test_a_pooler_in_session_mode(tmp_path: Path, postgres_url: str, swift: None) -> None:
    """Everything, from the upgrade on; and the lock keeps others out, and is free when its holder has ended."""
    async with pooled(postgres_url, "session", tmp_path) as url:
        await schema.upgrade(url)
        home = tmp_path / "home"
        home.mkdir()
        async with rigged(home, url) as rig:
            report = await rig.run(0)
            await rig.check_all(report)
            for command in (["status"], ["cleanup", "--older-than", "0d", "--trust-catalog"], ["db", "check"]):
                assert (await rig.cli(*command)).exit_code == 0
        async with Catalog.open(url) as one, Catalog.open(url) as two:
            for _ in range(2):
                async with one.driver.lock("sync of source 1") as held, two.driver.lock("sync of source 1") as refused:
                    assert (held is None, refused is None) == (False, True)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("round_robin", [0, 1])
async def test_a_pooler_that_lends_sessions(tmp_path: Path, postgres_url: str, mode: str, round_robin: int) -> None:
    """Is named by whatever opens the catalog, at once and each time."""
    await schema.upgrade(postgres_url)
    async with pooled(postgres_url, mode, tmp_path, round_robin=round_robin) as url:
        for attempt in (schema.upgrade, opened_once, schema.current, opened_once, opened_once):
            with pytest.raises(DatabaseUnfit, match="pooler") as refused:
                await attempt(url)
            assert "pool_mode = session" in refused.value.hint


async def test_a_pooler_that_lends_sessions_is_named_on_the_command_line(tmp_path: Path, postgres_url: str) -> None:
    await schema.upgrade(postgres_url)
    async with pooled(postgres_url, "transaction", tmp_path) as url:
        done = await run_ingest("db", "upgrade", variables={"DATABASE_URL": url}, cwd=tmp_path)
    assert done.code == 6
    assert "pooler" in done.stderr
    assert "Traceback" not in done.stderr
