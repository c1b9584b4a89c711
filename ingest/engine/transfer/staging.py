"""Hands bodies to threads that hash and write them, and gives back what was staged.

A thread takes what has gathered meanwhile, and hashes it side by side. The event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ingest.hashing.lanes import WIDTH, md5_of_each
from ingest.plan.checks import Algorithm, Check, Hashed, compared, hashed
from ingest.tasks.threads import until_ended

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
    """As many threads as the machine has cores; they end when nothing waits.

    Whatever a thread meets, be it that there is no memory left, or no thread to be had: who waits is told.
    """

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
        """Whoever cancels wants the memory back, and no file: a thread that has the job already is waited for."""
        try:
            self._waiting.remove(job)
        except ValueError:
            try:
                await until_ended([job.done])
            finally:
                if job.done.exception() is None:
                    self._store.discard(job.done.result())

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting or self._working >= self._most:
            return
        try:
            work = loop.run_in_executor(self._threads, self._work, loop)
        except RuntimeError as error:  # the system gives us no thread: those that we have go on without it
            if not self._working:
                _report_all(self._take(len(self._waiting)), error)
            return
        self._working += 1
        work.add_done_callback(partial(self._ended, loop))

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while jobs := self._take(_GATHER):
            try:
                # Each as it comes: whoever waits goes on to its next download, and not all of them at one time.
                for job, found in zip(jobs, _hash(jobs), strict=True):
                    loop.call_soon_threadsafe(_report, job.done, self._stage(job, found))
            except Exception as error:  # noqa: BLE001 - as in `_stage`
                loop.call_soon_threadsafe(_report_all, jobs, error)

    def _take(self, most: int) -> list[_Job]:
        jobs: list[_Job] = []
        with suppress(IndexError):
            for _ in range(most):
                jobs.append(self._waiting.popleft())
        return jobs

    def _stage(self, job: _Job, found: Hashed) -> Staged | Exception:
        try:
            return self._store.stage(job.key, [job.body], found)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            return error

    def _ended(self, loop: asyncio.AbstractEventLoop, _: asyncio.Future[None]) -> None:
        self._working -= 1
        self._start(loop)  # what came after the thread had looked for the last time


def _hash(jobs: Sequence[_Job]) -> list[Hashed]:
    """Those that an MD5 checks are hashed side by side."""
    digests = iter(md5_of_each([job.body for job in jobs if job.check.algorithm is Algorithm.MD5]))
    return [
        compared(f"md5:{next(digests).hex()}", job.check)
        if job.check.algorithm is Algorithm.MD5
        else hashed([job.body], job.check)
        for job in jobs
    ]


def _report_all(jobs: Sequence[_Job], error: Exception) -> None:
    """Those that have no answer yet get this one."""
    for job in jobs:
        if not job.done.done():
            _report(job.done, error)


def _report(done: asyncio.Future[Staged], result: Staged | Exception) -> None:
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
