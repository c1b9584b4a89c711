"""A PostgreSQL that gives no answer: neither the run nor its end waits for it for ever, and a lost lock is noticed."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from ingest.catalog import in_line
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.sql import advisory
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.url import Target
from ingest.engine import run as runs
from ingest.engine.transfer import session
from ingest.errors import DatabaseSilent, LockedError, LockLost
from ingest.testing import faults
from ingest.testing.memory_s3 import Fault
from tests.faults.mortal import Mortal
from tests.faults.proxy import Proxy, proxied
from tests.faults.rig import Rig, rigged, variables_of
from tests.fixtures.catalogs import source_of
from tests.fixtures.process import ended, started, until

_numbers = itertools.count(1)
QUICKLY = "command_timeout=2"
"""Seconds for each answer."""
STUCK = "2026/02/target.pdf"


@pytest_asyncio.fixture
async def url(freezing: Mortal) -> AsyncIterator[str]:
    """A catalog of its own in the server that can be frozen."""
    name = f"silent_{next(_numbers)}"
    connection = await asyncpg.connect(freezing.url.replace("+asyncpg", ""))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    made = urlsplit(freezing.url)._replace(path=f"/{name}").geturl()
    await schema.upgrade(made)
    yield made
    freezing.thaw()


@pytest_asyncio.fixture
async def rig(tmp_path: Path, url: str) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, f"{url}&{QUICKLY}") as made:
        yield made


def freezing_at(rig: Rig, freeze: object) -> None:
    rig.server.faults = [Fault("get", faults.after(freeze, faults.sane), STUCK, times=1)]  # type: ignore[arg-type]


async def test_frozen_in_mid_run(rig: Rig, freezing: Mortal) -> None:
    """Waited for, for twice as long as an answer may take; then 6, and the next run adopts what is in its place."""
    freezing_at(rig, freezing.freeze)
    report = await rig.run(6)
    assert report.error is not None
    assert report.error.code in ("database_silent", "lock_lost")
    freezing.thaw()
    await rig.heal()


async def test_frozen_from_the_start(rig: Rig, freezing: Mortal) -> None:
    freezing.freeze()
    report = await rig.run(6)
    assert report.error is not None
    assert report.error.code == "database_silent"
    assert rig.server.asked == []
    freezing.thaw()
    await rig.heal()


@pytest.mark.parametrize("command", ["status", "runs"])
async def test_what_only_asks_ends_as_well(rig: Rig, freezing: Mortal, command: str) -> None:
    freezing.freeze()
    assert (await rig.cli(command)).exit_code == 6


async def test_only_its_sessions_are_frozen(rig: Rig, freezing: Mortal) -> None:
    """New ones are let in, so the second try is by one of them."""
    freezing_at(rig, freezing.freeze_sessions)
    await rig.run(0)
    freezing.thaw()


async def test_the_locks_session_is_frozen(rig: Rig, freezing: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock still, and nobody can tell whether it will go on: 6."""
    monkeypatch.setattr(runs, "_HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(session, "GRACE", 0.1)
    rig.server.faults = [Fault("list", faults.after(freezing.freeze_sessions, faults.stall), times=1)]
    report = await rig.run(6)
    assert report.error is not None
    assert report.error.code == "lock_lost"
    freezing.thaw()
    await rig.heal()


@pytest.mark.parametrize("signals", [1, 2])
async def test_signals_while_it_is_frozen(tmp_path: Path, url: str, freezing: Mortal, signals: int) -> None:
    """The first one leaves it a moment, the second one none: here that would be an hour otherwise."""
    async with rigged(tmp_path, f"{url}&command_timeout={1 if signals == 1 else 3600}") as rig:
        freezing_at(rig, freezing.freeze)
        async with started("sync", "--json", variables=variables_of(rig.settings), cwd=rig.home) as process:
            await until(lambda: STUCK in rig.server.keys("get"))
            for number in (signal.SIGTERM, signal.SIGINT)[:signals]:  # two of a kind may become one
                process.send_signal(number)
            done = await ended(process, 50)
        assert done.code in ((6, 143) if signals == 1 else (143, 130)), done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout.count("\n") == 1
        freezing.thaw()
        await rig.heal()


async def test_the_first_signal_cuts_every_answer_short(
    url: str, freezing: Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a statement that waits already; after that it is asked no more than once, for a moment."""
    monkeypatch.setattr("ingest.catalog.sql.deadlines.HURRIED", 0.2)
    monkeypatch.setattr("ingest.catalog.sql.deadlines.HOPELESS", 0.1)
    async with open_driver(Target.of(f"{url}&command_timeout=3600")) as driver:
        asking = asyncio.create_task(driver.fetch("SELECT 1"))
        assert await asking == [(1,)]
        freezing.freeze()
        asking = asyncio.create_task(driver.fetch("SELECT 2", leisurely=True))
        await asyncio.sleep(0)
        driver.hurry()
        with pytest.raises(DatabaseSilent):
            await asking
        with pytest.raises(DatabaseSilent):
            await driver.fetch("SELECT 3")


# A firewall that forgets.


@pytest_asyncio.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    directory = parse_qs(urlsplit(url).query)["host"][0]
    socket = next(path for path in Path(directory).iterdir() if path.name.startswith(".s.PGSQL") and path.is_socket())
    async with proxied(str(socket)) as made:
        yield made


def through(proxy: Proxy, url: str) -> str:
    return f"postgresql+asyncpg://postgres@127.0.0.1:{proxy.port}{urlsplit(url).path}?{QUICKLY}&sslmode=disable"


async def test_a_firewall_forgets_the_idle_connections(url: str, proxy: Proxy) -> None:
    """All of them, so the second try is by a new one; nobody sees it."""
    async with open_driver(Target.of(through(proxy, url))) as driver:
        await asyncio.gather(*(driver.fetch("SELECT pg_sleep(0.1)") for _ in range(4)))
        proxy.forget()
        assert await asyncio.gather(*(driver.fetch("SELECT 1") for _ in range(4))) == [[(1,)]] * 4
        assert proxy.unheard > 0


async def test_a_firewall_forgets_the_locks_connection(
    tmp_path: Path, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat is not answered. The lock stays with the session that nobody reaches: 6, and nothing is written."""
    monkeypatch.setattr(runs, "_HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(session, "GRACE", 0.1)
    async with rigged(tmp_path, through(proxy, url)) as rig:
        rig.server.faults = [Fault("list", faults.after(proxy.forget, faults.stall), times=1)]
        report = await rig.run(6)
        assert report.error is not None
        assert report.error.code == "lock_lost"


# The lock.


_LOCKS = (
    "SELECT pid, granted, (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest_asyncio.fixture
async def administrator(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def other(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Another machine."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    yield connection
    await connection.close()


async def locks(administrator: asyncpg.Connection, number: int) -> list[asyncpg.Record]:
    """Those that are held or waited for, as soon as there are as many."""
    async with asyncio.timeout(30):
        while len(found := await administrator.fetch(_LOCKS)) < number:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    return list(found)


async def end_the_locks_session(administrator: asyncpg.Connection) -> int:
    """As an administrator, a timeout or a fail-over does. Returns whose it was."""
    ((pid,),) = await administrator.fetch(f"SELECT pid FROM ({_LOCKS}) WHERE granted")
    await administrator.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
    return int(pid)


async def test_a_lock_that_is_free_is_taken_again(url: str, administrator: asyncpg.Connection) -> None:
    async with open_driver(Target.of(url)) as driver, driver.lock("sync of source 1") as lock:
        assert lock is not None
        before = await end_the_locks_session(administrator)
        now = await locks(administrator, 1)
        assert now[0]["pid"] != before
        await driver.write(lambda _dialect: in_line.now())
        async with driver.lock("sync of source 1") as another:
            assert another is None


async def test_a_lock_that_another_has_is_lost_and_nothing_is_written(
    url: str, administrator: asyncpg.Connection, other: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run ends, and leaves the lock to the other."""
    monkeypatch.setattr(advisory, "_AGAIN_SECONDS", 0.1)
    async with Catalog.open(f"{url}&{QUICKLY}") as catalog, catalog.lock("sync of source 1") as lock:
        ((_, _, number),) = await administrator.fetch(_LOCKS)
        waiting = asyncio.create_task(other.execute(f"SELECT pg_advisory_lock({number})"))
        await locks(administrator, 2)
        await end_the_locks_session(administrator)
        await waiting
        with pytest.raises(LockLost):
            await source_of(catalog, "minio.example.com", "statements")
        with pytest.raises(LockLost):
            await lock.lost()
        with pytest.raises(LockedError):
            async with catalog.lock("sync of source 1"):
                pass
    assert await other.fetchval("SELECT count(*) FROM sources") == 0


async def test_a_run_that_was_overtaken_does_not_go_on(url: str, administrator: asyncpg.Connection) -> None:
    """Another one had the lock meanwhile, and has ended: it is free, and not ours any more."""
    async with Catalog.open(f"{url}&{QUICKLY}") as catalog, catalog.lock("sync of source 1") as lock:
        source = await source_of(catalog, "minio.example.com", "statements")
        lock.run = await catalog.begin_run("sync", {}, source, alone=True)
        await administrator.execute("UPDATE runs SET status = 'interrupted'")
        await end_the_locks_session(administrator)
        with pytest.raises(LockLost):
            await lock.lost()
