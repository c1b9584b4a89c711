"""Holds by key and by prefix: who, why, since when, and what cleanup makes of them. On both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import CleanupOptions, HoldOptions, SyncOptions
from ingest.engine.record.copies import Copies
from ingest.errors import RowNotFound
from ingest.jobs import hold
from ingest.jobs.cleanup import cleanup
from ingest.jobs.sync import sync
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import reading, source_of, writing
from tests.fixtures.databases import migrate
from tests.fixtures.servers import Bucket


async def run_sync(settings: Settings) -> None:
    assert (await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())).status is RunStatus.OK


async def prune(settings: Settings, **options: object) -> RunReport:
    wanted = CleanupOptions(timedelta(0), **options)  # type: ignore[arg-type]
    return await cleanup(settings, wanted, progress=Silence(), stop=Stop())


async def place(settings: Settings, *keys: str, prefix: str | None = None, reason: str = "an audit") -> RunReport:
    return await hold.hold(settings, HoldOptions(keys, prefix, reason=reason))


async def release(settings: Settings, *keys: str, prefix: str | None = None) -> RunReport:
    return await hold.release(settings, HoldOptions(keys, prefix))


def left(settings: Settings) -> set[str]:
    root = settings.data_dir / settings.bucket
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


async def test_held_copies_outlive_the_retention(moto: Bucket, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    settings = moto.settings(tmp_path / "data", database_url=database_url)
    await moto.put({key: b"x" for key in ("one", "onerous", "p/1", "p/2", "q/1", "p_/1", "pX/1", "100%")})
    await run_sync(settings)
    assert (await place(settings, "one", "100%")).notes["held"] == 2
    assert (await place(settings, prefix="p/")).notes["held"] == 2
    assert (await place(settings, prefix="p_")).notes["held"] == 1  # `_` is no pattern
    assert (await place(settings, prefix="q/2")).notes["held"] == 0  # nothing yet: it comes later
    await moto.put({"p/3": b"later", "q/22": b"later", "q/3": b"later"})
    await run_sync(settings)

    report = await prune(settings)
    assert left(settings) == {"one", "100%25", "p/1", "p/2", "p/3", "p_/1", "q/22"}, report.error
    assert (report.counts.kept, report.counts.pruned) == (7, 4)

    found = await hold.holds(settings)
    assert [(line.key, line.is_prefix) for line in found] == [
        ("100%", False), ("one", False), ("p/", True), ("p_", True), ("q/2", True)
    ]  # fmt: skip
    assert {line.reason for line in found} == {"an audit"}
    assert all("@" in (line.placed_by or "") and line.placed_at for line in found)
    assert max(line.placed_at for line in found if line.placed_at) <= datetime.now(UTC)

    assert (await release(settings, "one")).exit_code == 0
    assert (await release(settings, prefix="p/")).exit_code == 0
    await prune(settings)
    assert left(settings) == {"100%25", "p_/1", "q/22"}
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        _, events = await story(catalog, source.id, "one")
        assert [event["what"] for event in events] == ["downloaded", "held", "released", "pruned"]
        assert '"reason": "an audit"' in events[1]["detail"]
        assert await audit.broken_links(catalog.driver) == []


async def test_what_is_not_known_is_neither_held_nor_released(weed: Bucket, tmp_path: Path) -> None:
    settings = weed.settings(tmp_path / "data")
    await weed.put({"a": b"x", "p/1": b"y"})
    await run_sync(settings)
    assert isinstance((await place(settings, "a", "typo")).error, RowNotFound)
    assert await hold.holds(settings) == []  # all or nothing
    await place(settings, "a")
    await place(settings, prefix="p/")
    for attempt in (release(settings, "a", "p/1"), release(settings, prefix="a"), release(settings, prefix="p")):
        assert isinstance((await attempt).error, RowNotFound)
    assert len(await hold.holds(settings)) == 2


async def test_a_second_hold_replaces_the_reason_and_a_bare_mark_is_obeyed(weed: Bucket, tmp_path: Path) -> None:
    settings = weed.settings(tmp_path / "data")
    await weed.put({"a": b"x", "b": b"y"})
    await run_sync(settings)
    await place(settings, "a", reason="first")
    await place(settings, f"s3://{weed.name}/a", reason="second")
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.exec_driver_sql("UPDATE objects SET hold = true WHERE key = 'b'")
    assert [(line.key, line.reason) for line in await hold.holds(settings)] == [("a", "second"), ("b", None)]
    assert (await prune(settings)).counts.kept == 2
    assert (await release(settings, "b")).exit_code == 0
    assert (await prune(settings)).counts.pruned == 1


@pytest.mark.parametrize("by_prefix", [True, False])
async def test_a_hold_placed_while_a_cleanup_decides_is_obeyed(
    weed: Bucket, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_prefix: bool
) -> None:
    await migrate(database_url)
    settings = weed.settings(tmp_path / "data", database_url=database_url)
    await weed.put({"a": b"x", "b": b"y"})
    await run_sync(settings)
    take = Copies._take

    async def held_just_before(copies: Copies) -> None:
        monkeypatch.setattr(Copies, "_take", take)
        await (place(settings, prefix="a") if by_prefix else place(settings, "a"))
        await take(copies)

    monkeypatch.setattr(Copies, "_take", held_just_before)
    report = await prune(settings)
    assert (report.counts.pruned, report.counts.kept) == (1, 1), report.error
    assert left(settings) == {"a"}


async def test_a_hold_and_an_intent_take_turns_on_postgresql(weed: Bucket, postgres_url: str, tmp_path: Path) -> None:
    """A hold that comes while an intent is written waits for its end, so that neither misses the other."""
    await migrate(postgres_url)
    settings = weed.settings(tmp_path / "data", database_url=postgres_url)
    await weed.put({"a": b"x"})
    await run_sync(settings)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'holds'::regclass")
    async with Catalog.open(postgres_url) as catalog, reading(catalog) as watching:
        async with writing(catalog) as intending:
            await intending.execute(text("LOCK TABLE holds, deliveries IN SHARE MODE"))  # as `pruning.intend` does
            placing = asyncio.create_task(place(settings, prefix="a"))
            while not placing.done() and (await watching.execute(waiting)).scalar_one() == 0:  # noqa: ASYNC110 - a lock
                await asyncio.sleep(0.01)  # that waits announces itself to nobody
            assert not placing.done()
        assert (await placing).exit_code == 0
