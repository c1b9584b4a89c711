"""Nights on a wrong clock, as processes of their own under libfaketime: no copy goes too early, and none stays for ever.

With servers that say what time it is, and with servers that do not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingest.jobs.show import runs
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Asked, Deed
from tests.faults.rig import OBJECTS, Printed, Rig, rigged, variables_of
from tests.fixtures.process import ended, started, until

_LIBRARIES = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("/usr/lib/faketime/libfaketime.so.1")]
_LIBRARY = next((path for path in _LIBRARIES if path.exists()), None)
pytestmark = pytest.mark.skipif(_LIBRARY is None, reason="needs Debian's libfaketime")

CLEANUP = ("cleanup", "--older-than", "30d", "-q")
ALL = len(OBJECTS)


@pytest.fixture(params=["dated", "undated"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, sqlite_url) as made:
        if request.param == "undated":
            made.server.faults = [undated]
        yield made


def undated(_: Asked, answer: Answer) -> Deed | None:
    """A spoiler of every answer: the server does not say what time it is."""
    headers = {name: value for name, value in answer.headers.items() if name != "Date"}
    return faults.answering(lambda whole: whole._replace(headers=headers))


async def at(rig: Rig, days: float, *command: str) -> Printed:
    """The command on a clock that is so many days off."""
    off = {"LD_PRELOAD": str(_LIBRARY), "FAKETIME": f"{days:+}d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return await rig.cli(*command, **off)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"


def copies(rig: Rig) -> int:
    return sum(path.is_file() for path in (rig.settings.data_dir / rig.settings.bucket).rglob("*"))


async def good_night(rig: Rig) -> None:
    assert (await rig.cli("sync", "-q")).exit_code == 0
    printed = await rig.cli(*CLEANUP)
    assert (printed.exit_code, printed.document["pruned"]) == (0, 0)
    assert copies(rig) == ALL


async def test_a_night_ahead_removes_nothing_and_leaves_nothing(rig: Rig) -> None:
    """The sync of the same night is no evidence for its cleanup, nor is the refused cleanup for the next one."""
    await good_night(rig)
    assert (await at(rig, 40, "sync", "-q")).exit_code == 0
    for flags in ((), ("--trust-catalog",)):
        for _ in range(2):
            printed = await at(rig, 40, *CLEANUP, *flags)
            assert (printed.exit_code, printed.document["error"]["code"]) == (4, "clock_untrusted")
    assert copies(rig) == ALL
    await good_night(rig)  # it is set, and that is all


async def test_copies_of_a_night_behind_are_as_old_as_they_are(rig: Rig) -> None:
    await good_night(rig)
    del rig.server.objects["letter.pdf"]
    rig.server.put("letter.pdf", b"another letter")
    printed = await at(rig, -40, "sync", "-q")
    assert (printed.exit_code, printed.document["changed"]) == (0, 1)
    assert ("clock_off" in printed.stderr) is (not rig.server.faults)
    await good_night(rig)


async def test_copies_that_came_back_are_as_old_as_they_are(rig: Rig) -> None:
    await good_night(rig)
    assert (await rig.cli("cleanup", "--older-than", "0d", "-q")).document["pruned"] == ALL
    assert (await at(rig, -40, "restore", "--prefix", "", "-q")).document["restored"] == ALL
    await good_night(rig)
    for path in (rig.settings.data_dir / rig.settings.bucket).rglob("*.pdf"):
        path.unlink()
    assert (await at(rig, -40, "verify", "--repair", "-q")).document["repaired"] > 0
    await good_night(rig)


async def test_a_clock_that_is_set_an_hour_ahead_ends_no_run(rig: Rig) -> None:
    variables = variables_of(rig.settings) | {"INGEST_STOP_AT": "run.started"}
    async with started("backfill", "--since", "2020-01-01", "-q", variables=variables, cwd=rig.home) as living:
        await until(lambda: is_stopped(living.pid))
        for hours in (1, 24 * 40):
            assert (await at(rig, hours / 24, "sync", "-q")).exit_code == 0
            found = {run["command"]: run for run in await runs(rig.settings, 9)}
            assert (found["backfill"]["status"], found["backfill"]["error"]) == ("running", None)
        os.kill(living.pid, signal.SIGCONT)
        assert (await ended(living)).code == 0


async def test_how_far_a_clock_was_off_is_on_record(rig: Rig) -> None:
    assert (await at(rig, 2, "sync", "-q")).exit_code == 0
    (found,) = await runs(rig.settings, 9)
    said = found["clock_ahead"]
    assert (
        said is None if rig.server.faults else said is not None and abs(said - timedelta(days=2).total_seconds()) < 60
    )
