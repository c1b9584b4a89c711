"""The main job, byte for byte, on both databases and both kinds of S3 server."""

from __future__ import annotations

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.errors import DirectoryTaken
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import backfill, sync
from ingest.model import RunReport, RunStatus
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.catalogs import source_of, writing
from tests.fixtures.databases import migrate
from tests.fixtures.servers import Bucket


def body_of(key: str, size: int) -> bytes:
    return random.Random(key).randbytes(size)


def sizes() -> dict[str, int]:
    """500 objects from 0 bytes to 20 MiB; most are small, as statements are."""
    named = {f"statements/2026/{n % 12 + 1:02}/ACC-{n:05}.pdf": (n * 37) % 20_000 for n in range(494)}
    return named | {
        "empty": 0,
        "big.bin": 20 << 20,
        "just/small": 4 << 20,
        "just/large": (4 << 20) + 1,
        "a-b/x": 1,
        "a/x": 2,
    }


async def run_sync(settings: Settings, **options: object) -> RunReport:
    return await sync(settings, SyncOptions(**options), progress=Silence(), stop=Stop())  # type: ignore[arg-type]


def copies_on_disk(settings: Settings) -> dict[str, bytes]:
    root = settings.data_dir / settings.bucket
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_round_trip(weed: Bucket, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    settings = weed.settings(tmp_path / "data", database_url=database_url)
    objects = {key: body_of(key, size) for key, size in sizes().items()}
    await weed.put(objects)

    first = await run_sync(settings)
    assert (first.status, first.counts.downloaded, first.counts.failed) == (RunStatus.OK, 500, 0), first.error
    assert copies_on_disk(settings) == objects

    second = await run_sync(settings)
    assert (second.counts.downloaded, second.counts.unchanged, second.counts.listed) == (0, 500, 500)

    overwritten = {key: body + b"!" for key, body in list(objects.items())[:3]}
    await weed.put(overwritten | {"new/1": b"one", "new/2": b"two"})
    await weed.delete("empty")
    third = await run_sync(settings)
    assert (third.counts.changed, third.counts.new, third.counts.downloaded, third.counts.gone) == (3, 2, 5, 1)
    objects |= overwritten | {"new/1": b"one", "new/2": b"two"}
    assert copies_on_disk(settings) == objects

    pruned = await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    assert (pruned.counts.pruned, pruned.counts.kept) == (501, 1), pruned.error
    assert copies_on_disk(settings) == {"empty": b""}  # the only copy: gone from the bucket

    assert (await run_sync(settings)).counts.downloaded == 0

    options = RestoreOptions(("a/x", "big.bin"))
    back = await restore(settings, options, progress=Silence(), stop=Stop())
    assert (back.counts.restored, back.status) == (2, RunStatus.OK), back.error
    wanted = {"empty": b"", "a/x": objects["a/x"], "big.bin": objects["big.bin"]}
    assert copies_on_disk(settings) == wanted

    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        row, events = await story(catalog, source.id, "a/x")
        assert row is not None
        assert row["source_s3_path"] == f"s3://{settings.bucket}/a/x"
        assert row["digest"] == "md5:" + hashlib.md5(objects["a/x"]).hexdigest()
        assert [event["what"] for event in events] == ["downloaded", "pruned", "restored"]
        assert await audit.broken_links(catalog.driver) == []


async def test_keys_are_exact_on_a_byte_ordered_server(moto: Bucket, tmp_path: Path) -> None:
    keys = [
        "a", "a/b", "a//b", "/lead", "trail/x", " space ", "pl+us", "per%cent", "%2F", "..", "x/../y", "./z",
        "tab\tkey", "ü", "u\u0308", "\U0001f600", "'; DROP TABLE objects; --", "x" * 300, "Case", "case",
    ]  # fmt: skip
    objects = {key: f"body of {n}".encode() for n, key in enumerate(keys)}
    await moto.put(objects)
    settings = moto.settings(tmp_path / "data")
    report = await run_sync(settings)
    assert (report.counts.downloaded, report.counts.failed) == (len(keys), 0), report.error
    assert (await run_sync(settings)).counts.unchanged == len(keys)
    assert sorted(copies_on_disk(settings).values()) == sorted(objects.values())
    assert {path.name for path in tmp_path.iterdir()} == {"data"}  # nothing outside the data directory
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        rows = await catalog.rows_between(source.id, "", None)
        assert {row.key for row in rows} == set(keys)
        for row in rows:
            assert (settings.data_dir / str(row.local_path)).read_bytes() == objects[row.key]


async def test_sync_and_backfill_meet_without_a_second_download(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(20)})
    settings = weed.settings(tmp_path / "data")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    nightly = await run_sync(settings, selection=Selection(since=tomorrow))
    assert (nightly.counts.downloaded, nightly.counts.skipped) == (0, 20)
    window = SyncOptions(selection=Selection(until=tomorrow), arguments={"until": "x"})
    filled = await backfill(settings, window, progress=Silence(), stop=Stop())
    assert filled.counts.downloaded == 20
    assert (await run_sync(settings)).counts.unchanged == 20


