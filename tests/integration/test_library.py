"""`ingest` as a library: what another program imports, and a run with nothing but settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ingest
from tests.fixtures.process import environment, run_ingest
from tests.fixtures.servers import Bucket

PROGRAM = """
import asyncio
from ingest import Selection, Settings, SyncOptions, sync

async def main() -> None:
    settings = Settings.load()
    report = await sync(settings)
    print(report.status, report.counts.downloaded)
    report = await sync(settings, SyncOptions(selection=Selection(prefixes=("k/1",)), dry_run=True))
    print(report.status, report.counts.listed, report.error)

asyncio.run(main())
"""


async def test_a_program_runs_a_sync(weed: Bucket, tmp_path: Path) -> None:
    await weed.put({f"k/{n}": b"x" for n in range(3)})
    variables = weed.variables(tmp_path / "data")
    done = await run_ingest(variables=variables, cwd=tmp_path, program=("-W", "error", "-c", PROGRAM))
    assert done.code == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "run_" not in line] == ["ok 3", "ok 1 None"]
    assert (tmp_path / "data" / weed.name / "k" / "2").read_bytes() == b"x"


async def test_what_goes_wrong_is_in_the_report(weed: Bucket, tmp_path: Path) -> None:
    report = await ingest.sync(weed.settings(tmp_path, bucket="no-such-bucket"))
    assert (report.status, report.exit_code) == (ingest.RunStatus.FAILED, 4)
    assert report.error is not None
    assert report.error.hint


@pytest.mark.parametrize("name", ingest.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ingest, name).__module__.startswith("ingest.")


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, ingest; print([name for name in sys.modules if name.startswith('ingest.') or name == 'pydantic'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"
