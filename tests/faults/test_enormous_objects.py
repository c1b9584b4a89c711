"""Sizes that a server only names: neither memory nor disk nor the run is spent on them."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Fault
from ingest.testing.raw_server import Visit
from tests.faults.rig import OBJECTS, TARGET, Rig, rigged
from tests.faults.test_disk_faults import limited, tmpfs

OTHERS = len(OBJECTS) - 1


def claim(rig: Rig, size: int) -> None:
    """The listing and HEAD agree on the target's size."""

    async def head(visit: Visit, answer: Answer) -> None:
        await visit.send(answer.plus(b"", Content_Length=str(size)).head)

    listed = faults.replacing(b"<Size>1000</Size>", b"<Size>%d</Size>" % size)
    rig.server.faults = [Fault("list", listed), Fault("head", head, TARGET)]


@pytest.mark.parametrize(
    ("size", "code"),
    [(8 * 10**15, "object_too_large"), ((5 << 40) + 1, "object_too_large"), (5 << 40, "too_large_for_disk")],
)
async def test_an_object_of_an_impossible_size_fails_alone(rig: Rig, size: int, code: str) -> None:
    claim(rig, size)
    report = await rig.run(3)
    assert (report.counts.downloaded, report.counts.failed) == (OTHERS, 1)
    rows = await rig.rows()
    assert rows[TARGET]["last_error"].startswith(f"{code}: ")
    await rig.heal()


async def test_the_only_object_of_a_bucket_is_one(rig: Rig) -> None:
    """Still no fault of the source."""
    for key in set(OBJECTS) - {TARGET}:
        del rig.server.objects[key]
    claim(rig, 8 * 10**15)
    report = await rig.run(3)
    assert report.counts.failed == 1


async def test_an_object_that_has_no_room_leaves_room_for_the_others(
    tmp_path: Path, sqlite_url: str, swift: None
) -> None:
    """It is not begun, for it would end the run for all others when the disk is full of it."""
    with tmpfs(tmp_path / "disk", "size=6m") as disk:
        async with rigged(tmp_path, sqlite_url) as rig:
            rig.settings = rig.settings.replace(data_dir=disk)
            rig.server.put("a large one", bytes(7 << 20))
            report = await rig.run(3)
            assert report.counts.downloaded == len(OBJECTS)
            rows = await rig.rows()
            assert rows["a large one"]["last_error"].startswith("too_large_for_disk: ")
            del rig.server.objects["a large one"]
            await rig.heal()


async def test_a_disk_with_a_limit_for_each_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT has one of 4 GiB. Simulated at the calls: what goes beyond a megabyte is too large."""
    rig.server.put("large", bytes(3_000_000))
    real = os.pwrite

    def pwrite(descriptor: int, chunk: bytes, offset: int) -> int:
        if offset + len(chunk) > 1 << 20:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return real(descriptor, chunk, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        report = await rig.run(3)
    assert (report.counts.downloaded, report.counts.failed) == (len(OBJECTS), 1)
    await rig.heal()


async def test_a_limit_of_the_process_is_everybodys(rig: Rig) -> None:
    """``ulimit -f`` is to be raised, not to be lived with."""
    rig.server.put("large", bytes(3_000_000))
    with limited(resource.RLIMIT_FSIZE, 2_000_000):
        report = await rig.run(5)
    assert report.error is not None
    assert "ulimit -f" in report.error.hint
    await rig.heal()