async def test_dry_run_changes_nothing(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k/1": b"x", "k/2": b"y"})
    settings = weed.settings(tmp_path / "data")
    shown: list[str] = []
    report = await run_sync(settings, dry_run=True, on_action=lambda action: shown.append(str(action)))
    assert sorted(shown) == ["download k/1 (new, 1 bytes)", "download k/2 (new, 1 bytes)"]
    assert (report.counts.listed, report.counts.new, report.counts.downloaded) == (2, 2, 0)
    assert copies_on_disk(settings) == {}


@pytest.mark.parametrize("held_by", ["sync", "retention"])
async def test_a_second_run_is_locked_out(weed: Bucket, tmp_path: Path, held_by: str) -> None:
    from ingest.store.locks import file_lock

    settings = weed.settings(tmp_path / "data")
    with file_lock(settings.own_dir / "locks" / f"{settings.bucket}-{held_by}.lock", "another"):
        if held_by == "sync":
            report = await run_sync(settings)
        else:
            report = await cleanup(settings, CleanupOptions(), progress=Silence(), stop=Stop())
    assert (report.status, report.exit_code) == (RunStatus.LOCKED, 11)


async def test_max_delete_bounds_a_cleanup(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(6)})
    settings = weed.settings(tmp_path / "data")
    await run_sync(settings)
    options = CleanupOptions(timedelta(0), max_delete=2)
    report = await cleanup(settings, options, progress=Silence(), stop=Stop())
    assert (report.counts.pruned, len(copies_on_disk(settings))) == (2, 4)


async def test_a_changed_object_is_not_restored_as_if_it_were_the_old_one(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({"k": b"old"})
    settings = weed.settings(tmp_path / "data")
    await run_sync(settings)
    await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    await weed.put({"k": b"new and longer"})
    report = await restore(settings, RestoreOptions(("k",)), progress=Silence(), stop=Stop())
    assert (report.counts.restored, report.counts.failed, report.exit_code) == (0, 1, 3)
    assert copies_on_disk(settings) == {}


async def test_a_renamed_endpoint_is_pointed_out_and_told_to_the_catalog_it_is_no_new_source(
    weed: Bucket, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(database_url)
    settings = weed.settings(tmp_path / "data", database_url=database_url)
    await weed.put({"a.pdf": b"a"})
    assert (await run_sync(settings)).counts.downloaded == 1
    pruned = await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    assert pruned.counts.pruned == 1
    renamed = settings.model_copy(update={"endpoint": settings.endpoint.replace("127.0.0.1", "localhost")})
    refused = await run_sync(renamed, dry_run=True)
    assert (refused.exit_code, type(refused.error)) == (2, DirectoryTaken)
    assert settings.endpoint in str(refused.error)

    async with Catalog.open(database_url) as catalog, writing(catalog) as connection:
        await connection.exec_driver_sql(f"UPDATE sources SET endpoint = '{renamed.endpoint}'")
    again = await run_sync(renamed)
    assert (again.counts.downloaded, again.counts.unchanged) == (0, 1)


@pytest.mark.parametrize("to", [None, "elsewhere"])
async def test_a_directory_marker_has_nothing_to_restore(
    tmp_path: Path, to: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is recorded and gets no file, also when it is asked for by name."""
    caplog.set_level("INFO", "ingest")
    target = str(tmp_path / to) if to else None
    with running(MemoryS3()) as server:
        server.fill({"dir/": b"", "dir/k": b"1"})
        settings = server.bucket.settings(tmp_path / "data")
        await run_sync(settings)
        options = RestoreOptions(("dir/", "dir/k"), to=target)
        report = await restore(settings, options, progress=Silence(), stop=Stop())
    there = int(to is not None)
    assert (report.exit_code, report.counts.restored, report.counts.kept) == (0, there, 2 - there)
    assert "nothing_to_restore" in caplog.text
    assert copies_on_disk(settings) == {"dir/k": b"1"}
    assert len([path for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()]) == there
