"""Faults as processes tell them: each class of error as a process says it, by its exit code and one plain line."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import pytest

from ingest.engine.transfer import session
from ingest.tasks.stop import Stop
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Deed, Fault
from ingest.testing.raw_server import Visit
from tests.faults.rig import OBJECTS, TARGET, Rig, variables_of
from tests.fixtures import process


class Said(NamedTuple):
    """A fault as the command line shows it: `words` stand in its error line."""

    row: str
    exit_code: int
    words: str
    fault: Fault | None = None
    variables: dict[str, str] = {}  # noqa: RUF012 - a tuple's default, which nobody changes


SAID = [
    Said("nothing wrong", 0, ""),
    Said("settings", 2, "S3_SECURE", variables={"S3_SECURE": "perhaps"}),
    Said("one object", 3, "", Fault("get", faults.saying("403 Forbidden", "AccessDenied"), TARGET)),
    Said("every object", 4, "AccessDenied", Fault("get", faults.saying("403 Forbidden", "AccessDenied"))),
    Said("HTML", 4, "HTML", Fault("list", faults.web_page())),
    Said("clock", 4, "clock", Fault("list", faults.saying("403 Forbidden", "RequestTimeTooSkewed"))),
    Said("refused", 4, "refused", variables={"S3_ENDPOINT": "http://127.0.0.1:1"}),
    Said("DNS", 4, "no-such-host", variables={"S3_ENDPOINT": "http://no-such-host.invalid"}),
    Said("disk", 5, "/dev/null", variables={"INGEST_DATA_DIR": "/dev/null/x"}),
    Said("database", 6, "127.0.0.1", variables={"DATABASE_URL": "postgresql://u:canary-4c1d-secret@127.0.0.1:1/x"}),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.row)
async def test_what_people_read(rig: Rig, said: Said) -> None:
    """One line with the cause, one hint, the documented code, nothing secret and no traceback."""
    rig.server.faults = [said.fault] if said.fault else []
    printed = await rig.cli("sync", **said.variables)
    assert printed.exit_code == said.exit_code, printed.stderr
    error = next((line for line in printed.stderr.splitlines() if line.startswith("error: ")), "")
    assert said.words in error
    assert bool(error) == (said.exit_code not in (0, 3))


def started(rig: Rig) -> AbstractAsyncContextManager[Process]:
    """A sync, under way in a process of its own."""
    return process.started("sync", "--transfers", "1", variables=variables_of(rig.settings), cwd=rig.home)


def held(reached: asyncio.Event, release: asyncio.Event) -> Deed:
    """Answers only when it is told to."""

    async def deed(visit: Visit, answer: Answer) -> None:
        reached.set()
        await release.wait()
        await faults.sane(visit, answer)

    return deed


@pytest.fixture
def gate(rig_on_each: Rig) -> tuple[Rig, asyncio.Event, asyncio.Event]:
    """The first GET waits: a run is under way, and holds its lock, from `reached` until `release`."""
    reached, release = asyncio.Event(), asyncio.Event()
    rig_on_each.server.faults = [Fault("get", held(reached, release), times=1)]
    return rig_on_each, reached, release


async def test_two_runs_at_once(gate: tuple[Rig, asyncio.Event, asyncio.Event]) -> None:
    """The second one: 11, and it says who holds the lock. The first one is not disturbed."""
    rig, reached, release = gate
    async with started(rig) as first:
        await reached.wait()
        second = await rig.cli("sync")
        assert (second.exit_code, second.document["status"]) == (11, "locked")
        assert f"pid {first.pid}" in second.stderr
        if rig.settings.sqlite_path is None:  # another machine, with a data directory of its own: there can be one
            elsewhere = await rig.cli("sync", INGEST_DATA_DIR=str(rig.settings.data_dir / "other"))
            assert elsewhere.exit_code == 5
        release.set()
        await first.communicate()
        assert first.returncode == 0
    assert (await rig.run(0)).counts.unchanged == len(OBJECTS)


async def test_a_lock_whose_holder_died(gate: tuple[Rig, asyncio.Event, asyncio.Event]) -> None:
    """SIGKILL: nothing is to be removed by hand, on either database."""
    rig, reached, release = gate
    async with started(rig) as killed:
        await reached.wait()
        killed.kill()
        await killed.wait()
        release.set()
    rig.server.faults.clear()
    for _ in range(100):  # PostgreSQL may need a moment to see the connection's end
        if (await rig.attempt()).exit_code != 11:
            break
        await asyncio.sleep(0.05)
    await rig.heal()


@pytest.mark.parametrize(
    ("first", "second", "code"), [(signal.SIGTERM, signal.SIGINT, 143), (signal.SIGINT, signal.SIGTERM, 130)]
)
async def test_a_second_signal_ends_it_at_once(
    rig: Rig, first: signal.Signals, second: signal.Signals, code: int
) -> None:
    """The first one waits for the transfer under way, which never ends by itself; the second one does not."""
    reached, never = asyncio.Event(), asyncio.Event()
    rig.server.faults = [Fault("get", held(reached, never))]
    async with started(rig) as running:
        await reached.wait()
        running.send_signal(first)
        await asyncio.sleep(0.3)  # two signals at the same instant may come in any order
        assert running.returncode is None
        async with asyncio.timeout(session.GRACE - 0.5):
            running.send_signal(second)
            _, stderr = await running.communicate()
        assert running.returncode == code
        assert b"Traceback" not in stderr
    await rig.heal()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_drains(
    rig_on_each: Rig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """What is finished is recorded, what hangs is given up after the grace, and the next run goes on from there."""
    rig, stop = rig_on_each, Stop()
    monkeypatch.setattr(session, "GRACE", 0.2)
    rig.server.faults = [Fault("get", faults.after(lambda: stop.request(number), faults.stall), after=4, times=1)]
    report = await rig.run(code, stop=stop)
    await rig.check_all(report)
    assert len(await rig.rows()) == report.counts.downloaded < len(OBJECTS)
    healed = await rig.heal()
    assert healed.counts.downloaded + report.counts.downloaded == len(OBJECTS)


async def test_a_process_that_is_killed_leaves_nothing_for_ever(rig_on_each: Rig) -> None:
    """SIGKILL with a transfer under way: its temporary file is swept, and what was done is not done again."""
    rig = rig_on_each
    rig.server.put("large", os.urandom(6 << 20))
    reached = asyncio.Event()
    rig.server.faults = [Fault("get", faults.stall_half_way_noting(reached), "large")]
    async with started(rig) as killed:
        await reached.wait()
        killed.kill()
        await killed.wait()
    await rig.heal()
