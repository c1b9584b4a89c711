"""`ingest source`: what somebody says of directories, catalogs and endpoints, where nothing else goes on."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.engine.installation import admit
from ingest.engine.options import CleanupOptions
from ingest.errors import (
    CatalogMissing,
    DirectoryForeign,
    DirectoryMissing,
    DirectoryTaken,
    SettingsError,
    SourceUnknown,
)
from ingest.jobs import sources
from ingest.jobs.cleanup import cleanup
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from tests.faults.invariants import look
from tests.faults.rig import OBJECTS, Rig, holding, run_sync, settings_for
from tests.fixtures.catalogs import source_of


async def addresses(settings: Settings) -> list[tuple[str, str, str | None, int]]:
    found = await sources.listed(settings)
    return [(one["endpoint"], one["bucket"], one["directory"], one["objects"]) for one in found]


async def chain_is_whole(settings: Settings) -> None:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        assert await audit.broken_links(catalog.driver) == []


async def test_a_renamed_endpoint(apart: Rig) -> None:
    """What was pruned is not downloaded again under the new name."""
    options = CleanupOptions(timedelta(0), trust_catalog=True)
    assert (await cleanup(apart.settings, options, progress=Silence(), stop=Stop())).counts.pruned == len(OBJECTS)
    old, new = apart.settings.endpoint, apart.settings.endpoint.replace("127.0.0.1", "localhost")
    renamed = apart.settings.replace(endpoint=new)
    assert isinstance((await run_sync(renamed)).error, DirectoryTaken)
    for called in ("nowhere.example.com", "17"):
        with pytest.raises(SourceUnknown):
            await sources.rename(renamed, called, new, dry_run=False)
    with pytest.raises(SettingsError):
        await sources.rename(renamed, old, "https://a/b/c", dry_run=False)
    steps = await sources.rename(renamed, old.upper(), new, dry_run=True)
    assert [old in step and new in step for step in steps] == [True]
    assert await addresses(renamed) == [(old, "statements", "statements", len(OBJECTS))]
    assert await sources.rename(renamed, old, new, dry_run=False) == steps
    report = await run_sync(renamed)
    assert (report.exit_code, report.counts.downloaded) == (0, 0), report.error
    await chain_is_whole(renamed)


async def test_a_bucket_of_the_same_name_gets_a_directory_of_its_own(apart: Rig) -> None:
    async with holding({"2026/02/b.pdf": b"of the other"}) as server:
        url = apart.settings.database_url.get_secret_value()
        other = settings_for(server, apart.settings.data_dir, database_url=url)
        assert isinstance((await run_sync(other)).error, DirectoryTaken)
        with pytest.raises(DirectoryTaken):
            await sources.attach(other, "Statements", dry_run=False)  # one with it, on some disks
        for name in ("../up", ".ingest", "a/b", ""):
            with pytest.raises(SettingsError):
                await sources.attach(other, name, dry_run=False)
        assert await sources.attach(other, "theirs", dry_run=True)
        assert len(await addresses(other)) == 1
        await sources.attach(other, "theirs", dry_run=False)
        report = await run_sync(other)
        assert (report.exit_code, report.counts.downloaded) == (0, 1), report.error
        assert (apart.settings.data_dir / "theirs" / "2026/02/b.pdf").read_bytes() == b"of the other"
        assert len(await addresses(other)) == 2
        with pytest.raises(SettingsError, match="another source"):
            await sources.rename(other, other.endpoint, apart.settings.endpoint, dry_run=False)
    apart.check_files()
    assert (await apart.run(0)).counts.unchanged == len(OBJECTS)


async def test_the_directory_of_a_source_is_renamed(apart: Rig) -> None:
    data = apart.settings.data_dir
    with pytest.raises(SettingsError, match="is empty"):
        await sources.attach(apart.settings, "loans", dry_run=False)
    (data / "statements").rename(data / "loans")
    await sources.attach(apart.settings, "loans", dry_run=False)
    assert (await run_sync(apart.settings)).counts.unchanged == len(OBJECTS)
    rows = (await look(apart.settings)).rows
    assert {row["local_path"].partition("/")[0] for row in rows.values()} == {"loans"}
    assert all((data / row["local_path"]).is_file() for row in rows.values())


async def test_a_move_is_said(apart: Rig) -> None:
    """The copies are elsewhere now, in a directory without any mark of ours."""
    moved = apart.settings.replace(data_dir=apart.home / "moved")
    shutil.copytree(apart.settings.data_dir / "statements", moved.data_dir / "statements")
    assert isinstance((await run_sync(moved)).error, DirectoryForeign)
    steps = await sources.attach(moved, None, dry_run=True)
    assert any(str(apart.settings.data_dir) in step for step in steps)
    assert not (moved.data_dir / ".ingest").exists()
    assert await sources.attach(moved, None, dry_run=False) == steps
    assert (await run_sync(moved)).counts.unchanged == len(OBJECTS)
    assert isinstance((await run_sync(apart.settings)).error, DirectoryForeign)  # there is one
    assert "nothing to attach" in (await sources.attach(moved, None, dry_run=False))[0]
    await chain_is_whole(moved)


@pytest.mark.parametrize("lost", ["catalog", "both"])
async def test_what_is_lost_begins_anew(embedded: Rig, lost: str) -> None:
    """One command, and a new catalog adopts what is there."""
    file = embedded.settings.sqlite_path
    assert file is not None
    if lost == "both":
        shutil.rmtree(embedded.settings.data_dir)
    else:
        file.unlink()
    steps = await sources.attach(embedded.settings, None, dry_run=True)
    assert "a new catalog is made" in steps[0]
    assert not file.exists()
    await sources.attach(embedded.settings, None, dry_run=False)
    report = await run_sync(embedded.settings)
    assert (report.exit_code, report.counts.new) == (0, len(OBJECTS)), report.error
    assert report.counts.bytes == (sum(map(len, OBJECTS.values())) if lost == "both" else 0)


async def test_a_catalog_that_was_taken_back_to_before_it_had_an_id(apart: Rig) -> None:
    """It is none that the data directory knows: neither a run nor a migration takes it until somebody says so."""
    url = apart.settings.database_url.get_secret_value()
    await schema.downgrade(url, "0004")
    assert isinstance((await run_sync(apart.settings)).error, CatalogMissing)
    with pytest.raises(CatalogMissing):
        await admit(apart.settings)
    steps = await sources.attach(apart.settings, None, dry_run=True)
    assert "is brought from 0004 to" in steps[0]
    assert await schema.current(url) == "0004"
    assert steps[0] in await sources.attach(apart.settings, None, dry_run=False)
    report = await run_sync(apart.settings)
    assert (report.exit_code, report.counts.unchanged) == (0, len(OBJECTS)), report.error
    await chain_is_whole(apart.settings)


async def test_another_catalog_is_said(apart: Rig) -> None:
    other = apart.settings.replace(database_url="")
    await sources.attach(other, None, dry_run=False)
    assert (await run_sync(other)).counts.bytes == 0
    assert (await run_sync(apart.settings)).exit_code == 6


async def test_a_source_is_forgotten(apart: Rig) -> None:
    number = (await sources.listed(apart.settings))[0]["id"]
    with pytest.raises(SettingsError, match="objects on record"):
        await sources.forget(apart.settings, str(number), force=False, dry_run=False)
    steps = await sources.forget(apart.settings, str(number), force=True, dry_run=True)
    assert len(await addresses(apart.settings)) == 1
    assert await sources.forget(apart.settings, apart.settings.endpoint, force=True, dry_run=False) == steps
    assert await addresses(apart.settings) == []
    await chain_is_whole(apart.settings)
    report = await run_sync(apart.settings)
    assert (report.exit_code, report.counts.new, report.counts.bytes) == (0, len(OBJECTS), 0), report.error


async def test_a_mistyped_source_of_an_earlier_version_stands_in_nobodys_way(tmp_path: Path, each_url: str) -> None:
    """A row without anything, as `status` once left it: it gives its directory up."""
    async with Catalog.open(each_url) as catalog:
        await source_of(catalog, "mistyped.example.com:9000", "statements")
    async with holding({"a": b"1"}) as server:
        settings = settings_for(server, tmp_path / "data", database_url=each_url)
        assert (await run_sync(settings)).counts.downloaded == 1
        assert [directory for _, _, directory, _ in await addresses(settings)] == [None, "statements"]
        await sources.forget(settings, "mistyped.example.com:9000", force=False, dry_run=False)
        assert len(await addresses(settings)) == 1


async def test_the_list_needs_no_fitting(embedded: Rig) -> None:
    shutil.move(embedded.settings.data_dir / ".ingest" / "identity", embedded.home / "identity")
    assert isinstance((await run_sync(embedded.settings)).error, DirectoryMissing)
    assert len(await addresses(embedded.settings)) == 1
