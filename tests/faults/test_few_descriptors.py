"""Too many open files: wherever it strikes a process, an import included, it is named, and 5."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ingest.errors import DiskFull, TooManyFiles, too_many_files
from tests.faults.rig import rigged

NEW = {f"new/{number:02}": bytes(60_000) for number in range(30)} | {"large": bytes(12 << 20)}


@pytest.mark.parametrize("most", [10, 16, 20, 24, 30, 36, 40, 44])
async def test_a_process_that_may_open_few_files(tmp_path: Path, each_url: str, swift: None, most: int) -> None:
    async with rigged(tmp_path, each_url, objects=NEW) as rig:
        under = ("sh", "-c", f'ulimit -n {most}; exec "$@"', "sh")
        printed = await rig.cli("sync", "-q", under=under)
        # From 30 on it depends on how many requests meet: the few that there may be can be enough.
        assert printed.exit_code in ((0, 5) if most >= 30 else (5,)), printed.stderr
        if printed.exit_code:
            assert "ulimit -n" in printed.stderr
        for noise in ("Traceback", "Logging error", "never retrieved", "a defect"):
            assert noise not in printed.stderr
        await rig.heal()


def test_what_it_comes_down_to_is_found() -> None:
    exhausted = OSError(errno.EMFILE, "Too many open files", "/lib/x.py")
    wrapped = RuntimeError("cannot import")
    wrapped.__context__ = exhausted
    loader = ImportError("libz.so: cannot open shared object file: Too many open files")
    for error in (exhausted, wrapped, loader):
        found = too_many_files(error)
        assert isinstance(found, TooManyFiles)
        assert "Too many open files" in found.message


def test_nothing_else_is_taken_for_it() -> None:
    named = DiskFull("no space left")
    named.__cause__ = OSError(errno.EMFILE, "Too many open files")
    for error in (named, OSError(errno.EIO, "Input/output error"), ImportError("no module named x"), KeyError("k")):
        assert too_many_files(error) is None
