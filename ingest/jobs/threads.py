"""Work of threads and tasks that must have ended before anything goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(executor: ThreadPoolExecutor | None, call: Callable[..., T], *arguments: object) -> T:
    """A thread cannot be cancelled: its end is waited for, so that nobody writes to a file that was given up."""
    work = asyncio.get_running_loop().run_in_executor(executor, call, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):  # once more, by whoever winds up
                await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # seen: what cancelled us is what counts
        raise


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all of it; the first error ends the rest, and is raised when the rest has ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
