"""One hash over a whole whose pieces arrive in any order: a thread takes one after the other without a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from ingest.tasks.threads import in_thread

Update = Callable[[memoryview], None]
Reader = Callable[[Update], None]
"""Hands bytes to an update, from wherever they are."""


class OrderedHash:
    """`add` what is next, then `end`; `run` waits for the thread."""

    def __init__(self, update: Update, threads: ThreadPoolExecutor) -> None:
        self._update = update
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._next: SimpleQueue[tuple[Reader, asyncio.Event | None] | None] = SimpleQueue()
        self._stopped = False

    def add(self, reader: Reader, taken: asyncio.Event | None = None) -> None:
        """`taken` is set when the hash has gone over it."""
        self._next.put((reader, taken))

    def end(self) -> None:
        """Nothing more will come."""
        self._next.put(None)

    def stop(self) -> None:
        """As `end`, and what waits is left: nobody wants the hash any more."""
        self._stopped = True
        self.end()

    async def run(self) -> None:
        """Returns at the end, which somebody must set. Raises what a reader raises."""
        try:
            await in_thread(self._threads, self._take, hurry=self.stop)
        finally:
            self.stop()  # also for a thread that could not be had, and that somebody else's brings to it later

    def _take(self) -> None:
        while (item := self._next.get()) is not None and not self._stopped:
            reader, taken = item
            reader(self._update)
            if taken is not None:
                self._loop.call_soon_threadsafe(taken.set)
