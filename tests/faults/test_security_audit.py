"""The audit trail: whatever was done to an event behind the tool's back, `ingest db check` finds it. On both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from ingest.catalog import queries, schema
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.model import Audit, Counts, RunStatus
from tests.fixtures.process import run_ingest

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
}


async def two_runs_with_two_events_each(catalog: Catalog) -> None:
    source = await catalog.source("minio.example.com:9000", "statements")
    for number in (1, 2):
        run = await catalog.start_run("sync", {}, source.id)
        lines = [Audit("downloaded", f"key {number}/{n}", {"etag": "e"}) for n in (1, 2)]
        await catalog.commit(Batch(run, source.id, source.bucket, datetime.now(UTC), audits=lines))
        await catalog.finish_run(run, RunStatus.OK, Counts(), None)


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_trail_is_found(database_url: str, forgery: Sequence[str]) -> None:
    await schema.upgrade(database_url)
    async with Catalog.open(database_url) as catalog:
        await two_runs_with_two_events_each(catalog)
        assert await queries.check_chain(catalog) == []
        async with catalog.writing() as connection:
            for statement in forgery:
                await connection.execute(text(statement))
        assert await queries.check_chain(catalog) != []


async def test_the_command_says_so(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    async with Catalog.open(url) as catalog:
        await two_runs_with_two_events_each(catalog)
        given = {"DATABASE_URL": url}
        assert (await run_ingest("db", "check", variables=given, cwd=tmp_path)).code == 0
        async with catalog.writing() as connection:
            await connection.execute(text("DELETE FROM events WHERE id = 4"))
    done = await run_ingest("db", "check", variables=given, cwd=tmp_path)
    assert done.code == 6
    assert "the audit trail is broken at event 4" in done.stderr
