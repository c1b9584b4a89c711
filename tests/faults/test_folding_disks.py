"""Disks that take two names for one file: each key has its own bytes, row and path, whatever was and comes."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ingest.engine.options import CleanupOptions, HoldOptions, RestoreOptions, VerifyOptions
from ingest.jobs import hold
from ingest.jobs.cleanup import cleanup
from ingest.jobs.restore import restore
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.store import files, folding
from ingest.store.folding import Traits
from ingest.store.paths import decode_path, folded
from ingest.tasks.stop import Stop
from tests.faults.rig import Rig, rigged, run_sync, variables_of
from tests.fixtures import disks
from tests.fixtures.process import run_ingest

KEYS = [
    "dup/File.pdf",
    "dup/file.pdf",
    "dup/FILE.pdf",
    "Dir/x",
    "dir/x",
    "dir/X",
    "DIR/deep/y",
    "dir/deep/Y",
    "caf\u00e9.pdf",
    "cafe\u0301.pdf",
    "CAF\u00c9.pdf",
    "end",
    "end.",
    "end ",
    "a",
    "A/b",
    "A/B",
    "\u0130",
    "i",
    "stra\u00dfe",
    "STRASSE",
    "\u03c3",
    "\u03c2",
    "alone/Ordinary.pdf",
]
OBJECTS = {key: random.Random(key).randbytes(300 + number) for number, key in enumerate(KEYS)}


@pytest.fixture(params=[disks.exfat, disks.ntfs], ids=["exfat", "ntfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    made: Callable[[Path], AbstractContextManager[Path]] = request.param
    home = tmp_path / "disk"
    home.mkdir()
    with made(home) as mounted:
        yield mounted


@pytest_asyncio.fixture
async def rig(tmp_path: Path, sqlite_url: str, swift: None, disk: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as made:
        made.settings = made.settings.replace(data_dir=disk / "data")
        yield made


async def check(rig: Rig, pruned: tuple[str, ...] = ()) -> None:
    """Each key's own bytes lie at its own path, and nothing else lies there."""
    rows = await rig.rows()
    root = rig.settings.data_dir
    present = {key: row for key, row in rows.items() if row["state"] == "present"}
    assert set(rows) == set(rig.server.bodies)
    assert set(rows) - set(present) == set(pruned)
    for key, row in present.items():
        assert (root / row["local_path"]).read_bytes() == rig.server.bodies[key], key
        assert decode_path(row["local_path"].partition("/")[2]) == key
    assert sum(path.is_file() for path in (root / rig.settings.bucket).rglob("*")) == len(present)
    assert await looked_at(rig) == (0, 0)


async def synced(rig: Rig, exit_code: int = 0) -> RunReport:
    """Not `rig.run`, which finds the key of a file by the name that is listed: this disk may list another."""
    report = await run_sync(rig.settings)
    assert report.exit_code == exit_code, report.error
    return report


async def looked_at(rig: Rig, **options: Any) -> tuple[int, int]:
    """The copies that stay damaged, and orphans."""
    report = await verified(rig, **options)
    missing, orphaned = (int(str(report.notes[name])) for name in ("missing", "orphaned"))
    return missing + report.counts.damaged - report.counts.repaired, orphaned


async def verified(rig: Rig, **options: Any) -> RunReport:
    return await verify(rig.settings, VerifyOptions(**options), progress=Silence(), stop=Stop())


async def pruned(rig: Rig) -> RunReport:
    report = await cleanup(rig.settings, CleanupOptions(timedelta(0)), progress=Silence(), stop=Stop())
    assert report.exit_code == 0, report.error
    return report


async def restored(rig: Rig, *keys: str, **options: Any) -> RunReport:
    report = await restore(rig.settings, RestoreOptions(keys=keys, **options), progress=Silence(), stop=Stop())
    assert report.exit_code == 0, report.error
    return report


