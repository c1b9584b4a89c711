"""Who gives up waiting for a thread waits for its end all the same, however often it is asked to give up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ingest.jobs.threads import in_thread


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancellation_waits_for_the_thread(times: int) -> None:
    began, may_end = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        began.set()
        may_end.wait(30)
        ended.append(True)
        raise OSError("nobody is to hear of it")

    task = asyncio.ensure_future(in_thread(None, work))
    assert await asyncio.to_thread(began.wait, 30)
    for _ in range(times):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
