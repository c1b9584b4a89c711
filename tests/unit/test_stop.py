"""The request to stop: whoever makes it says with which error the run ends."""

from __future__ import annotations

import asyncio
import signal

import pytest

from ingest.engine.run import conclude
from ingest.errors import InterruptedRun, ReaderGone, TerminatedRun
from ingest.model import RunReport, RunStatus
from ingest.tasks.stop import Stop, StopReason

NOBODY_READS = StopReason(ReaderGone, "nobody reads any more")


@pytest.mark.parametrize(
    ("reason", "error", "exit_code"),
    [
        (signal.SIGINT, InterruptedRun, 130),
        (signal.SIGHUP, InterruptedRun, 130),
        (signal.SIGTERM, TerminatedRun, 143),
        (NOBODY_READS, ReaderGone, 141),
    ],
)
def test_a_run_ends_with_the_error_of_the_reason(
    reason: StopReason | signal.Signals, error: type[InterruptedRun], exit_code: int
) -> None:
    stop = Stop()
    stop.raise_if_requested()
    stop.request(reason)
    with pytest.raises(error) as raised:
        stop.raise_if_requested()
    report = RunReport("sync", error=raised.value)
    conclude(report)
    assert (type(raised.value), report.status, report.exit_code) == (error, RunStatus.INTERRUPTED, exit_code)


@pytest.mark.parametrize(("first", "then"), [(NOBODY_READS, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_the_first_reason_counts(first: StopReason | signal.Signals, then: signal.Signals) -> None:
    stop, once, told = Stop(), Stop(), list[str]()
    once.request(first)
    with stop.calling(lambda: told.append("hurry")):
        stop.request(first)
        stop.request(then)
    assert (stop.error.message, told) == (once.error.message, ["hurry"])


async def test_work_is_cancelled_for_any_reason() -> None:
    stop = Stop()
    asyncio.get_running_loop().call_soon(stop.request, NOBODY_READS)
    with pytest.raises(ReaderGone, match="nobody"):
        await stop.during(asyncio.sleep(3600))
