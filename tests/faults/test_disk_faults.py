"""A faulty disk: new work stops, old copies and rows stay what they are, 5, and the next run makes it good."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.store import durability
from tests.faults.rig import OBJECTS, TARGET, Rig, rigged

NOBODY = 65534
LONG = f"{'long-' * 40}/" * 3
NEW = {f"new/{number:02}": random.Random(number).randbytes(20_000) for number in range(60)}


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where mounting is not allowed."""
    directory.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def remount(directory: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(directory)], check=True)


def fill(directory: Path, leave: int) -> Callable[[], None]:
    """Leaves so many bytes free; returns how to free the rest again."""
    filler = directory / "filler"
    status = os.statvfs(directory)
    filler.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - leave)))
    return filler.unlink


def copies(rig: Rig) -> dict[str, bytes]:
    root = rig.settings.data_dir / rig.settings.bucket
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def exhaust_inodes(directory: Path) -> Callable[[], None]:
    """All but two."""
    hoard = [directory / f"inode-{number}" for number in range(os.statvfs(directory).f_favail - 2)]
    for path in hoard:
        path.touch()

    def restore() -> None:
        for path in hoard:
            path.unlink()

    return restore


@pytest.mark.parametrize(
    ("row", "spoil"),
    [("full", lambda directory: fill(directory, 200_000)), ("out of inodes", exhaust_inodes)],
    ids=["full", "out of inodes"],
)
async def test_the_data_directory_has_no_room(
    tmp_path: Path, each_url: str, swift: None, row: str, spoil: Callable[[Path], Callable[[], None]]
) -> None:
    """In mid-run, on a file system of its own; the catalog is elsewhere."""
    with tmpfs(tmp_path / "disk", "size=4m,nr_inodes=150") as disk:
        async with rigged(tmp_path, each_url) as rig:
            rig.settings = rig.settings.replace(data_dir=disk)
            await rig.run(0)
            before = copies(rig)
            rig.server.fill(NEW)
            restore = spoil(disk)
            asked = rig.server.count("get")
            report = await rig.run(5, transfers=2)
            assert report.error is not None
            assert report.error.code == "disk_full"
            assert rig.server.count("get") - asked < len(NEW)  # it stopped, and did not try them all in vain
            await rig.check_all(report)
            assert before.items() <= copies(rig).items()
            restore()
            await rig.heal()


async def test_the_data_directory_is_read_only(tmp_path: Path, each_url: str, swift: None) -> None:
    with tmpfs(tmp_path / "disk", "size=4m") as disk:
        async with rigged(tmp_path, each_url) as rig:
            rig.settings = rig.settings.replace(data_dir=disk)
            await rig.run(0)
            before = copies(rig)
            rig.server.fill(NEW)
            remount(disk, "ro")
            report = await rig.run(5)
            assert report.error is not None
            assert "Read-only file system" in report.error.message
            assert copies(rig) == before
            remount(disk, "rw")
            await rig.heal()


@pytest.mark.parametrize("leave", [0, 120_000], ids=["from the start", "in mid-run"])
async def test_the_catalogs_disk_is_full(tmp_path: Path, sqlite_template: bytes, swift: None, leave: int) -> None:
    """SQLite on a full file system, the copies elsewhere: 6, and files without a row are adopted, not fetched again."""
    with tmpfs(tmp_path / "data" / ".ingest" / "database", "size=2m") as disk:
        (disk / "catalog.db").write_bytes(sqlite_template)
        async with rigged(tmp_path, f"sqlite+aiosqlite:///{disk}/catalog.db") as rig:
            await rig.run(0)
            rig.server.fill({f"{LONG}{key}": body for key, body in NEW.items()})
            restore = fill(disk, leave)
            report = await rig.run(6)
            assert report.error is not None
            assert "full" in report.error.message
            restore()
            asked, placed = rig.server.count("get"), len(copies(rig)) - len(OBJECTS)
            assert bool(placed) == bool(leave)
            await rig.heal()
            assert rig.server.count("get") - asked == len(NEW) - placed


async def test_a_full_disk_is_cleaned_up(tmp_path: Path, each_url: str, swift: None) -> None:
    """The catalog is elsewhere. Not one byte is free, not even for the name of a lock's holder: cleanup frees the disk,
    and what needs no room goes on."""
    with tmpfs(tmp_path / "disk", "size=1m,nr_inodes=150") as disk:
        async with rigged(tmp_path, each_url) as rig:
            rig.settings = rig.settings.replace(data_dir=disk)
            await rig.run(0)
            fill(disk, 0)
            exhaust_inodes(disk)
            for command in (("verify",), ("hold", "add", "index.txt", "--reason", "x"), ("restore", "--prefix", "")):
                done = await rig.cli(*command)
                assert done.exit_code in (0, 5), done.stderr
            done = await rig.cli("cleanup", "--older-than", "0m")
            assert (done.exit_code, done.document["pruned"]) == (0, len(OBJECTS) - 1), done.stderr
            assert sorted(copies(rig)) == ["index.txt"]


async def test_the_catalog_is_on_the_full_disk_as_well(rig: Rig) -> None:
    """The hint names the disk: the URL of the database is right."""
    with tmpfs(rig.home / "disk", "size=2m") as disk:
        rig.settings = rig.settings.replace(
            data_dir=disk, database_url=f"sqlite+aiosqlite:///{disk}/.ingest/catalog.db"
        )
        assert (await rig.cli("sync")).exit_code == 0
        fill(disk, 0)
        done = await rig.cli("cleanup", "--older-than", "0m")
        assert done.exit_code == 6
        assert "full" in done.document["error"]["hint"]


