"""Data directories at odd places: made to work, or named with what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import OBJECTS, Rig, run_sync
from tests.faults.test_disk_faults import tmpfs


def deep(home: Path, size: int) -> Path:
    """A path of at least so many bytes."""
    path = home
    while len(os.fsencode(path)) < size:
        path /= "d" * 60
    return path


@contextmanager
def bound(directory: Path, place: Path) -> Iterator[None]:
    mounted = subprocess.run(["mount", "--bind", directory, place], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("size", [520, 1_500, 3_600])
async def test_a_long_path_with_the_catalog_elsewhere(rig: Rig, size: int) -> None:
    rig.settings = rig.settings.replace(data_dir=deep(rig.home / "far", size))
    assert (await run_sync(rig.settings)).exit_code == 0
    assert (await rig.cli("verify")).exit_code == 0
    assert (await rig.cli("cleanup", "--older-than", "0m")).document["pruned"] == len(OBJECTS)


async def test_a_path_that_is_too_long_for_the_catalog_in_it(rig: Rig) -> None:
    """SQLite takes paths of up to 511 bytes: that is said, and what helps."""
    far = deep(rig.home / "far", 520)
    done = await rig.cli("sync", INGEST_DATA_DIR=str(far), DATABASE_URL="")
    assert done.exit_code == 6
    assert "511 bytes" in done.stderr
    assert "DATABASE_URL" in done.stderr


async def test_the_buckets_directory_is_a_mount(rig: Rig) -> None:
    """Of another file system: no file can be renamed into it from .ingest. Said before anything is downloaded."""
    with tmpfs(rig.settings.data_dir / rig.settings.bucket, "size=4m"):
        report = await run_sync(rig.settings)
        assert report.exit_code == 5
        assert report.error is not None
        assert report.error.code == "other_file_system"
        assert "INGEST_DATA_DIR" in report.error.hint
        assert rig.server.count("get") == 0
    await rig.heal()


async def test_the_buckets_directory_is_a_mount_of_the_same_file_system(rig: Rig) -> None:
    """A bind mount, as container volumes are: the device is the same, and renaming fails all the same."""
    place, other = rig.settings.data_dir / rig.settings.bucket, rig.settings.data_dir / "other"
    place.mkdir()
    other.mkdir()
    with bound(other, place):
        report = await run_sync(rig.settings)
        assert report.exit_code == 5
        assert report.error is not None
        assert report.error.code == "other_file_system"
    await rig.heal()


async def test_one_directory_of_copies_is_a_mount(rig: Rig) -> None:
    """Only what lies there fails."""
    with tmpfs(rig.settings.data_dir / rig.settings.bucket / "zz", "size=4m"):
        report = await run_sync(rig.settings)
        assert (report.exit_code, report.counts.failed) == (3, 1)
        assert (await rig.rows())["zz/last.pdf"]["last_error"].startswith("other_file_system: ")
    await rig.heal()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_a_disk_without_locks(rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """NFS without its lock service, SMB with ``nobrl``: nothing is begun, and the line says what is wanted."""

    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", flock)
        report = await run_sync(rig.settings)
    assert report.exit_code == 5
    assert report.error is not None
    assert "flock" in report.error.hint
    await rig.heal()


@pytest.mark.parametrize("call", ["link", "symlink", "chmod"])
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
async def test_a_disk_without_some_calls(rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """FAT has neither hard links nor symlinks nor modes: nothing that is promised needs them."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    await rig.run(0)
    rig.server.put("letter.pdf", b"changed")
    await rig.check_all(await rig.run(0))
