"""What does not belong together is refused before anything is written: directory, catalog and source, one at a time."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, text

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.engine import create_engine
from ingest.catalog.schema.tables import metadata, sources
from ingest.catalog.sources import add as add_source
from ingest.engine.options import CleanupOptions, SyncOptions
from ingest.errors import (
    CatalogForeign,
    CatalogMissing,
    DirectoryForeign,
    DirectoryMissing,
    DirectoryTaken,
    IngestError,
    NoSuchBucket,
)
from ingest.jobs import show
from ingest.jobs.cleanup import cleanup
from ingest.jobs.hold import holds
from ingest.jobs.sync import backfill, sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import MemoryS3, serving
from tests.faults.invariants import tree
from tests.faults.rig import OBJECTS, Rig, holding, run_sync, settings_for
from tests.fixtures.catalogs import reading
from tests.fixtures.databases import migrate


async def refused(rig: Rig, kind: type[IngestError], *parts: str, settings: Settings | None = None) -> RunReport:
    """A sync that ends with this error and has changed nothing."""
    settings = settings or rig.settings
    before = list(tree(rig.home, []))
    report = await run_sync(settings)
    assert isinstance(report.error, kind), report.error
    assert report.exit_code == kind.exit_code
    for part in parts:
        assert part in report.error.message
    assert "source attach" in report.error.hint
    assert list(tree(rig.home, [])) == before
    return report


async def rows_of(settings: Settings) -> list[tuple[str, str]]:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, reading(catalog) as connection:
        return [(row.endpoint, row.bucket) for row in await connection.execute(select(sources))]


@pytest.mark.parametrize("how", ["gone", "empty", "something else"])
async def test_the_mount_of_everything_is_missing(embedded: Rig, how: str) -> None:
    data = embedded.settings.data_dir
    shutil.move(data, embedded.home / "unmounted")
    if how != "gone":
        data.mkdir()
    if how == "something else":
        (data / "lost+found").mkdir()
    await refused(embedded, DirectoryMissing, str(data), "is missing", "; copies and catalog lie in it")
    for question in (show.status(embedded.settings), holds(embedded.settings)):
        with pytest.raises(DirectoryMissing):
            await question
    if data.exists():
        shutil.rmtree(data)
    shutil.move(embedded.home / "unmounted", data)
    assert (await embedded.run(0)).counts.downloaded == 0


@pytest.mark.parametrize("how", ["removed", "empty"])
async def test_the_embedded_catalog_is_removed(embedded: Rig, how: str) -> None:
    file = embedded.settings.sqlite_path
    assert file is not None
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes(b"")
    await refused(embedded, CatalogMissing, "catalog", "is missing", str(file))


async def test_the_mount_of_the_copies_is_missing(apart: Rig) -> None:
    """Nothing is pruned that is not there."""
    data = apart.settings.data_dir
    shutil.move(data, apart.home / "unmounted")
    data.mkdir()
    await refused(apart, DirectoryMissing, str(data), "it is empty; copies lie in it")
    report = await cleanup(
        apart.settings, CleanupOptions(timedelta(0), trust_catalog=True), progress=Silence(), stop=Stop()
    )
    assert (report.exit_code, report.counts.pruned) == (5, 0)
    data.rmdir()
    shutil.move(apart.home / "unmounted", data)
    assert (await apart.run(0)).counts.downloaded == 0
    await apart.check_catalog()


async def test_an_emptied_catalog_is_no_new_one(apart: Rig) -> None:
    engine = create_engine(apart.settings.database_url.get_secret_value())
    async with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            await connection.execute(text(f'DELETE FROM "{table.name}"'))
    await engine.dispose()
    report = await run_sync(apart.settings)
    assert isinstance(report.error, CatalogMissing)
    assert "is empty" in report.error.message
    assert await rows_of(apart.settings) == []


async def test_another_catalog_is_named_without_its_password(apart: Rig) -> None:
    """As when DATABASE_URL is set in one shell, and not in cron's."""
    other = apart.settings.replace(database_url="")
    await refused(apart, CatalogForeign, str(apart.settings.data_dir), "belong to the catalog at", settings=other)
    assert not (apart.settings.own_dir / "catalog.db").exists()
    third = apart.settings.replace(
        database_url=f"sqlite:///{apart.home}/third.db", data_dir=apart.home / "third", bucket="statements"
    )
    assert (await run_sync(third)).exit_code == 0
    report = await run_sync(apart.settings.replace(database_url=third.database_url.get_secret_value()))
    assert isinstance(report.error, CatalogForeign)
    assert "third.db" in report.error.message


async def test_two_data_directories_on_one_catalog(apart: Rig) -> None:
    other = apart.settings.replace(data_dir=apart.home / "b")
    where = str(apart.settings.data_dir)
    await refused(apart, DirectoryForeign, str(other.data_dir), where, settings=other)
    (apart.home / "b").mkdir()
    await refused(apart, DirectoryForeign, str(other.data_dir), where, settings=other)
    # One that has an id already, from a catalog and a source of its own.
    own = other.replace(database_url="", data_dir=apart.home / "c")
    assert (await run_sync(own)).exit_code == 0
    (apart.home / "c" / ".ingest" / "catalog.db").unlink()
    report = await run_sync(apart.settings.replace(data_dir=apart.home / "c"))
    assert isinstance(report.error, CatalogForeign)