async def test_no_permission(rig: Rig, unprivileged: Sequence[str]) -> None:
    """The data directory, then one directory in it, belong to another user: 5, as a process; then healed."""
    rig.settings = rig.settings.replace(data_dir=rig.home / "theirs")
    rig.settings.data_dir.mkdir(mode=0o755)
    os.chown(rig.settings.data_dir, NOBODY, NOBODY)
    refused = await rig.cli("sync", under=unprivileged)
    assert refused.exit_code == 5
    assert "Permission denied" in refused.stderr
    assert list(rig.settings.data_dir.iterdir()) == []
    os.chown(rig.settings.data_dir, 0, 0)
    assert (await rig.cli("sync", under=unprivileged)).exit_code == 0
    os.chown(rig.settings.data_dir / rig.settings.bucket / "2026" / "02", NOBODY, NOBODY)
    rig.server.fill({"2026/02/new.pdf": b"new", "other.pdf": b"other"})
    refused = await rig.cli("sync", under=unprivileged)
    assert refused.exit_code == 5
    assert "Permission denied" in refused.stderr
    os.chown(rig.settings.data_dir / rig.settings.bucket / "2026" / "02", 0, 0)
    await rig.heal()


COMMANDS = (
    "sync", "backfill --since 2000-01-01", "cleanup", "restore k", "verify", "hold add k --reason x", "hold list", "status",
    "runs", "history k", "deliver",
)  # fmt: skip


@pytest.mark.parametrize("place", ["", ".ingest"], ids=["the data directory", "our own directory"])
async def test_no_permission_at_all(tmp_path: Path, each_url: str, unprivileged: Sequence[str], place: str) -> None:
    """Wherever the catalog is, no command gets as far as to call it a defect."""
    async with rigged(tmp_path, each_url) as rig:
        locked = rig.home / "locked"
        (locked / ".ingest").mkdir(parents=True)
        closed = locked / place
        os.chown(closed, NOBODY, NOBODY)
        closed.chmod(0)
        own = f"sqlite+aiosqlite:///{locked}/.ingest/catalog.db"
        for url, commands in ((each_url, COMMANDS), (own, COMMANDS[::4])):
            rig.settings = rig.settings.replace(data_dir=locked, database_url=url)
            for command in commands:
                done = await rig.cli(*command.split(), under=unprivileged, VERIFY_URL="http://127.0.0.1:9/")
                assert done.exit_code == 5, (command, done.stderr)
                assert "Permission denied" in done.stderr


@contextmanager
def limited(what: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


async def test_file_size_limit(rig_on_each: Rig) -> None:
    """RLIMIT_FSIZE, whose signal Python ignores: the one large object cannot be written."""
    rig = rig_on_each
    await rig.run(0)
    before = copies(rig)
    rig.server.put("large", bytes(3_000_000))
    with limited(resource.RLIMIT_FSIZE, 2_000_000):
        report = await rig.run(5)
    assert report.error is not None
    assert "File too large" in report.error.message
    await rig.check_all(report)
    assert copies(rig) == before
    await rig.heal()


@pytest.mark.parametrize("room", [8, 16, 40])
async def test_too_many_open_files(rig: Rig, room: int) -> None:
    """RLIMIT_NOFILE, a few above what is open: wherever it strikes, it is named, and nothing is left half done."""
    await rig.run(0)
    before = copies(rig)
    rig.server.fill({f"{key}/deep/er": body for key, body in NEW.items()})
    report_codes = (0, 5, 6)
    with limited(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + room):
        report = await rig.attempt()
    assert report.exit_code in report_codes, report.error
    if report.error is not None:
        assert "open" in report.error.message
    assert before.items() <= copies(rig).items()
    await rig.heal()


# EIO, which no small file system can be asked for: at the calls themselves, and only for our own files.


def eio() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of every fsync, in order."""
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        seen.append(path_of(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def fail_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def pwrite(descriptor: int, chunk: Any, offset: int) -> int:
        if "/.ingest/tmp/" in path_of(descriptor):
            raise eio()
        return real(descriptor, chunk, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def fail_fsync_of(part: str) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            if part in path_of(descriptor):
                raise eio()

        monkeypatch.setattr(os, "fsync", fsync)

    return patch


def fail_syncfs(monkeypatch: pytest.MonkeyPatch) -> None:
    def syncfs(_: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1

    monkeypatch.setattr(durability, "_syncfs", syncfs)


def fail_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: object, **__: object) -> None:
        raise eio()

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize(
    ("row", "patch", "count"),
    [
        ("write", fail_writes, 2),
        ("fsync of a file", fail_fsync_of("/.ingest/tmp/"), 2),
        ("fsync of a directory", fail_fsync_of("/statements"), 2),
        ("syncfs", fail_syncfs, 30),
        ("rename", fail_rename, 2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_eio(
    rig_on_each: Rig,
    synced: list[str],
    row: str,
    patch: Callable[[pytest.MonkeyPatch], None],
    count: int,
) -> None:
    """A changed and new objects: 5, no row says that they are there, and no file is synced a second time."""
    rig = rig_on_each
    await rig.run(0)
    known = await rig.rows()
    rig.server.fill({TARGET: b"changed"} | dict(list(NEW.items())[:count]))
    synced.clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch)
        report = await rig.run(5)
    assert report.error is not None
    assert "Input/output error" in report.error.message
    assert report.counts.downloaded == 0
    files = [path for path in synced if "/.ingest/tmp/" in path]
    assert len(files) == len(set(files))
    rows = await rig.rows()
    assert {key: row["digest"] for key, row in rows.items() if row["state"] == "present"} == {
        key: row["digest"] for key, row in known.items()
    }
    await rig.heal()
