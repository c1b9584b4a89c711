"""Every key of tests/fixtures/keys.py once more, under `verify`: found intact, found damaged or missing, repaired, told and
logged."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import SyncOptions, VerifyOptions
from ingest.jobs.show import history
from ingest.jobs.sources import attach
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.escape import escape_key
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3
from tests.faults.invariants import files_of
from tests.fixtures.catalogs import source_of
from tests.fixtures.databases import migrate
from tests.fixtures.keys import ALL, body_of
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket
from tests.integration.test_keys import MOTO_KEEPS, assert_in_place, memory, rows_of

__all__ = ["memory"]  # a fixture


async def checked(settings: Settings, *, repair: bool = False) -> RunReport:
    report = await verify(settings, VerifyOptions(repair=repair), progress=Silence(), stop=Stop())
    assert (report.notes["orphaned"], report.notes["symlinks"]) == (0, 0)
    return report


async def damage(settings: Settings) -> int:
    """Spoils a byte of one half of the copies, and removes the other; returns how many those are."""
    rows = await rows_of(settings)
    missing = 0
    for number, (key, row) in enumerate(sorted(rows.items())):
        path = settings.data_dir / str(row.local_path)
        if number % 2:
            path.unlink()
            missing += 1
        else:
            path.write_bytes(body_of(key)[:-1] + b"\xfe")
    return missing


async def assert_verified(settings: Settings, keys: Sequence[str]) -> None:
    await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    report = await checked(settings)
    assert (report.exit_code, report.notes["checked"]) == (0, len(keys)), report.error

    missing = await damage(settings)
    found = await checked(settings)
    damaged = len(keys) - missing
    assert (found.exit_code, found.counts.damaged, found.notes["missing"]) == (7, damaged, missing), found.error
    repaired = await checked(settings, repair=True)
    assert (repaired.exit_code, repaired.counts.repaired) == (0, len(keys)), repaired.error
    await assert_in_place(settings, keys)
    assert (await checked(settings)).exit_code == 0
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        source = await source_of(catalog, settings.endpoint, settings.bucket)
        for key in keys:
            row, events = await story(catalog, source.id, key)
            assert row is not None
            assert row["last_error"] is None
            assert [event["what"] for event in events] == ["downloaded", "damaged", "damaged", "repaired"]
        assert await audit.broken_links(catalog.driver) == []


async def test_on_a_real_server_and_both_databases(moto: Bucket, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    await moto.put({key: body_of(key) for key in MOTO_KEEPS})
    await assert_verified(moto.settings(tmp_path / "data", database_url=database_url), MOTO_KEEPS)


async def test_line_feeds_too_in_both_orders_of_listing(memory: MemoryS3, database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    for key in ALL:
        memory.put(key, body_of(key))
    await assert_verified(memory.bucket.settings(tmp_path / "data", database_url=database_url), ALL)


@pytest.mark.parametrize("memory", ["bytes"], indirect=True)
async def test_one_finding_is_one_line_and_history_tells_it(memory: MemoryS3, tmp_path: Path) -> None:
    """Each key in the log of `verify` as a process, so that it can be read back, and all of them in `history`."""
    for key in ALL:
        memory.put(key, body_of(key))
    settings = memory.bucket.settings(tmp_path / "data")
    await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    missing = await damage(settings)
    variables = memory.bucket.variables(tmp_path / "data")
    done = await run_ingest("verify", "--repair", "-v", "--json", variables=variables, cwd=tmp_path)
    lines = [line for line in done.stderr.split("\n") if line]
    events = [json.loads(line) for line in lines]
    for event in ("copy_damaged", "object_downloaded"):
        logged = [line["key"] for line in events if line["event"] == event]
        assert sorted(logged) == sorted(escape_key(key) for key in ALL)
    assert all(letter.isprintable() for line in lines for letter in line if letter not in "\u00a0\u00ad")
    assert {name: json.loads(done.stdout)[name] for name in ("missing", "damaged", "repaired", "orphaned")} == {
        "missing": missing, "damaged": len(ALL) - missing, "repaired": len(ALL), "orphaned": 0
    }  # fmt: skip
    for key in ALL:
        # What begins like a path of a bucket is named by its whole path.
        written = f"s3://{settings.bucket}/{key}" if key.startswith("s3://") else key
        story = await history(settings, written)
        assert story["object"]["key"] == key
        assert [event["what"] for event in story["events"]] == ["downloaded", "damaged", "repaired"]


@pytest.mark.parametrize("memory", ["bytes"], indirect=True)
async def test_without_its_catalog_every_copy_is_an_orphan_by_its_path(memory: MemoryS3, tmp_path: Path) -> None:
    """Named in one printable line each, and left alone; the next sync adopts them without downloading any."""
    for key in ALL:
        memory.put(key, body_of(key))
    settings = memory.bucket.settings(tmp_path / "data")
    await sync(settings, SyncOptions(), progress=Silence(), stop=Stop())
    for name in os.listdir(settings.own_dir):
        if name.startswith("catalog.db"):
            (settings.own_dir / name).unlink()
    await attach(settings, None, dry_run=False)
    before = files_of(settings)
    variables = memory.bucket.variables(tmp_path / "data")
    done = await run_ingest("verify", "--json", variables=variables, cwd=tmp_path)
    events = [json.loads(line) for line in done.stderr.split("\n") if line]
    paths = [event["path"] for event in events if event["event"] == "orphaned"]
    assert sorted(paths) == sorted(escape_key(path) for path in before)
    assert json.loads(done.stdout)["orphaned"] == len(ALL)
    assert files_of(settings) == before