@pytest.mark.parametrize("before", ["a new catalog", "one from before there were ids"])
async def test_of_two_first_runs_in_two_data_directories_one_is_refused(
    tmp_path: Path, database_url: str, swift: None, before: str
) -> None:
    """Both have looked before either is on record: who comes second would find every copy unchanged, and have none."""
    await migrate(database_url)
    server = MemoryS3()
    server.fill(OBJECTS)
    async with serving(server):
        one, other = (settings_for(server, tmp_path / name, database_url=database_url) for name in ("one", "other"))
        if before != "a new catalog":
            async with Catalog.open(database_url) as catalog:
                add = partial(add_source, server.endpoint.rpartition("/")[2], one.bucket, one.bucket, None)
                await catalog.driver.write(add)
        reports = await asyncio.gather(run_sync(one), run_sync(other))
        refused_ones = [report for report in reports if report.error is not None]
        assert [type(report.error) for report in refused_ones] == [DirectoryForeign], reports
        assert {report.counts.downloaded for report in reports} == {0, len(OBJECTS)}


async def test_a_copy_of_the_data_directory_is_no_second_one(apart: Rig) -> None:
    """`cp -a`: both have one id, and the catalog would say of both what is true of one."""
    copied = apart.settings.replace(data_dir=apart.home / "copied")
    shutil.copytree(apart.settings.data_dir, copied.data_dir)
    await refused(apart, DirectoryForeign, "is a copy of", str(apart.settings.data_dir), settings=copied)
    assert (await apart.run(0)).counts.unchanged
    shutil.rmtree(apart.settings.data_dir)  # it was a move after all
    assert (await run_sync(copied)).exit_code == 0


async def test_a_data_directory_under_another_name(apart: Rig) -> None:
    link = apart.home / "link"
    link.symlink_to(apart.settings.data_dir)
    assert (await run_sync(apart.settings.replace(data_dir=link))).exit_code == 0
    apart.settings.data_dir.rename(apart.home / "renamed")
    assert (await run_sync(apart.settings.replace(data_dir=apart.home / "renamed"))).exit_code == 0


async def test_a_whole_installation_may_be_copied(embedded: Rig) -> None:
    copied = embedded.settings.replace(database_url="", data_dir=embedded.home / "copied")
    shutil.copytree(embedded.settings.data_dir, copied.data_dir)
    assert (await run_sync(copied)).exit_code == 0
    assert (await embedded.run(0)).counts.downloaded == 0


async def test_another_installation_in_its_place(embedded: Rig) -> None:
    """Two disks were swapped: each has its catalog, and is not the one that was here."""
    other = embedded.settings.replace(database_url="", data_dir=embedded.home / "other")
    assert (await run_sync(other)).exit_code == 0
    shutil.move(embedded.settings.data_dir, embedded.home / "away")
    shutil.move(other.data_dir, embedded.settings.data_dir)
    await refused(embedded, DirectoryForeign, str(embedded.settings.data_dir))


async def test_a_bucket_of_the_same_name_elsewhere(apart: Rig) -> None:
    """Its copies would take the places of the first one's."""
    async with holding({"2026/02/b.pdf": b"of the other"}) as server:
        other = settings_for(
            server, apart.settings.data_dir, database_url=apart.settings.database_url.get_secret_value()
        )
        report = await refused(apart, DirectoryTaken, apart.settings.endpoint, other.endpoint, settings=other)
    assert report.error is not None
    assert "--directory NAME" in report.error.hint
    assert "source rename" in report.error.hint
    apart.check_files()


@pytest.mark.parametrize("spelled", ["{upper}:{port}", "HTTP://{host}:{port}/"])
async def test_another_spelling_is_the_same_source(apart: Rig, spelled: str) -> None:
    host, _, port = apart.settings.endpoint.partition(":")
    first = apart.settings.replace(endpoint=f"localhost:{port}", data_dir=apart.home / "l", database_url="")
    assert host == "127.0.0.1"
    assert (await run_sync(first)).counts.downloaded
    again = first.replace(endpoint=spelled.format(upper="LOCALHOST", host="localhost", port=port))
    report = await run_sync(again)
    assert (report.exit_code, report.counts.downloaded) == (0, 0), report.error
    assert len(await rows_of(first)) == 1


