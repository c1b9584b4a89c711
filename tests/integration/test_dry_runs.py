"""A dry run is told from a real one wherever runs are shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.cli.runs import show_runs
from ingest.engine.options import CleanupOptions, SyncOptions
from ingest.jobs.cleanup import cleanup
from ingest.jobs.show import runs, status
from ingest.jobs.sync import backfill, sync
from ingest.observe.progress import Silence
from ingest.settings import Settings
from ingest.tasks.stop import Stop
from ingest.testing.memory_s3 import MemoryS3, running


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with running(MemoryS3()) as server:
        server.fill({"a": b"1", "b": b"22"})
        yield server.bucket.settings(tmp_path / "data")


async def run(settings: Settings, *options: SyncOptions | CleanupOptions) -> None:
    for each in options:
        if isinstance(each, CleanupOptions):
            await cleanup(settings, each, progress=Silence(), stop=Stop())
        else:
            job = backfill if each.arguments else sync
            await job(settings, each, progress=Silence(), stop=Stop())


async def test_what_a_cleanup_was_told_is_recorded(settings: Settings) -> None:
    await run(settings, SyncOptions(), CleanupOptions(timedelta(0), True, 1, True, True), CleanupOptions(timedelta(0)))
    real, dry, _ = await runs(settings, 3)
    told = {"older_than": 0.0, "dry_run": True, "max_delete": 1, "trust_catalog": True, "trust_clock": True}
    assert dry["arguments"] == told
    untold = {"dry_run": False, "max_delete": None, "trust_catalog": False, "trust_clock": False}
    assert real["arguments"] == told | untold


async def test_a_dry_run_is_shown_as_one(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    window: dict[str, object] = {"since": "2026-01-01"}
    await run(
        settings,
        SyncOptions(dry_run=True),
        SyncOptions(),
        SyncOptions(arguments=window),
        SyncOptions(dry_run=True, arguments=window),
        CleanupOptions(timedelta(0), dry_run=True),
    )
    capsys.readouterr()
    show_runs(await runs(settings, 5))
    shown = capsys.readouterr().out.splitlines()[-5:]
    assert ["dry run: " in line for line in shown] == [True, True, False, False, True], shown
    show_runs((await status(settings))["last_runs"])
    assert capsys.readouterr().out.count("dry run: ") == 2  # the last cleanup, and the last backfill


async def test_a_dry_run_is_not_what_a_backfill_goes_on_with(settings: Settings) -> None:
    """It has planned nothing: taken for the run that stopped, the window would be listed from its start."""
    window: dict[str, object] = {"since": "2026-01-01"}
    await run(settings, SyncOptions(arguments=window), SyncOptions(dry_run=True, arguments=window))
    dry, real = await runs(settings, 2)
    assert (dry["arguments"], real["arguments"]) == (window | {"dry_run": True}, window)
