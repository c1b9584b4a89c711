"""Work of threads and tasks that must have ended before anything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(
    executor: ThreadPoolExecutor | None,
    call: Callable[..., T],
    *arguments: object,
    hurry: Callable[[], None] = lambda: None,
    discard: Callable[[T], None] = lambda _: None,
) -> T:
    """A thread cannot be cancelled: its end is waited for, so that nobody writes to a file that was given up.

    On cancellation `hurry` is called, which makes a `call` end that would wait for more, and `discard` with what it
    returns all the same: whoever wanted a file or a connection is not there any more to close it.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, call, *arguments)
    return await to_its_end(work, hurry=hurry, discard=discard)


async def to_its_end(
    work: Awaitable[T], *, hurry: Callable[[], None] = lambda: None, discard: Callable[[T], None] = lambda _: None
) -> T:
    """The same for whatever awaits a thread, such as a file of aiofiles."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        hurry()
        try:
            await until_ended([running])
        finally:
            if not running.cancelled() and running.exception() is None:
                discard(running.result())
        raise


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all of it; the first error ends the rest, and is raised when the rest has ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await until_ended(tasks)


async def ends_first(work: Awaitable[Any], *others: Awaitable[Any]) -> bool:
    """Whether `work` ends no later than any of the others. What has not ended by then is cancelled, and waited for."""
    tasks = [asyncio.ensure_future(one) for one in (work, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()
        await until_ended(tasks)


async def until_ended(work: Iterable[asyncio.Future[Any]]) -> None:
    """Waits for all of it, also while this is cancelled again and again; the cancellation goes on after that.

    Of what it ended with, nobody is told: whoever cancelled does not want to know.
    """
    work, cancelled = list(work), None
    while pending := [one for one in work if not one.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    for one in work:
        if not one.cancelled():
            one.exception()  # seen
    if cancelled is not None:
        raise cancelled
