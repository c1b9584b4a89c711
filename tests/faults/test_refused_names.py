"""Names that a disk refuses: escaped where that helps, else that object's own failure; a broken disk is still one."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ingest.engine.options import VerifyOptions
from ingest.jobs.verify import verify
from ingest.model import RunReport
from ingest.observe.progress import Silence
from ingest.store.paths import DIGEST_MARK, decode_path
from ingest.tasks.stop import Stop
from tests.faults.rig import Rig, rigged, run_sync
from tests.fixtures import disks

ODD = [
    "a:b",
    "dir:/in it",
    'sign"s*<>?|\\',
    "nul",
    "com1.txt",
    "ends.",
    "ends ",
    "plain",
    "\u20ac",
    "x" * 250,
    "\u20ac" * 85,
]
OBJECTS = {key: random.Random(key).randbytes(200) for key in ODD}


async def check(rig: Rig) -> None:
    rows = await rig.rows()
    assert set(rows) == set(ODD)
    for key, row in rows.items():
        path = row["local_path"]
        assert (rig.settings.data_dir / path).read_bytes() == OBJECTS[key]
        assert DIGEST_MARK in path or decode_path(path.partition("/")[2]) == key
    report = await verify(rig.settings, VerifyOptions(), progress=Silence(), stop=Stop())
    assert (report.exit_code, report.notes["orphaned"]) == (0, 0)


@pytest.mark.parametrize("made", [disks.exfat, disks.windows_names], ids=["exfat", "ntfs"])
async def test_on_a_real_disk(
    tmp_path: Path, sqlite_url: str, swift: None, made: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    (tmp_path / "disk").mkdir()
    with made(tmp_path / "disk") as disk:
        async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
            rig.settings = rig.settings.replace(data_dir=disk / "data")
            report = await synced(rig, 0)
            assert report.counts.downloaded == len(ODD)
            await check(rig)
            assert (await rig.rows())["plain"]["local_path"] == "statements/plain"


async def synced(rig: Rig, exit_code: int) -> RunReport:
    """Not `rig.run`, which finds the key of a file by its path: a shortened one does not tell it."""
    report = await run_sync(rig.settings)
    assert report.exit_code == exit_code, report.error
    return report


class Picky:
    """A disk that refuses names, at the calls by which they come to be; our own directory it takes."""

    def __init__(self, refuses: Callable[[bytes], bool], number: int) -> None:
        self._refuses, self._number = refuses, number

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        replace, mkdir, opened = os.replace, os.mkdir, os.open

        def picky_replace(source: Any, target: Any, **where: Any) -> None:
            self.check(target)
            replace(source, target, **where)

        def picky_mkdir(name: Any, *mode: Any, **where: Any) -> None:
            self.check(name)
            mkdir(name, *mode, **where)

        def picky_open(name: Any, *flags: Any, **where: Any) -> int:
            if where.get("dir_fd") is not None:
                self.check(name)
            return opened(name, *flags, **where)

        monkeypatch.setattr(os, "replace", picky_replace)
        monkeypatch.setattr(os, "mkdir", picky_mkdir)
        monkeypatch.setattr(os, "open", picky_open)

    def check(self, name: Any) -> None:
        if isinstance(name, bytes) and self._refuses(name):
            raise OSError(self._number, os.strerror(self._number))


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[bytes], bool], int], None]]:
    def become(refuses: Callable[[bytes], bool], number: int) -> None:
        Picky(refuses, number).patch(monkeypatch)

    yield become
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("refuses", "number"),
    [
        pytest.param(lambda name: len(name) > 143, errno.ENAMETOOLONG, id="over 143 bytes, as eCryptfs"),
        pytest.param(lambda name: len(name) > 60, errno.ENAMETOOLONG, id="over 60 bytes"),
        pytest.param(lambda name: not name.isascii(), errno.EILSEQ, id="beyond ASCII"),
        pytest.param(lambda name: b":" in name, errno.EINVAL, id="colons"),
        pytest.param(lambda name: b":" in name, errno.ENOENT, id="colons, as exFAT says it"),
        pytest.param(lambda name: name.split(b".")[0] in (b"nul", b"com1"), errno.EACCES, id="devices"),
        pytest.param(lambda name: name.endswith((b".", b" ")), errno.EPERM, id="endings"),
    ],
)
async def test_what_an_escape_helps(
    tmp_path: Path, sqlite_url: str, swift: None, picky: Any, refuses: Callable[[bytes], bool], number: int
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
        picky(refuses, number)
        report = await synced(rig, 0)
        assert report.counts.downloaded == len(ODD)
        await check(rig)
        assert (await synced(rig, 0)).counts.unchanged == len(ODD)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOENT])
async def test_what_no_escape_helps_fails_alone(
    tmp_path: Path, sqlite_url: str, swift: None, picky: Any, number: int
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
        picky(lambda name: name.startswith((b"plain", b"%70lain", b"dir")), number)
        report = await synced(rig, 3)
        assert (report.counts.downloaded, report.counts.failed) == (len(ODD) - 2, 2)
        rows = await rig.rows()
        assert rows["plain"]["last_error"].startswith("name_refused: ")
        assert rows["dir:/in it"]["last_error"].startswith("name_refused: ")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.ESTALE])
async def test_a_disk_that_is_broken_is_everybodys(
    tmp_path: Path, sqlite_url: str, swift: None, picky: Any, number: int
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
        picky(lambda name: name == b"plain", number)
        report = await synced(rig, 5)
        assert report.error is not None
        assert os.strerror(number) in report.error.message


async def test_the_staged_file_is_gone(tmp_path: Path, sqlite_url: str, swift: None, monkeypatch: Any) -> None:
    """Not the name is at fault: somebody emptied our directory."""
    async with rigged(tmp_path, sqlite_url, {"plain": b"x"}) as rig:
        replace = os.replace

        def lost(source: Any, target: Any, **where: Any) -> None:
            if target == b"plain":
                os.unlink(source, dir_fd=where["src_dir_fd"])
            replace(source, target, **where)

        monkeypatch.setattr(os, "replace", lost)
        report = await synced(rig, 5)
        assert report.error is not None
        monkeypatch.undo()
        await rig.heal()
