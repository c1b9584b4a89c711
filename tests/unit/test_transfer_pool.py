"""The pool delivers everything, whatever its level does meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from ingest.engine.record.recorder import Taken
from ingest.engine.transfer.pool import TransferPool
from ingest.errors import DiskFull
from ingest.model import Download, Outcome, Reason, RemoteObject, Status
from ingest.plan.concurrency import Concurrency
from ingest.plan.cursors import Part

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def download(number: int) -> Download:
    return Download(RemoteObject(f"k{number}", 1, "e", NOW), None, Reason.NEW)


async def test_workers_that_are_too_many_leave_some_behind() -> None:
    """All answers come in the same moment, and the level has fallen: if all left, the rest would wait for ever."""
    concurrency = Concurrency(floor=1, ceiling=64, current=64)
    results: list[Outcome | Taken] = []
    together = asyncio.Event()
    running = 0

    async def transfer(action: Download) -> Outcome:
        nonlocal running
        running += 1
        if running == 64:
            concurrency.current = 2
            together.set()
        await together.wait()
        return Outcome(action, Status.DONE)

    def deliver(result: Outcome | Taken, _: Part | None) -> None:
        results.append(result)

    pool = TransferPool(transfer, deliver, concurrency)
    async with asyncio.timeout(20):
        for number in range(1_000):
            await pool.submit(download(number))
        await pool.drain()
    assert len({result.action.remote.key for result in results if isinstance(result.action, Download)}) == 1_000
    await pool.stop(0)


async def test_the_level_grows_without_new_work() -> None:
    """What is queued already is enough to hire for."""
    concurrency = Concurrency(floor=1, ceiling=32)
    running = most = 0

    async def transfer(action: Download) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        concurrency.current = 32
        return Outcome(action, Status.DONE)

    pool = TransferPool(transfer, lambda result, part: None, concurrency)
    async with asyncio.timeout(20):
        for number in range(64):
            await pool.submit(download(number))
        await pool.drain()
    assert most > 16
    await pool.stop(0)


async def test_a_fault_of_the_disk_ends_it() -> None:
    async def transfer(action: Download) -> Outcome:
        raise DiskFull("no space")

    results: list[Outcome | Taken] = []
    pool = TransferPool(transfer, lambda result, part: results.append(result), Concurrency.fixed(2))
    await pool.submit(download(1))
    with pytest.raises(DiskFull):
        await pool.drain()
    assert [result.status for result in results if isinstance(result, Outcome)] == [Status.FAILED]
    await pool.stop(0)


async def test_who_gives_up_waiting_for_it_leaves_no_task_behind() -> None:
    async def transfer(action: Download) -> Outcome:
        await asyncio.sleep(3600)
        return Outcome(action, Status.DONE)

    pool = TransferPool(transfer, lambda result, part: None, Concurrency.fixed(1))
    await pool.submit(download(1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pool.drain(), 0.01)
    await pool.stop(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