async def test_what_asks_writes_nothing(tmp_path: Path, each_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither where nothing is yet, nor with a mistyped endpoint."""
    async with holding({"a": b"1"}) as server:
        fresh = settings_for(server, tmp_path / "fresh" / "data")
        assert (await show.status(fresh))["objects"] == 0
        assert await show.runs(fresh, 5) == []
        assert not (tmp_path / "fresh").exists()
        settings = settings_for(server, tmp_path / "data", database_url=each_url)
        assert (await run_sync(settings)).exit_code == 0
        mistyped = settings.replace(endpoint="127.0.0.1:1")
        caplog.clear()
        assert (await show.status(mistyped))["objects"] == 0
        assert ["unknown_source" in line.getMessage() for line in caplog.records] == [True]
        assert await show.runs(mistyped, 5) == []
        assert await holds(mistyped) == []
        assert await rows_of(settings) == [(settings.endpoint, settings.bucket)]


@pytest.mark.parametrize("mistyped", [{"endpoint": "127.0.0.1:1"}, {"endpoint": "nowhere.invalid"}])
async def test_a_source_that_never_answered_leaves_no_row(
    tmp_path: Path, each_url: str, swift: None, mistyped: dict[str, str]
) -> None:
    async with holding({"a": b"1"}) as server:
        settings = settings_for(server, tmp_path / "data", database_url=each_url)
        report = await run_sync(settings.replace(**mistyped))
        assert report.exit_code == 4
        assert await rows_of(settings) == []
        assert (await run_sync(settings)).counts.downloaded == 1


@pytest.mark.parametrize("job", ["sync", "backfill"])
async def test_a_bucket_that_is_not_there_leaves_no_directory(tmp_path: Path, swift: None, job: str) -> None:
    """Each mistyped name would leave one, beside those of the buckets that are there."""
    async with holding({"a": b"1"}) as server:
        settings = settings_for(server, tmp_path / "data")
        assert (await run_sync(settings)).counts.downloaded == 1
        server.faults.append(lambda *_: faults.saying("404 Not Found", "NoSuchBucket"))
        mistyped = settings.replace(bucket="statments")
        report = await (sync(mistyped) if job == "sync" else backfill(mistyped, SyncOptions()))
        assert (report.exit_code, type(report.error)) == (4, NoSuchBucket)
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".ingest", "statements"]
        assert [bucket for _, bucket in await rows_of(settings)] == ["statements"]
        # One that is known stays as it is.
        assert (await run_sync(settings)).exit_code == 4
        assert (tmp_path / "data/statements/a").read_bytes() == b"1"


async def test_a_new_catalog_is_announced_once(tmp_path: Path, each_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with holding({"a": b"1"}) as server:
        settings = settings_for(server, tmp_path / "data", database_url=each_url)
        await run_sync(settings)
        await run_sync(settings)
    said = [line for line in caplog.records if "new_catalog" in line.getMessage()]
    assert [line.levelname for line in said] == ["WARNING"]


EARLIER = (
    "INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'old.example.com:9000', 'statements'), "
    "(2, '{endpoint}', 'statements'), (3, '{endpoint}', 'invoices')",
    "INSERT INTO runs (source_id, command, arguments, host, pid, started_at, heartbeat_at, status, counts) "
    "VALUES (1, 'sync', '{{}}', 'h', 1, '{now}', '{now}', 'ok', '{{}}')",
    "INSERT INTO objects (source_id, key, size, etag, last_modified, source_s3_path, state, local_path, digest, "
    "downloaded_at) VALUES (2, 'a', 1, 'c4ca4238a0b923820dcc509a6f75849b', '{now}', 's3://statements/a', 'present', "
    "'statements/a', 'md5:c4ca4238a0b923820dcc509a6f75849b', '{now}')",
)


@pytest.mark.parametrize("copies", ["there", "missing"])
async def test_an_installation_of_an_earlier_version(
    tmp_path: Path, database_url: str, copies: str, swift: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is taken over without a word, unless its copies are not there; of two namesakes the one with copies goes on."""
    async with holding({"a": b"1"}) as server:
        settings = settings_for(server, tmp_path / "data", database_url=database_url)
        await schema.upgrade(database_url, "0004")
        engine = create_engine(database_url)
        async with engine.begin() as connection:
            for statement in EARLIER:
                made = statement.format(endpoint=settings.endpoint, now="2026-03-01 00:00:00+00")
                await connection.exec_driver_sql(made)
        await engine.dispose()
        if copies == "there":
            (tmp_path / "data" / "statements").mkdir(parents=True)
            (tmp_path / "data" / "statements" / "a").write_bytes(b"1")
        await schema.upgrade(database_url)
        report = await run_sync(settings)
        if copies == "missing":
            assert isinstance(report.error, DirectoryMissing)
            assert not (tmp_path / "data").exists()
            return
        assert (report.exit_code, report.counts.unchanged) == (0, 1), report.error
        assert [line for line in caplog.records if line.name == "ingest"] == []
        async with Catalog.open(database_url) as catalog, reading(catalog) as connection:
            found = (await connection.execute(select(sources).order_by(sources.c.id))).all()
        assert [row.directory for row in found] == [None, "statements", "invoices"]
        await schema.downgrade(database_url, "0004")
        await schema.upgrade(database_url)
