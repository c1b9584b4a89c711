"""Hands bodies to threads that hash and write them, and gives back what was staged.

A thread takes what has gathered meanwhile, and hashes it side by side. The event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ingest.hashing.lanes import WIDTH, md5_of_each
from ingest.jobs.threads import until_ended
from ingest.model import Check
from ingest.plan.checks import Hashed, compared, hashed

if TYPE_CHECKING:
    from ingest.store.files import FileStore, Staged

_GATHER = WIDTH
"""Bodies that one thread takes at once."""


class _Job(NamedTuple):
    done: asyncio.Future[Staged]
    key: str
    body: memoryview
    check: Check


class Stager:
    """As many threads as the machine has cores; they end when nothing waits."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._most = max(1, (os.cpu_count() or 1) // 2)
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="stage")
        self._working = 0
        self._waiting: deque[_Job] = deque()

    async def stage(self, key: str, body: memoryview, check: Check) -> Staged:
        """As `FileStore.stage`, with what it raises. The memory behind `body` is used until this returns."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Staged] = loop.create_future()
        job = _Job(done, key, body, check)
        self._waiting.append(job)
        self._start(loop)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await self._withdraw(job)
            raise

    async def _withdraw(self, job: _Job) -> None:
        """Whoever cancels wants the memory back: a thread that has it already is waited for."""
        try:
            self._waiting.remove(job)
        except ValueError:
            await until_ended([job.done])

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and self._working < self._most:
            self._working += 1
            self._threads.submit(self._work, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while jobs := list(self._take()):
            # Each as it comes: whoever waits goes on to its next download, and not all of them at one time.
            for result in self._stage(jobs):
                loop.call_soon_threadsafe(_report, *result)
        loop.call_soon_threadsafe(self._ended, loop)

    def _take(self) -> Iterator[_Job]:
        with suppress(IndexError):
            for _ in range(_GATHER):
                yield self._waiting.popleft()

    def _stage(self, jobs: Sequence[_Job]) -> Iterator[tuple[asyncio.Future[Staged], Staged | Exception]]:
        for job, found in zip(jobs, _hash(jobs), strict=True):
            result: Staged | Exception
            try:
                result = self._store.stage(job.key, [job.body], found)
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                result = error
            yield job.done, result

    def _ended(self, loop: asyncio.AbstractEventLoop) -> None:
        self._working -= 1
        self._start(loop)  # what came after the thread had looked for the last time


def _hash(jobs: Sequence[_Job]) -> list[Hashed]:
    """Those that an MD5 checks are hashed side by side."""
    digests = iter(md5_of_each([job.body for job in jobs if job.check.algorithm == "md5"]))
    return [
        compared(f"md5:{next(digests).hex()}", job.check)
        if job.check.algorithm == "md5"
        else hashed([job.body], job.check)
        for job in jobs
    ]


def _report(done: asyncio.Future[Staged], result: Staged | Exception) -> None:
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