async def held(rig: Rig, key: str) -> None:
    await hold.hold(rig.settings, HoldOptions(keys=(key,), reason="x"))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As versions did that asked no disk; `undo` it to be of today."""
    monkeypatch.setattr(files, "traits_of", lambda _: Traits(folds=False, short_names=False))
    return monkeypatch


async def test_in_one_run(rig: Rig) -> None:
    report = await synced(rig)
    assert report.counts.downloaded == len(KEYS)
    await check(rig)
    assert (await rig.rows())["alone/Ordinary.pdf"]["local_path"] == "statements/alone/Ordinary.pdf"
    assert (await synced(rig)).counts.unchanged == len(KEYS)


async def test_over_several_runs_and_versions(rig: Rig) -> None:
    """One key more each time, and each one changes once."""
    for key in KEYS:
        del rig.server.objects[key]
    for key in KEYS[:9]:
        rig.server.put(key, OBJECTS[key])
        await synced(rig)
    await check(rig)
    places = {key: row["local_path"] for key, row in (await rig.rows()).items()}
    for key in KEYS[:9]:
        rig.server.put(key, OBJECTS[key][::-1])
    assert (await synced(rig)).counts.changed == 9
    await check(rig)
    assert {key: row["local_path"] for key, row in (await rig.rows()).items()} == places


async def test_a_held_copy_outlives_its_namesakes(rig: Rig) -> None:
    """Pruned and restored, with a namesake that came meanwhile."""
    first, second, third = KEYS[:3]
    del rig.server.objects[first]
    del rig.server.objects[third]
    await synced(rig)
    await held(rig, second)
    report = await pruned(rig)
    assert report.counts.kept == 1
    rig.server.put(third, OBJECTS[third])
    await synced(rig)
    gone = tuple(set(rig.server.bodies) - {second, third})
    await check(rig, gone)
    rig.server.put(first, OBJECTS[first])
    await synced(rig)
    await pruned(rig)
    await check(rig, tuple(set(rig.server.bodies) - {second}))
    await restored(rig, prefix="")
    await check(rig)


async def test_a_namesake_has_taken_the_place_of_a_pruned_copy(rig: Rig) -> None:
    first, second = KEYS[:2]
    for key in KEYS[1:]:
        del rig.server.objects[key]
    await synced(rig)
    await pruned(rig)
    rig.server.put(second, OBJECTS[second])
    await synced(rig)
    await check(rig, (first,))
    await restored(rig, first)
    await check(rig)


async def test_a_killed_restore_takes_nothing_from_a_namesake(rig: Rig) -> None:
    """What it had placed goes, and the namesake's copy stays."""
    first, second = KEYS[:2]
    for key in KEYS[1:]:
        del rig.server.objects[key]
    await synced(rig)
    await pruned(rig)
    rig.server.put(second, OBJECTS[second])
    await synced(rig)
    died = await run_ingest(
        "restore", first, variables=variables_of(rig.settings) | {"INGEST_CRASH_AT": "batch.all-renamed"}, cwd=rig.home
    )
    assert died.code == -9, died.output
    await rig.end_process()
    await verified(rig)  # or any other command
    await check(rig, (first,))


async def test_a_catalog_of_an_earlier_version_is_repaired(rig: Rig, trusting: pytest.MonkeyPatch) -> None:
    """More rows than files: each gets its own, and no repair damages another."""
    await synced(rig)
    rows, root = await rig.rows(), rig.settings.data_dir / rig.settings.bucket
    assert len(rows) > sum(path.is_file() for path in root.rglob("*"))
    trusting.undo()
    report = await verified(rig, repair=True)
    assert (report.exit_code, report.counts.damaged) == (0, report.counts.repaired)
    await check(rig)


@pytest.mark.parametrize("equal", [False, True], ids=["different bytes", "equal bytes"])
async def test_cleanup_takes_no_file_that_another_key_has_as_well(
    rig: Rig, trusting: pytest.MonkeyPatch, equal: bool
) -> None:
    """Of an earlier version; verify parts them, also where both bytes and digest are equal."""
    first, second = KEYS[:2]
    for key in KEYS[2:]:
        del rig.server.objects[key]
    if equal:
        rig.server.put(second, OBJECTS[first])
    await synced(rig)
    trusting.undo()
    await held(rig, second)
    report = await pruned(rig)
    assert (report.counts.pruned, report.counts.kept) == (0, 2)
    report = await verified(rig, repair=True)
    assert (report.counts.damaged, report.counts.repaired) == (1, 1)
    await check(rig)
    assert (await pruned(rig)).counts.pruned == 1
    await check(rig, (first,))


async def test_a_changed_object_leaves_what_an_earlier_version_made_one(rig: Rig, trusting: pytest.MonkeyPatch) -> None:
    """Not damaged further: the changed one moves out."""
    first, second = KEYS[:2]
    for key in KEYS[2:]:
        del rig.server.objects[key]
    await synced(rig)
    trusting.undo()
    for key in (first, second):
        rig.server.put(key, OBJECTS[key] + b"!")
        await synced(rig)
    assert (await verified(rig, repair=True)).exit_code == 0
    await check(rig)


