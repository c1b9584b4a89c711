"""What cleanup must never remove, whatever the clock says and whenever it is killed. On both databases."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from ingest.catalog import pruning
from ingest.catalog.catalog import Catalog
from ingest.catalog.copies import copies_of
from ingest.catalog.schema.tables import deliveries, sources
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.errors import ClockUntrusted
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.source.clock import server_time
from ingest.tasks.stop import Stop
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.catalogs import source_of, writing
from tests.fixtures.databases import migrate
from tests.fixtures.servers import Bucket


@pytest.fixture
async def settings(weed: Bucket, database_url: str, tmp_path: Path) -> Settings:
    """Three objects, downloaded just now."""
    await migrate(database_url)
    await weed.put({"a": b"1", "b": b"22", "c": b"333"})
    found = weed.settings(tmp_path / "data", database_url=database_url)
    assert (await sync(found, SyncOptions(), progress=Silence(), stop=Stop())).status is RunStatus.OK
    return found


async def prune(settings: Settings, *, shift: timedelta = timedelta(0), **options: object) -> RunReport:
    """A cleanup of everything at least a second old, on a clock that is `shift` off."""
    age = options.pop("older_than", timedelta(0))
    wanted = CleanupOptions(age, **options)  # type: ignore[arg-type]
    return await cleanup(settings, wanted, progress=Silence(), stop=Stop(), clock=lambda: datetime.now(UTC) + shift)


def left(settings: Settings) -> set[str]:
    root = settings.data_dir / settings.bucket
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


async def state_of(settings: Settings, key: str) -> tuple[str, bool]:
    """The row's state, and whether a cleanup's intent stands on it."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        row = (await copies_of(catalog, source.id, [key]))[key]
        return row.state, row.pruning


async def test_a_clock_that_jumped_removes_nothing(settings: Settings) -> None:
    for days, trust_catalog in itertools.product((-40, 40), (False, True)):
        for _ in range(2):  # the refused run must not become the evidence for the next
            report = await prune(settings, shift=timedelta(days=days), trust_catalog=trust_catalog, trust_clock=True)
            assert isinstance(report.error, ClockUntrusted)
            assert (report.exit_code, report.counts.pruned) == (4, 0)
            assert "clock" in report.error.message
            assert "--trust-clock" in report.error.hint
    assert left(settings) == {"a", "b", "c"}
    # The clock is set: the retention goes on as if nothing had been.
    assert (await prune(settings, older_than=timedelta(days=30))).counts.pruned == 0
    assert (await prune(settings)).counts.pruned == 3


@asynccontextmanager
async def without_a_date(settings: Settings) -> AsyncIterator[Settings]:
    """The same bucket at a server that does not say what time it is."""
    async with raw_server(lambda visit: visit.answer()) as silent:
        async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
            await connection.exec_driver_sql(f"UPDATE sources SET endpoint = '127.0.0.1:{silent.port}'")
        yield settings.model_copy(update={"endpoint": f"127.0.0.1:{silent.port}"})


async def test_a_clock_ahead_is_seen_without_the_servers_help(settings: Settings) -> None:
    async with without_a_date(settings) as mute:
        for _ in range(2):
            ahead = await prune(mute, shift=timedelta(days=40), trust_catalog=True)
            assert isinstance(ahead.error, ClockUntrusted)
            assert "does not say" in ahead.error.message
        assert (await prune(mute, trust_catalog=True)).counts.pruned == 3


