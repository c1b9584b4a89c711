"""The audit trail: whatever was done to an event behind the tool's back, `ingest db check` finds it. On both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from ingest.catalog import audit
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.model import Audit, RunStatus
from ingest.plan.clock import Reading
from tests.fixtures.catalogs import source_of, start_run, writing
from tests.fixtures.databases import migrate
from tests.fixtures.process import Done, run_ingest

COPIED = (
    "INSERT INTO events (id, at, run_id, source_id, key, what, detail, prev_hash, hash) "
    "SELECT {id}, at, run_id, source_id, 'forged', what, detail, prev_hash, hash FROM events WHERE id = 1"
)
UNREADABLE_ON_SQLITE = {
    "time in words": "UPDATE events SET at = 'xx' WHERE id = 2",
    "time as a number": "UPDATE events SET at = 2020 WHERE id = 2",
    "time beyond the calendar": "UPDATE events SET at = '0001-01-01 00:00:00+23:00' WHERE id = 2",
    "key of bytes": "UPDATE events SET key = CAST(key AS BLOB) WHERE id = 2",
    "hash of bytes": "UPDATE events SET hash = CAST(hash AS BLOB) WHERE id = 2",
    "what of bytes": "UPDATE events SET what = x'ff' WHERE id = 2",
}
UNREADABLE_ON_POSTGRESQL = {
    "time before the calendar": "UPDATE events SET at = at - interval '4000 years' WHERE id = 2",
    "the same date before Christ": "UPDATE events SET at = (to_char(at, 'YYYY-MM-DD HH24:MI:SS.US TZH') || ' BC')::timestamptz "
    "WHERE id = 2",
    "time beyond the calendar": "UPDATE events SET at = '20000-01-01 00:00:00+00' WHERE id = 2",
    "time without an end": "UPDATE events SET at = 'infinity' WHERE id = 2",
}
"""What no program of ours writes, and no library reads without complaint."""

FORGERIES: dict[str, Sequence[str]] = {
    "what": ["UPDATE events SET what = 'pruned' WHERE id = 2"],
    "key": ["UPDATE events SET key = 'another' WHERE id = 2"],
    "detail": ["UPDATE events SET detail = '{}' WHERE id = 2"],
    "time": ["UPDATE events SET at = '2020-01-01 00:00:00.000000' WHERE id = 2"],
    "last one edited": ["UPDATE events SET key = 'another' WHERE id = 4"],
    "first dropped": ["DELETE FROM events WHERE id = 1"],
    "dropped": ["DELETE FROM events WHERE id = 2"],
    "last dropped": ["DELETE FROM events WHERE id = 4"],
    "last two dropped": ["DELETE FROM events WHERE id > 2"],
    "all dropped": ["DELETE FROM events"],
    "reordered": [
        "UPDATE events SET id = 99 WHERE id = 2",
        "UPDATE events SET id = 2 WHERE id = 3",
        "UPDATE events SET id = 3 WHERE id = 99",
    ],
    "inserted": [
        "INSERT INTO events (id, at, run_id, source_id, key, what, detail, prev_hash, hash) "
        "SELECT 5, at, run_id, source_id, key, what, detail, prev_hash, hash FROM events WHERE id = 4"
    ],
    "inserted in front": [COPIED.format(id=0)],
    "inserted far in front": [COPIED.format(id=-(2**63))],
    "inserted at the very end": [COPIED.format(id=2**63 - 1)],
}


async def two_runs_with_two_events_each(catalog: Catalog) -> None:
    source = await source_of(catalog, "minio.example.com:9000", "statements")
    for number in (1, 2):
        run = await start_run(catalog, "sync", {}, source.id)
        lines = [Audit("downloaded", f"key {number}/{n}", {"etag": "e"}) for n in (1, 2)]
        await catalog.commit(Batch(run, source.id, source.bucket, datetime.now(UTC), audits=lines))
        await catalog.finish_run(run, RunStatus.OK, {}, None, Reading(datetime.now(UTC)))


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_trail_is_found(database_url: str, forgery: Sequence[str]) -> None:
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        await two_runs_with_two_events_each(catalog)
        assert await audit.broken_links(catalog.driver) == []
        async with writing(catalog) as connection:
            for statement in forgery:
                await connection.execute(text(statement))
        assert await audit.broken_links(catalog.driver) != []


async def assert_named(url: str, forgery: str) -> None:
    async with Catalog.open(url) as catalog:
        await two_runs_with_two_events_each(catalog)
        async with writing(catalog) as connection:
            await connection.execute(text(forgery))
        assert 2 in await audit.broken_links(catalog.driver)


@pytest.mark.parametrize("forgery", UNREADABLE_ON_SQLITE.values(), ids=UNREADABLE_ON_SQLITE)
async def test_an_unreadable_event_is_named(sqlite_url: str, forgery: str) -> None:
    await assert_named(sqlite_url, forgery)


@pytest.mark.parametrize("forgery", UNREADABLE_ON_POSTGRESQL.values(), ids=UNREADABLE_ON_POSTGRESQL)
async def test_an_unreadable_event_is_named_on_postgresql(emptied_postgres: str, forgery: str) -> None:
    await assert_named(emptied_postgres, forgery)


async def test_the_command_says_so(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    async with Catalog.open(url) as catalog:
        await two_runs_with_two_events_each(catalog)
        given = {"DATABASE_URL": url}
        sound = await run_ingest("db", "check", variables=given, cwd=tmp_path)
        assert (sound.code, "unbroken" in sound.stdout) == (0, True)
        assert await run_ingest("db", "check", "-q", variables=given, cwd=tmp_path) == Done(0, "", "")
        async with writing(catalog) as connection:
            await connection.execute(text("DELETE FROM events WHERE id = 4"))
    done = await run_ingest("db", "check", variables=given, cwd=tmp_path)
    assert done.code == 6
    assert "the audit trail is broken at event 4" in done.stderr
