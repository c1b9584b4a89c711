"""What a run has counted is recorded and shown, whatever the command, and nothing is said that is not so."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingest.cli.runs import show_runs
from ingest.engine.options import HoldOptions, RestoreOptions, VerifyOptions
from ingest.jobs import hold, sources
from ingest.jobs.restore import restore
from ingest.jobs.show import runs
from ingest.jobs.sync import sync
from ingest.jobs.verify import verify
from ingest.observe.progress import Silence
from ingest.observe.report import as_line
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.process import started


@pytest.fixture
def server() -> Iterator[MemoryS3]:
    with running(MemoryS3()) as server:
        server.fill({"a": b"1", "b": b"22"})
        yield server


@pytest.fixture
def settings(server: MemoryS3, tmp_path: Path) -> Settings:
    return server.bucket.settings(tmp_path / "data")


async def test_each_command_is_shown_with_its_own_counts(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await sync(settings)
    await verify(settings, VerifyOptions(), progress=Silence(), stop=Stop())
    await hold.hold(settings, HoldOptions(prefix="a", reason="an audit"))
    await hold.release(settings, HoldOptions(prefix="a"))
    await sources.rename(settings, "1", "elsewhere.example.com:9000", dry_run=False)
    await sources.rename(settings, "1", str(settings.endpoint), dry_run=False)
    failed = await restore(settings, RestoreOptions(keys=("c",)), progress=Silence(), stop=Stop())
    assert as_line(failed).startswith("restore failed: nothing was done in ")
    show_runs(await runs(settings, 9))
    shown = capsys.readouterr().out
    for said in (
        "2 downloaded",
        "2 checked",
        "1 placed, 1 held",
        "1 released",
        "1 renamed",
        "nothing was done; 'c' is",
    ):
        assert said in shown
    assert "nothing to do" not in shown


@pytest.mark.parametrize(
    ("status", "said"), [("ok", "nothing to do"), ("running", "under way"), ("interrupted", "killed before it counted")]
)
def test_a_run_that_has_not_counted_yet_is_none_without_work(
    capsys: pytest.CaptureFixture[str], status: str, said: str
) -> None:
    shown: Any = {"id": 1, "command": "sync", "started_at": datetime.now(UTC), "status": status, "counts": {}}
    show_runs([shown | {"arguments": {}, "error": None}])
    assert capsys.readouterr().out.rstrip().endswith(said)


async def test_a_source_is_listed_with_a_time_like_all_others(settings: Settings) -> None:
    await sync(settings)
    (source,) = await sources.listed(settings)
    assert isinstance(source["last_complete_sync"], datetime)
    assert source["last_complete_sync"].tzinfo is not None


async def test_people_are_spared_the_counts_that_are_zero(server: MemoryS3, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    variables = server.bucket.variables(tmp_path / "data")
    async with started("sync", variables=variables, cwd=tmp_path, stderr=theirs) as process:
        assert await process.wait() == 0
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    (line,) = [line for line in shown.splitlines() if "run_finished" in line]
    assert "downloaded" in line
    assert "damaged" not in line
