"""A catalog with more runs than anybody looks at: nothing that begins or is asked reads them all, and old ones go."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ingest.catalog import audit, trimming
from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.driver import Dialect, Statement, Steps
from ingest.engine.options import (
    CleanupOptions,
    DeliverOptions,
    HoldOptions,
    RestoreOptions,
    SyncOptions,
    VerifyOptions,
)
from ingest.jobs import hold, show
from ingest.jobs.cleanup import cleanup
from ingest.jobs.deliver import deliver
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.behind import KEPT_MARKS
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.faults.rig import Rig, rigged

MANY = 20_000
OLD = datetime(2020, 1, 1, tzinfo=UTC)
_PUT_RUN = (
    "INSERT INTO runs (source_id, command, arguments, host, pid, started_at, heartbeat_at, finished_at, status, counts) "
    "VALUES (?, ?, ?, 'elsewhere', 1, ?, ?, ?, ?, '{}')"
)

_READ = (
    "SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid) "
    "FROM pg_stat_user_tables t WHERE relname = 'runs'"
)


@pytest.fixture
async def rig(tmp_path: Path, each_url: str, swift: None) -> Any:
    async with rigged(tmp_path, each_url) as made:
        made.settings = made.settings.model_copy(update={"verify_url": "http://127.0.0.1:9/v1/verify"})
        await made.run(0)
        yield made


async def write(settings: Settings, *statements: Statement) -> list[Any]:
    """Runs them in one transaction; the rows of the last."""

    def work(_dialect: Dialect) -> Steps[list[Any]]:
        rows: list[Any] = []
        for statement in statements:
            rows = yield statement
        return rows

    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        return await catalog.driver.write(work)


async def put_runs(settings: Settings, number: int, command: str, at: datetime, **told: Any) -> None:
    """So many ended runs of a command, a second apart."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        time = catalog.driver.dialect.time
        status = told.pop("status", "ok")
        rows = [
            (1, command, json.dumps(told), moment, moment, moment, status)
            for moment in (time(at + timedelta(seconds=number)) for number in range(number))
        ]

        def work(_dialect: Dialect) -> Steps[None]:
            yield Statement(_PUT_RUN, rows=rows)

        await catalog.driver.write(work)


async def count(settings: Settings, what: str) -> int:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        return int((await catalog.driver.fetch(f"SELECT count(*) FROM {what}"))[0][0])


def commands(own: Settings) -> dict[str, Callable[[], Awaitable[Any]]]:
    quiet: dict[str, Any] = {"progress": Silence(), "stop": Stop()}
    at_once = timedelta(0)
    return {
        "sync": lambda: sync(own, SyncOptions(), **quiet),
        "cleanup": lambda: cleanup(own, CleanupOptions(at_once), **quiet),
        "restore": lambda: restore(own, RestoreOptions(("letter.pdf",)), **quiet),
        "verify": lambda: verify(own, VerifyOptions(), **quiet),
        "deliver": lambda: deliver(own, DeliverOptions(), **quiet),
        "hold": lambda: hold.hold(own, HoldOptions(("index.txt",), reason="audit")),
        "status": lambda: show.status(own),
        "runs": lambda: show.runs(own, 20),
        "history": lambda: show.history(own, "letter.pdf"),
    }


async def test_nothing_that_begins_reads_all_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await put_runs(rig.settings, MANY, "deliver", datetime.now(UTC) - timedelta(days=1))
    rig.server.objects.pop("zz/last.pdf")  # so that the sync asks what the listing before it missed
    work = Work()
    if rig.settings.sqlite_path is not None:
        monkeypatch.setattr(sqlite3, "connect", work.counting(sqlite3.connect))
    else:
        await write(rig.settings, Statement("ANALYZE runs"))
    for name, command in commands(rig.settings).items():
        before = work.taken, await read(rig.settings)
        report = await command()
        assert not isinstance(report, RunReport) or report.error is None, (name, report.error)
        assert work.taken - before[0] < 2 * MANY, name
        assert await read(rig.settings) - before[1] < MANY // 2, name