async def test_a_lost_catalog(rig: Rig, sqlite_template: bytes) -> None:
    """Copies are taken up by their digests, and no file for two keys, though two have the same bytes."""
    rig.server.put(KEYS[1], OBJECTS[KEYS[0]])
    await synced(rig)
    catalog = rig.settings.sqlite_path
    assert catalog is not None
    for path in catalog.parent.glob(f"{catalog.name}*"):
        path.unlink()
    catalog.write_bytes(sqlite_template)
    attached = await run_ingest("source", "attach", variables=variables_of(rig.settings), cwd=rig.home)
    assert attached.code == 0, attached.output
    report = await synced(rig)
    assert report.counts.adopted > 0
    assert (await verified(rig)).exit_code == 0
    rows = await rig.rows()
    for key, row in rows.items():
        assert (rig.settings.data_dir / row["local_path"]).read_bytes() == rig.server.bodies[key]


async def test_two_commands_at_once(rig: Rig) -> None:
    """A backfill beside a sync: each sees what the other has placed."""
    both = await asyncio.gather(
        run_ingest("sync", "--prefix", "d", variables=variables_of(rig.settings), cwd=rig.home),
        run_ingest("backfill", "--since", "2000-01-01", variables=variables_of(rig.settings), cwd=rig.home),
    )
    assert [done.code for done in both] == [0, 0], both
    await synced(rig)
    await check(rig)


async def test_restored_to_such_a_disk(rig: Rig, tmp_path: Path) -> None:
    """From a data directory elsewhere."""
    target = rig.settings.data_dir.parent / "target"
    rig.settings = rig.settings.replace(data_dir=tmp_path / "home" / "data")
    await synced(rig)
    await restored(rig, prefix="", to=str(target))
    bodies = sorted(path.read_bytes() for path in (target / rig.settings.bucket).rglob("*") if path.is_file())
    assert bodies == sorted(rig.server.bodies.values())


@pytest.mark.parametrize("overwrite", [False, True])
async def test_restored_one_by_one_to_such_a_disk(rig: Rig, tmp_path: Path, overwrite: bool) -> None:
    """Each run knows nothing of what the one before has placed: the names on the disk tell."""
    target = rig.settings.data_dir.parent / "target"
    rig.settings = rig.settings.replace(data_dir=tmp_path / "home" / "data")
    await synced(rig)
    for key in (*KEYS, *reversed(KEYS)):
        await restored(rig, key, to=str(target), overwrite=overwrite)
    bodies = {path.read_bytes() for path in (target / rig.settings.bucket).rglob("*") if path.is_file()}
    assert bodies == set(rig.server.bodies.values())


@pytest.mark.parametrize("made", [disks.exfat_again, disks.ntfs_again], ids=["exfat", "ntfs"])
async def test_a_disk_that_is_mounted_again(
    tmp_path: Path, sqlite_url: str, swift: None, made: Callable[[Path], AbstractContextManager[Callable[[], Path]]]
) -> None:
    """It is the same data directory, whatever numbers its files have now."""
    (tmp_path / "disk").mkdir()
    with made(tmp_path / "disk") as again:
        async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
            rig.settings = rig.settings.replace(data_dir=again() / "data")
            await synced(rig)
            again()
            assert (await synced(rig)).counts.unchanged == len(KEYS)
            await check(rig)


@pytest.fixture
def suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that folds whatever any disk folds, for whoever asks; this one keeps all names apart."""
    for module in (files, folding):
        monkeypatch.setattr(module, "traits_of", lambda _: Traits(folds=True, short_names=True))


async def test_what_any_disk_folds_is_kept_apart(tmp_path: Path, each_url: str, swift: None, suspicious: None) -> None:
    """Also composed letters and endings, which no file system here folds; on each database, over several commands."""
    async with rigged(tmp_path, each_url, {**OBJECTS, "PROGRA~1": b"short"}) as rig:
        await rig.run(0)
        paths = [row["local_path"] for row in (await rig.rows()).values()]
        assert len({folded(path) for path in paths}) == len(KEYS) + 1
        assert "statements/PROGRA%7E1" in paths
        for key in KEYS[::2]:
            rig.server.put(key, OBJECTS[key][::-1])
        await rig.run(0)
        await pruned(rig)
        await restored(rig, *KEYS[1::2])
        await restored(rig, prefix="")
        paths = [row["local_path"] for row in (await rig.rows()).values()]
        assert len({folded(path) for path in paths}) == len(KEYS) + 1
        await check(rig)


async def test_a_disk_that_cannot_be_asked_is_taken_to_fold(tmp_path: Path) -> None:
    """It is full, or not writable for us."""
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not folding.traits_of(directory).folds
        assert list(tmp_path.iterdir()) == []
        (tmp_path / folding.PROBES).write_text("in the way")
        assert folding.traits_of(directory).folds
    finally:
        os.close(directory)


async def test_what_a_killed_question_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / folding.PROBES).mkdir()
    (tmp_path / folding.PROBES / "Probe-left").touch()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not folding.traits_of(directory).folds
    finally:
        os.close(directory)
    assert list(tmp_path.iterdir()) == []
