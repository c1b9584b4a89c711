"""Copies that are restored to another directory than their own: what stands there already is somebody's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.history import story
from ingest.engine.options import CleanupOptions, RestoreOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.sync import sync
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.settings import Settings
from ingest.store import placing, renaming
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.lines import lines_said
from tests.fixtures.process import run_ingest

OBJECTS = {"a/b": b"below", "loans/1.pdf": b"one", "loans/2.pdf": b"two", "loans/large.pdf": b"large" * 1_000_000}


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        server.fill(OBJECTS)
        yield server


@pytest.fixture
async def settings(server: MemoryS3, tmp_path: Path) -> Settings:
    """Everything was synced."""
    settings = server.bucket.settings(tmp_path / "data")
    assert (await sync(settings)).exit_code == 0
    return settings


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the bucket's copies go."""
    return tmp_path / "elsewhere" / "statements"


async def restored(settings: Settings, *keys: str, **options: Any) -> RunReport:
    options |= {"keys": keys} if keys else {"prefix": ""}
    to = str(settings.data_dir.parent / "elsewhere")
    return await restore(settings, RestoreOptions(to=to, **options), progress=Silence(), stop=Stop())


def files(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("foreign", [b"not ours", b"ONE", b""])
@pytest.mark.parametrize("key", ["loans/1.pdf", "loans/large.pdf"])
async def test_a_foreign_file_is_kept_unless_told_otherwise(
    server: MemoryS3, settings: Settings, target: Path, key: str, foreign: bytes
) -> None:
    (target / key).parent.mkdir(parents=True)
    (target / key).write_bytes(foreign)
    server.asked.clear()
    with lines_said() as lines:
        report = await restored(settings)
    assert (report.exit_code, report.counts.restored, report.counts.failed) == (3, len(OBJECTS) - 1, 1)
    assert [line["error"] for line in lines if line["event"] == "object_failed"] == ["file_in_the_way"]
    assert key not in server.keys("get")  # nothing is brought that has no place
    assert files(target) == OBJECTS | {key: foreign}

    report = await restored(settings, overwrite=True)
    assert (report.exit_code, report.counts.restored, report.counts.kept) == (0, 1, len(OBJECTS) - 1)
    assert report.notes["written_below"] == str(target)
    assert files(target) == OBJECTS


async def test_what_is_there_already_is_not_brought_again(server: MemoryS3, settings: Settings, target: Path) -> None:
    assert (await restored(settings)).counts.restored == len(OBJECTS)
    server.asked.clear()
    report = await restored(settings)
    assert (report.exit_code, report.counts.restored, report.counts.kept) == (0, 0, len(OBJECTS))
    assert server.keys("get") == []
    assert files(target) == OBJECTS


@pytest.mark.parametrize("overwrite", [False, True])
async def test_nothing_is_written_through_a_link(settings: Settings, target: Path, overwrite: bool) -> None:
    neighbour = target.parent.parent / "neighbour"
    neighbour.write_bytes(b"not ours")
    (target / "loans").mkdir(parents=True)
    (target / "loans/1.pdf").symlink_to(neighbour)
    report = await restored(settings, "loans/1.pdf", overwrite=overwrite)
    assert report.exit_code == (0 if overwrite else 3)
    assert (target / "loans/1.pdf").is_symlink() is not overwrite
    assert neighbour.read_bytes() == b"not ours"


async def test_a_key_whose_name_is_a_directory_comes_beside_it_each_time(
    server: MemoryS3, settings: Settings, target: Path
) -> None:
    server.put("a", b"above")
    await sync(settings)
    for key in ("a/b", "a", "a/b", "a"):
        report = await restored(settings, key)
        assert (report.exit_code, report.counts.failed) == (0, 0)
    assert files(target) == {"a/b": b"below", "%61": b"above"}


@pytest.mark.parametrize("unknown", [None, errno.EINVAL, errno.ENOSYS])
@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_file_that_comes_while_the_copy_is_fetched(
    settings: Settings, target: Path, monkeypatch: pytest.MonkeyPatch, unknown: int | None, overwrite: bool
) -> None:
    """It was not there when it was looked for, nor when the copy was to be put in its place; whether or not the disk
    knows a rename that replaces nothing."""

    def comes(_: bytes, __: int) -> None:
        if not (target / "loans/1.pdf").exists():
            (target / "loans/1.pdf").write_bytes(b"a moment ago")

    monkeypatch.setattr(placing, "_found", comes)
    if unknown is not None:
        monkeypatch.setattr(renaming, "_renameat2", lambda *_: unknown)
    report = await restored(settings, "loans/1.pdf", overwrite=overwrite)
    assert report.exit_code == 0
    ours = {"loans/1.pdf": b"one"} if overwrite else {"loans/1.pdf": b"a moment ago", "loans/%31.pdf": b"one"}
    assert files(target) == ours


@pytest.mark.parametrize("unknown", [errno.EINVAL, errno.ENOTSUP])
async def test_a_disk_without_such_a_rename(
    settings: Settings, target: Path, monkeypatch: pytest.MonkeyPatch, unknown: int
) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda *_: unknown)
    assert (await restored(settings)).exit_code == 0
    assert files(target) == OBJECTS


async def test_a_key_that_nobody_knows_makes_no_directory(settings: Settings, target: Path) -> None:
    report = await restored(settings, "loans/1.pdf", "loans/9.pdf")
    assert (report.exit_code, report.counts.restored) == (1, 0)
    assert not target.parent.exists()


async def test_a_story_begins_with_a_download(server: MemoryS3, settings: Settings, tmp_path: Path) -> None:
    """A copy that never was there is brought by name: it comes, and it does not come back."""
    await sync(settings)
    server.put("loans/known.pdf", b"known")
    await sync(settings, SyncOptions(selection=Selection(exclude=("*known*",))))
    for key in ("loans/known.pdf", "loans/1.pdf"):
        await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
        for _ in range(2):
            report = await restore(settings, RestoreOptions((key,)), progress=Silence(), stop=Stop())
            assert report.exit_code == 0, report.error
            await cleanup(settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
        async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
            _, events = await story(catalog, 1, key)
        whats = [event["what"] for event in events]
        assert whats[-4:] == (
            ["downloaded", "pruned", "restored", "pruned"] if "known" in key else ["restored", "pruned"] * 2
        )
        assert whats[0] == "downloaded"


async def test_the_line_says_where_it_wrote(server: MemoryS3, settings: Settings, tmp_path: Path) -> None:
    variables = server.bucket.variables(settings.data_dir)
    done = await run_ingest("restore", "loans/1.pdf", "--to", "there", variables=variables, cwd=tmp_path)
    assert (done.code, done.stderr.count("error")) == (0, 0)
    assert done.stdout.startswith(f"restore ok: 1 restored, 3 B below {tmp_path}/there/statements in ")
    (tmp_path / "there/statements/loans/1.pdf").write_bytes(b"edited")
    done = await run_ingest("restore", "loans/1.pdf", "--to", "there", "-q", variables=variables, cwd=tmp_path)
    assert (done.code, done.stdout) == (3, "")
    assert "statements/loans/1.pdf: another file stands there, and is kept unless --overwrite is said" in done.stderr
    done = await run_ingest("restore", "loans/1.pdf", "--overwrite", variables=variables, cwd=tmp_path)
    assert done.code == 2
    assert "--overwrite goes with --to" in done.stderr