class Work:
    """How much SQLite has worked: to read one row takes it several work."""

    taken = 0

    def counting(self, connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def tick() -> None:
            self.taken += 100

        def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_progress_handler(tick, 100)
            return connection

        return connected


async def read(settings: Settings) -> int:
    """How many rows of the runs, or of their indexes, PostgreSQL has read."""
    if settings.sqlite_path is not None:
        return 0
    connection = await asyncpg.connect(settings.database_url.get_secret_value().replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval(_READ))
    finally:
        await connection.close()


async def test_status_knows_the_last_run_of_each_command(rig: Rig) -> None:
    """Whatever ran since, and however often: also where somebody only looked what a sync would do."""
    await put_runs(rig.settings, 300, "deliver", datetime.now(UTC))
    await put_runs(rig.settings, 60, "sync", datetime.now(UTC), dry_run=True)
    await put_runs(rig.settings, 3, "verify", datetime.now(UTC), dry_run=True)
    last = (await show.status(rig.settings))["last_runs"]
    assert [(run["command"], bool(run["arguments"].get("dry_run"))) for run in last] == [
        ("verify", True),
        ("sync", True),
        ("deliver", False),
        ("sync", False),
    ]
    assert last[-1]["id"] == 1


async def prune(settings: Settings, **options: Any) -> RunReport:
    report = await cleanup(settings, CleanupOptions(**options), progress=Silence(), stop=Stop())
    assert report.error is None
    return report


async def test_old_runs_go_and_what_is_needed_of_them_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "_READ_AT_ONCE", 7)
    monkeypatch.setattr(trimming, "_AT_ONCE", 3)
    monkeypatch.setattr(trimming, "MOST", 30)
    own = rig.settings
    await put_runs(own, 20, "sync", OLD)
    await put_runs(own, 12, "sync", OLD, dry_run=True, status="failed")
    await put_runs(own, 1, "backfill", OLD, status="interrupted")
    unfinished = (await ids(own, "backfill"))[0]
    shard = Statement(
        'INSERT INTO shards (run_id, prefix, level, start_after, "end", cursor, done) VALUES (?, ?, ?, ?, ?, ?, ?)',
        rows=[(2, "", False, "", None, "", True), (unfinished, "", False, "", None, "", False)],
    )
    await write(own, shard)
    await put_runs(own, 3, "backfill", OLD, prefix="other/")
    await put_runs(own, KEPT_MARKS, "verify", datetime.now(UTC))  # those that the data directory has noted
    events = await count(own, "events")
    assert (await prune(own, dry_run=True)).notes["trimmed_runs"] == 30
    assert await count(own, "runs WHERE command = 'sync'") == 33
    report = await prune(own)
    assert report.notes["trimmed_runs"] == 30
    assert {"trimmed_deliveries", "trimmed_answers"}.isdisjoint(report.notes)
    assert (await prune(own)).notes["trimmed_runs"] == 2
    # The first sync is of today, and stays; so do the last one, that ended well, and was no dry run.
    assert await ids(own, "sync") == [1, 21, 33]
    assert len(await ids(own, "backfill")) == 2  # one has something left to do, the other is the last
    assert await count(own, "shards WHERE run_id <> 1") == 1
    assert "trimmed_runs" not in (await prune(own)).notes
    assert await count(own, "events") == events
    async with Catalog.open(own.database_url.get_secret_value()) as catalog:
        assert await audit.broken_links(catalog.driver) == []


async def test_an_unfinished_backfill_goes_with_the_one_that_has_ended_it(rig: Rig) -> None:
    """Outliving it, the next `--resume` would list no more than what had been left then."""
    own = rig.settings
    await put_runs(own, 2, "backfill", OLD, status="interrupted", prefix="a/")
    await put_runs(own, 1, "backfill", OLD, status="interrupted", prefix="b/")
    stopped = await ids(own, "backfill")
    shards = 'INSERT INTO shards (run_id, prefix, level, start_after, "end", cursor, done) VALUES (?, ?, ?, ?, ?, ?, ?)'
    await write(own, Statement(shards, rows=[(number, "", False, "", None, "", False) for number in stopped]))
    await put_runs(own, 1, "backfill", OLD + timedelta(days=1), prefix="a/")
    await put_runs(own, KEPT_MARKS, "backfill", datetime.now(UTC), prefix="c/")
    await prune(own)
    assert (await ids(own, "backfill"))[:-KEPT_MARKS] == [stopped[2]]
    async with Catalog.open(own.database_url.get_secret_value()) as catalog:
        assert await catalog.to_go_on(1, "backfill", {"prefix": "a/"}, 10_000) is None


async def ids(settings: Settings, command: str) -> list[int]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        return [
            row[0] for row in await catalog.driver.fetch("SELECT id FROM runs WHERE command = ? ORDER BY id", command)
        ]


async def test_settled_deliveries_go_once_another_version_is_recorded(rig: Rig) -> None:
    """The recorded version keeps its row, without the answer: nobody is to deliver it again."""
    own, recorded = rig.settings, (await rig.rows())["letter.pdf"]["etag"]
    old, new = OLD, datetime.now(UTC)
    rows = [
        ("letter.pdf", recorded, "t", "delivered", old),
        ("letter.pdf", "older", "t", "delivered", old),
        ("letter.pdf", "oldest", "t", "rejected", old),
        ("letter.pdf", "waits", "t", "pending", old),
        ("letter.pdf", "young", "t", "delivered", new),
        ("letter.pdf", "older", "elsewhere", "delivered", old),  # the newest that this address took
        ("forgotten.pdf", "e", "t", "dead", old),
    ]
    async with Catalog.open(own.database_url.get_secret_value()) as catalog:
        time = catalog.driver.dialect.time
    put = "INSERT INTO deliveries (source_id, key, etag, target, state, created_at, response) VALUES (1, ?, ?, ?, ?, ?, 'ok')"
    await write(own, Statement(put, rows=[(*row[:4], time(row[4])) for row in rows]))
    notes = (await prune(own)).notes
    assert (notes["trimmed_deliveries"], notes["trimmed_answers"]) == (3, 2)
    async with Catalog.open(own.database_url.get_secret_value()) as catalog:
        left = await catalog.driver.fetch("SELECT etag, target, response IS NULL FROM deliveries ORDER BY id")
    assert [(etag, target, bool(blank)) for etag, target, blank in left] == [
        (recorded, "t", True),
        ("waits", "t", False),
        ("young", "t", False),
        ("older", "elsewhere", True),
    ]
