"""However many tasks fail at once, one error comes out of them, and it is no group."""

from __future__ import annotations

import asyncio

import pytest

from ingest.errors import DiskFull, ListingUntrusted
from ingest.tasks.groups import first_of, task_group


async def fail(error: Exception) -> None:
    raise error


async def test_two_tasks_fail_in_the_same_moment() -> None:
    first = DiskFull("no space left")

    async def work() -> None:
        async with task_group() as group:
            group.create_task(fail(first))
            group.create_task(fail(DiskFull("nor here")))

    with pytest.raises(DiskFull) as raised:
        await work()
    assert raised.value is first


async def test_who_starts_the_tasks_may_fail_as_well() -> None:
    ended = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def work() -> None:
        async with task_group() as group:
            group.create_task(wait())
            await asyncio.sleep(0)
            raise DiskFull("no space left")

    with pytest.raises(DiskFull):
        await work()
    assert ended.is_set()


async def test_a_cancellation_stays_one() -> None:
    async def work() -> None:
        async with task_group() as group:
            group.create_task(asyncio.Event().wait())

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_defect_is_not_hidden_behind_a_fault() -> None:
    defect = KeyError("k")
    group = ExceptionGroup("", [DiskFull("full"), ExceptionGroup("", [ListingUntrusted("html"), defect])])
    assert first_of(group) is defect