@pytest.mark.parametrize("days", [-40, 40])
async def test_an_operators_word_settles_it(settings: Settings, days: int) -> None:
    """Where no server says what time it is. A dry run settles nothing."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(sources).values(clock_at=datetime.now(UTC) + timedelta(days=days)))
    async with without_a_date(settings) as mute:

        async def prune_one(*, trust_clock: bool = False, dry_run: bool = False) -> RunReport:
            return await prune(mute, trust_catalog=True, max_delete=1, trust_clock=trust_clock, dry_run=dry_run)

        assert isinstance((await prune_one()).error, ClockUntrusted)
        assert (await prune_one(trust_clock=True, dry_run=True)).exit_code == 0
        assert isinstance((await prune_one()).error, ClockUntrusted)
        assert (await prune_one(trust_clock=True)).counts.pruned == 1
        assert (await prune_one()).counts.pruned == 1


async def test_the_servers_word_settles_it_as_well(settings: Settings) -> None:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(sources).values(clock_at=datetime.now(UTC) + timedelta(days=40)))
    assert (await prune(settings)).counts.pruned == 3


async def test_any_answer_tells_the_servers_time(tmp_path: Path) -> None:
    """A key that is limited to one prefix is refused a HEAD of the bucket; the refusal has a date as well."""
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    async def refuses(visit: Visit) -> None:
        await visit.answer(status="403 Forbidden", headers=f"Date: {date:%a, %d %b %Y %H:%M:%S} GMT\r\n")

    async with raw_server(refuses) as server:
        bucket = Bucket(f"http://127.0.0.1:{server.port}", "statements")
        assert await server_time(bucket.settings(tmp_path).source) == date
        assert b"uthorization" not in server.heads[0]
    assert await server_time(bucket.settings(tmp_path).source) is None  # nobody answers any more


async def test_the_only_copy_stays(weed: Bucket, settings: Settings) -> None:
    await weed.delete("a")
    await weed.put({"b": b"another version"})
    report = await prune(settings)
    assert (report.counts.pruned, report.counts.kept, left(settings)) == (1, 2, {"a", "b"})


async def test_max_delete_bounds_each_run(settings: Settings) -> None:
    for most, pruned, kept in ((0, 0, 3), (2, 2, 1), (2, 1, 0)):
        report = await prune(settings, max_delete=most)
        assert (report.counts.pruned, report.counts.kept, len(left(settings))) == (pruned, kept, kept)


async def test_undelivered_copies_stay_where_delivery_is_on(settings: Settings) -> None:
    states = {"a": "pending", "b": "dead", "c": "delivered"}
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        rows = await copies_of(catalog, source.id, list(states))
        async with writing(catalog) as connection:
            for key, state in states.items():
                target = "https://verify.example.com/v1/verify"
                values = {"source_id": source.id, "key": key, "etag": rows[key].remote.etag, "target": target}
                await connection.execute(insert(deliveries).values(**values, state=state))
    delivering = settings.model_copy(update={"verify_url": "https://verify.example.com/v1/verify"})
    report = await prune(delivering)
    assert (report.counts.pruned, report.counts.kept, left(settings)) == (1, 2, {"a", "b"})
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, writing(catalog) as connection:
        await connection.execute(update(deliveries).where(deliveries.c.key == "a").values(state="rejected"))
    assert (await prune(delivering)).counts.pruned == 1
    assert (await prune(settings)).counts.pruned == 1  # nobody waits for it: delivery is off


async def test_a_delivery_queued_meanwhile_keeps_its_copy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    delivering = settings.model_copy(update={"verify_url": "https://verify.example.com/v1/verify"})
    intend = pruning.intend

    async def queued_just_before(catalog: Catalog, source_id: int, copies: object, **more: object) -> set[str]:
        row = (await copies_of(catalog, source_id, ["b"]))["b"]
        async with writing(catalog) as connection:
            values = {"source_id": source_id, "key": "b", "etag": row.remote.etag, "target": "t", "state": "pending"}
            await connection.execute(insert(deliveries).values(**values))
        return await intend(catalog, source_id, copies, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning, "intend", queued_just_before)
    report = await prune(delivering)
    assert (report.counts.pruned, report.counts.kept, left(settings)) == (2, 1, {"b"})


async def killed_after_the_intent(settings: Settings, keys: list[str]) -> None:
    """What a SIGKILL leaves between the intent and the unlink."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        copies = list((await copies_of(catalog, source.id, keys)).values())
        at = datetime.now(UTC)
        assert await pruning.intend(catalog, source.id, copies, at=at, delivering=False) == set(keys)


async def test_a_cleanup_killed_between_intent_and_end_is_ended_by_the_next(weed: Bucket, settings: Settings) -> None:
    await killed_after_the_intent(settings, ["a", "b", "c"])
    (settings.data_dir / settings.bucket / "a").unlink()
    (settings.data_dir / settings.bucket / "b").unlink()
    await weed.delete("b", "c")  # what is left of these two is, or was, the only copy
    shown: list[tuple[str, str]] = []
    await prune(settings, dry_run=True, on_prune=lambda verb, line: shown.append((verb, line.split()[0])))
    assert shown == [("prune", "a"), ("prune", "b"), ("keep", "c")]
    report = await prune(settings)
    assert (report.counts.pruned, report.counts.kept, left(settings)) == (2, 1, {"c"})
    states = [await state_of(settings, key) for key in "abc"]
    assert states == [("pruned", False), ("pruned", False), ("present", False)]


async def test_a_restore_gives_up_an_intent(settings: Settings) -> None:
    await killed_after_the_intent(settings, ["a"])
    (settings.data_dir / settings.bucket / "a").unlink()
    back = await restore(settings, RestoreOptions(("a",)), progress=Silence(), stop=Stop())
    assert (back.counts.restored, left(settings)) == (1, {"a", "b", "c"}), back.error
    assert await state_of(settings, "a") == ("present", False)


async def test_a_copy_replaced_since_it_was_looked_at_is_not_intended(settings: Settings) -> None:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        seen = (await copies_of(catalog, source.id, ["a"]))["a"]
        stale = seen._replace(remote=seen.remote._replace(etag="an-older-one"))
        assert await pruning.intend(catalog, source.id, [stale], at=datetime.now(UTC), delivering=False) == set()
        assert await pruning.intend(catalog, source.id, [seen], at=datetime.now(UTC), delivering=False) == {"a"}
