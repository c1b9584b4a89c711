"""I2 by the order of calls, and disks that know fewer calls: no power cut may find a row before its file, or the other
way round."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ingest.store import durability
from tests.faults.rig import Rig, variables_of
from tests.fixtures.lines import lines_said
from tests.fixtures.process import run_ingest

TRACED = "trace=unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync,syncfs,pwrite64"


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """A command before a command; what it did is in the file behind ``-o``."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed (Debian: strace)")
    tried = subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"tracing is not allowed here: {tried.stderr.strip()}")
    return (found, "-f", "-y", "-qq", "-e", TRACED, "-e", "signal=none", "-o")


class Calls:
    """The system calls of a process, in order: their line each, as strace writes it with the paths of descriptors."""

    def __init__(self, written: Path) -> None:
        self.lines = [line.partition(" ")[2].strip() for line in written.read_text().splitlines()]

    def first(self, pattern: str, start: int = 0) -> int:
        return next(at for at, line in enumerate(self.lines) if at >= start and re.search(pattern, line))

    def last(self, pattern: str, end: int | None = None) -> int:
        return max(at for at, line in enumerate(self.lines[:end]) if re.search(pattern, line))


async def traced(rig: Rig, strace: Sequence[str], *arguments: str) -> Calls:
    written = rig.home.parent / f"{rig.home.name}.strace"
    done = await run_ingest(
        *arguments, variables=variables_of(rig.settings), cwd=rig.home, under=(*strace, str(written))
    )
    assert done.code == 0, done.stderr
    return Calls(written)


async def test_a_copy_is_pruned_after_it_is_gone_for_good(rig: Rig, strace: Sequence[str]) -> None:
    """Intent, unlink, directory, done."""
    await rig.run(0)
    calls = await traced(rig, strace, "cleanup", "--older-than", "0m")
    unlinked = calls.last(r"unlinkat\(\d+</[^>]*/statements[/>]")
    recorded = calls.first(r"pwrite64\(\d+<[^>]*catalog\.db-wal>", unlinked)
    calls.last(
        r"pwrite64\(\d+<[^>]*catalog\.db-wal>", calls.first(r"unlinkat\(\d+</[^>]*/statements[/>]")
    )  # the intent
    assert any(
        re.search(r"(fsync|syncfs)\(\d+<[^>]*/(statements|tmp)[/>]", line) for line in calls.lines[unlinked:recorded]
    )


async def test_what_a_killed_cleanup_unlinked_is_made_durable_by_the_next(rig: Rig, strace: Sequence[str]) -> None:
    await rig.run(0)
    died = await run_ingest(
        "cleanup", "--older-than", "0m",
        variables=variables_of(rig.settings) | {"INGEST_CRASH_AT": "cleanup.all-unlinked"}, cwd=rig.home,
    )  # fmt: skip
    assert died.code == -9
    calls = await traced(rig, strace, "cleanup", "--older-than", "0m")
    synced = calls.first(r"(fsync|syncfs)\(\d+<[^>]*/(data|statements|tmp)>")
    assert synced < calls.last(r"pwrite64\(\d+<[^>]*catalog\.db-wal>")


async def test_new_directories_are_there_for_good_before_a_row_is(rig: Rig, strace: Sequence[str]) -> None:
    """Each with its entry in the one above: of the data directory itself, of the bucket's, and below."""
    rig.settings = rig.settings.replace(data_dir=rig.home / "some" / "where")
    rig.server.objects.clear()
    rig.server.put("one/file", b"one")
    calls = await traced(rig, strace, "sync")
    renamed = calls.first(r'rename\w*\(.*"file"')
    recorded = calls.first(r"pwrite64\(\d+<[^>]*catalog\.db-wal>", renamed)
    home = re.escape(str(rig.home))
    for made, parent in (("some", home), ("where", f"{home}/some")):
        at = calls.first(rf'mkdir\w*\(.*{made}"')
        assert at < calls.first(rf"fsync\(\d+<{parent}>", at) < recorded
    for parent in (f"{home}/some/where", f"{home}/some/where/statements", f"{home}/some/where/statements/one"):
        assert renamed < calls.first(rf"fsync\(\d+<{parent}>", renamed) < recorded


@pytest.mark.parametrize("number", [1, 9], ids=["one", "many"])
async def test_what_is_adopted_is_durable_before_its_row(rig: Rig, strace: Sequence[str], number: int) -> None:
    """Whoever left it may have been killed before its barrier."""
    rig.server.objects.clear()
    rig.server.fill({f"left/{each}": b"behind" for each in range(number)})
    killed = variables_of(rig.settings) | {"INGEST_CRASH_AT": "batch.rows-written"}
    assert (await run_ingest("sync", variables=killed, cwd=rig.home)).code == -9
    asked = rig.server.count("get")
    calls = await traced(rig, strace, "sync")
    assert rig.server.count("get") == asked
    synced = calls.last(r"syncfs|fsync\(\d+<[^>]*/statements/left/\d>")
    entered = calls.last(r"syncfs|fsync\(\d+<[^>]*/statements/left>")
    # The rows come with the last but one transaction: what follows says that the run and its sync have ended.
    assert synced <= entered < calls.last(r"pwrite64\(\d+<[^>]*catalog\.db-wal>")
    assert any("catalog.db-wal" in line for line in calls.lines[entered:])


def refuse_fsync(kind: Callable[[int], bool], number: int) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if kind(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return patch


def refuse_syncfs(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        def syncfs(_: int) -> int:
            ctypes.set_errno(number)
            return -1

        monkeypatch.setattr(durability, "_syncfs", syncfs)

    return patch


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has met no such disk yet."""
    monkeypatch.setattr(durability, "_said", set())


MANY = {f"many/{number}": b"x" * number for number in range(30)}


@pytest.mark.parametrize(
    ("refuse", "call"),
    [
        *(
            pytest.param(refuse_fsync(stat.S_ISDIR, number), "fsync of a directory", id=f"directory {errno.errorcode[number]}")
            for number in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EISDIR, errno.EACCES, errno.ENOSYS)
        ),
        *(
            pytest.param(refuse_syncfs(number), "syncfs", id=f"syncfs {errno.errorcode[number]}")
            for number in (errno.ENOSYS, errno.EPERM, errno.EINVAL)
        ),
        pytest.param(refuse_fsync(stat.S_ISREG, errno.EINVAL), "fsync of a file", id="file EINVAL"),
    ],
)  # fmt: skip
async def test_a_disk_that_knows_fewer_calls(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[pytest.MonkeyPatch], None], call: str
) -> None:
    """Everything is done, with the next best, and that is said in one line; few files and many, new and changed ones."""
    refuse(monkeypatch)
    with lines_said() as lines:
        await rig.run(0)
        rig.server.fill({**MANY, "letter.pdf": b"changed", "index.txt": b"too"})
        report = await rig.run(0)
        rig.server.fill({"letter.pdf": b"changed again"})
        await rig.run(0)
    await rig.check_all(report)
    said = [line for line in lines if line["event"] == "durability_reduced"]
    assert [line["call"] for line in said] == [call]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("kind", [stat.S_ISDIR, stat.S_ISREG], ids=["directory", "file"])
async def test_a_disk_that_fails(rig: Rig, kind: Callable[[int], bool], number: int) -> None:
    """What says that it tried, and could not, is believed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(durability, "_syncfs", None)
        refuse_fsync(kind, number)(monkeypatch)
        report = await rig.run(5)
    assert report.error is not None
    assert os.strerror(number) in report.error.message
    await rig.heal()
