"""Hands bodies to threads that hash and write them, several at a time, and gives back what was staged.

One body alone costs more to hand over than to hash: so a thread takes what has gathered meanwhile, and reports it
together. The event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ingest.model import Check

if TYPE_CHECKING:
    from ingest.store.files import FileStore, Staged

_GATHER = 16
"""Bodies that one thread stages before it reports."""


class _Job(NamedTuple):
    done: asyncio.Future[Staged]
    key: str
    chunks: Sequence[bytes]
    size: int
    check: Check


class Stager:
    """As many threads as the machine has cores; they end when nothing waits."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._most = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="stage")
        self._working = 0
        self._waiting: deque[_Job] = deque()

    async def stage(self, key: str, chunks: Sequence[bytes], size: int, check: Check) -> Staged:
        """As `FileStore.stage`, with what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Staged] = loop.create_future()
        self._waiting.append(_Job(done, key, chunks, size, check))
        self._start(loop)
        return await done

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._working < self._most:
            self._working += 1
            self._threads.submit(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        results: list[tuple[asyncio.Future[Staged], Staged | Exception]] = []
        while True:
            try:
                job = self._waiting.popleft()
            except IndexError:
                break
            try:
                results.append((job.done, self._store.stage(job.key, job.chunks, job.size, job.check)))
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                results.append((job.done, error))
            if len(results) >= _GATHER:
                loop.call_soon_threadsafe(_report, results)
                results = []
        loop.call_soon_threadsafe(self._ended, loop, results)

    def _ended(
        self, loop: asyncio.AbstractEventLoop, results: list[tuple[asyncio.Future[Staged], Staged | Exception]]
    ) -> None:
        self._working -= 1
        _report(results)
        self._start(loop)  # what came after the thread had looked for the last time


def _report(results: list[tuple[asyncio.Future[Staged], Staged | Exception]]) -> None:
    for done, result in results:
        if done.done():
            continue  # cancelled: the next run sweeps the file
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)
