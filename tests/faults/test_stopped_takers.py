"""What stops the taking of work while the listing still hands some out: its own code and line, as at any other time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.engine.record.recorder import Recorder
from ingest.engine.transfer.pool import TransferPool
from ingest.errors import DiskFull, IngestError
from tests.faults.rig import OBJECTS, rigged

EACH_CRAWLER = pytest.mark.parametrize("name", ["MinIO", "SeaweedFS"], ids=["by range", "by prefix"])


@EACH_CRAWLER
@pytest.mark.parametrize(("owner", "method"), [(Recorder, "ready"), (TransferPool, "submit")], ids=["recorder", "pool"])
async def test_the_listing_meets_that_nothing_is_taken_any_more(
    tmp_path: Path, sqlite_url: str, swift: None, name: str, owner: type, method: str
) -> None:
    async def refuse(*_: object) -> None:
        raise DiskFull("no space left on device")

    async with rigged(tmp_path, sqlite_url, name=name) as rig:
        await rig.run(0)
        rig.server.fill({f"{key}.new": body for key, body in OBJECTS.items()})
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(owner, method, refuse)
            report = await rig.run(5)
        assert report.error is not None
        assert report.error.code == "disk_full"
        await rig.heal()


@EACH_CRAWLER
async def test_the_directory_of_unfinished_files_cannot_be_written(
    tmp_path: Path, sqlite_url: str, swift: None, unprivileged: Sequence[str], name: str
) -> None:
    """More objects than the queue holds: the first file's fault finds the listing waiting for room in it."""
    async with rigged(tmp_path, sqlite_url, name=name, page=500) as rig:
        await rig.run(0)
        unfinished = rig.settings.own_dir / "tmp"
        rig.server.fill({f"many/{number:04}": b"new" for number in range(1_200)})
        os.chmod(unfinished, 0o500)
        refused = await rig.cli("sync", "-q", under=unprivileged)
        os.chmod(unfinished, 0o700)
        assert refused.exit_code == 5, refused.stderr
        assert "Permission denied" in refused.stderr
        await rig.heal()


@EACH_CRAWLER
async def test_a_defect_is_named_for_what_it_is(tmp_path: Path, sqlite_url: str, swift: None, name: str) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("a defect")

    async with rigged(tmp_path, sqlite_url, name=name) as rig:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(Recorder, "ready", fail)
            with pytest.raises(KeyError) as raised:
                await rig.attempt()
        assert not isinstance(raised.value, IngestError)
