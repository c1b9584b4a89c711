"""Every key of tests/fixtures/keys.py, byte for byte: listed, signed, got, recorded, placed, pruned, restored, told and
logged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.show import history
from ingest.jobs.sync import sync
from ingest.model import CatalogRow
from ingest.observe.escape import escape_key
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.store.paths import decode_path
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.faults.invariants import Copy, files_of
from tests.fixtures.catalogs import source_of
from tests.fixtures.databases import migrate
from tests.fixtures.keys import ALL, NOT_UTF8, UNSTORABLE, body_of
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

MOTO_KEEPS = [key for key in ALL if "\n" not in key]
"""Its routes do not match a line feed."""


@pytest.fixture(params=["bytes", "directory"])
def memory(request: pytest.FixtureRequest) -> Iterator[MemoryS3]:
    """A server that keeps any key, in either order of listing, seven keys to a page."""
    with running(MemoryS3(by_directory=request.param == "directory", page=7)) as server:
        yield server


async def rows_of(settings: Settings) -> dict[str, CatalogRow]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        return {row.key: row for row in await catalog.rows_between(source.id, "", None)}


async def assert_all_the_way(settings: Settings, keys: Sequence[str]) -> None:
    silent = {"progress": Silence(), "stop": Stop()}
    report = await sync(settings, SyncOptions(), **silent)  # type: ignore[arg-type]
    assert (report.counts.downloaded, report.counts.failed) == (len(keys), 0), report.error
    await assert_in_place(settings, keys)
    again = await sync(settings, SyncOptions(), **silent)  # type: ignore[arg-type]
    assert (again.counts.unchanged, again.counts.gone) == (len(keys), 0)

    pruned = await cleanup(settings, CleanupOptions(timedelta(0)), **silent)  # type: ignore[arg-type]
    assert (pruned.counts.pruned, pruned.counts.kept) == (len(keys), 0), pruned.error
    assert {row.state for row in (await rows_of(settings)).values()} == {"pruned"}
    assert list((settings.data_dir / settings.bucket).iterdir()) == []  # no empty directory stays behind either

    some = tuple(key for key in keys if key.startswith(("a", "f", "é")))
    back = await restore(settings, RestoreOptions(some), **silent)  # type: ignore[arg-type]
    assert (back.counts.restored, back.counts.failed) == (len(some), 0), back.error
    rest = await restore(settings, RestoreOptions(prefix=""), **silent)  # type: ignore[arg-type]
    assert (rest.counts.restored, rest.counts.failed) == (len(keys) - len(some), 0), rest.error
    await assert_in_place(settings, keys)


async def assert_in_place(settings: Settings, keys: Sequence[str]) -> None:
    files, rows = files_of(settings), await rows_of(settings)
    assert set(rows) == set(keys)
    assert {row.local_path for row in rows.values()} == set(files)
    for key, row in rows.items():
        assert row.local_path is not None
        assert files[row.local_path] == Copy.of(body_of(key))
        assert decode_path(row.local_path.partition("/")[2]) in (key, None)


async def test_on_a_real_server_and_both_databases(moto: Bucket, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    await moto.put({key: body_of(key) for key in MOTO_KEEPS})
    settings = moto.settings(tmp_path / "data", database_url=database_url)
    await assert_all_the_way(settings, MOTO_KEEPS)
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "catalog.db", "catalog.db-wal", "catalog.db-shm"}
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        for key in MOTO_KEEPS:
            row, events = await story(catalog, source.id, key)
            assert row is not None
            assert row["source_s3_path"] == f"s3://{settings.bucket}/{key}"
            assert [event["what"] for event in events] == ["downloaded", "pruned", "restored"]


async def test_line_feeds_too_in_both_orders_of_listing(memory: MemoryS3, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    for key in ALL:
        memory.put(key, body_of(key))
    await assert_all_the_way(memory.bucket.settings(tmp_path / "data", database_url=database_url), ALL)


async def test_a_key_that_cannot_be_kept_fails_alone(memory: MemoryS3, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    good = ["nul", "d/x", "z", "nuldir/below"]
    for key in [*good, *UNSTORABLE, *NOT_UTF8]:
        memory.put(key, body_of(key))
    settings = memory.bucket.settings(tmp_path / "data", database_url=database_url)
    for downloaded in (len(good), 0):
        report = await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
        assert (report.counts.downloaded, report.exit_code) == (downloaded, 3), report.error
        assert report.counts.failed == len(UNSTORABLE + NOT_UTF8)
        await assert_in_place(settings, good)


async def test_one_event_is_one_line_and_tells_the_key(memory: MemoryS3, tmp_path: Path) -> None:
    for key in [*ALL, *UNSTORABLE, *NOT_UTF8]:
        memory.put(key, body_of(key))
    done = await run_ingest("sync", "-v", "--json", variables=memory.bucket.variables(tmp_path / "data"), cwd=tmp_path)
    lines = done.stderr.split("\n")
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line for line in lines if line and not line.startswith("{")] == []
    logged = [event["key"] for event in events if event["event"] == "object_downloaded"]
    assert sorted(logged) == sorted(escape_key(key) for key in ALL)
    assert len(set(logged)) == len(ALL)  # reversible: no two keys look the same
    failed = [event for event in events if event["event"] == "object_failed"]
    assert {event["error"] for event in failed} == {"unstorable_key", "undecodable_key"}
    assert len(failed) == len(UNSTORABLE + NOT_UTF8)
    assert all(letter.isprintable() for line in lines for letter in line if letter not in "\u00a0\u00ad")
    assert json.loads(done.stdout)["failed"] == len(UNSTORABLE + NOT_UTF8)


@pytest.mark.parametrize("memory", ["bytes"], indirect=True)
async def test_history_finds_each_key_as_it_is_written(memory: MemoryS3, tmp_path: Path) -> None:
    for key in ALL:
        memory.put(key, body_of(key))
    settings = memory.bucket.settings(tmp_path / "data")
    await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    for key in [*ALL[::8], "/", "\n", "//", " "]:
        story = await history(settings, key)
        assert (story["object"]["key"], len(story["events"])) == (key, 1)
    variables = memory.bucket.variables(tmp_path / "data")
    for key in ("crlf\r\n", "\u2028ls", "%2F", "'; DROP TABLE objects; --", "\ufffe"):
        told = await run_ingest("history", "--json", "--", key, variables=variables, cwd=tmp_path)
        assert told.stdout.count("\n") == 1, told.stderr
        assert json.loads(told.stdout)["object"]["key"] == key
