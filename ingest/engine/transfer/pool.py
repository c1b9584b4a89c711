"""Runs many transfers at once.

The queue is bounded and the lister waits at it: what is listed but not yet downloaded never piles up in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ingest.engine.record.recorder import Taken
from ingest.errors import DiskError, ExitCode, IngestError, exhausted
from ingest.model import Download, Outcome, Status
from ingest.plan.concurrency import Concurrency
from ingest.plan.cursors import Part
from ingest.tasks.threads import ends_first


@dataclass
class TransferPool:
    """Runs transfers at a level that follows `concurrency`; results go to `deliver` as they come."""

    transfer: Callable[[Download], Awaitable[Outcome | Taken]]
    deliver: Callable[[Outcome | Taken, Part | None], None]
    concurrency: Concurrency
    failure: Exception | None = None
    """What made the pool stop taking work: a fault of the disk, a source that stays away, or a defect."""
    last_error: IngestError | None = None
    _queue: asyncio.Queue[tuple[Download, Part | None]] = field(init=False)
    _working: int = 0
    """Workers that will take another action. Their tasks tell too late: several would leave for the same place."""
    _workers: set[asyncio.Task[None]] = field(default_factory=set)
    _failed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._queue = asyncio.Queue(maxsize=2 * self.concurrency.ceiling)

    async def submit(self, action: Download, part: Part | None = None) -> None:
        """Waits for a place in the queue.

        Raises:
            IngestError: the pool stopped.
        """
        if self.failure is not None:
            raise self.failure
        await self._queue.put((action, part))
        self._hire()

    async def drain(self) -> None:
        """Waits until everything that was submitted is delivered.

        Raises:
            IngestError: the pool stopped.
        """
        await ends_first(self._queue.join(), self._failed.wait())
        if self.failure is not None:
            raise self.failure

    def raise_if_hopeless(self) -> None:
        """Nothing at all could be downloaded, and the last reason was the connection: the run's own error.

        Raises:
            SourceError: that reason.
        """
        if self.last_error is not None and self.last_error.exit_code is ExitCode.SOURCE:
            raise self.last_error

    async def stop(self, grace: float) -> None:
        """Drops what is queued, gives what is under way `grace` seconds, and ends the workers.

        Where the run is cancelled, before or meanwhile, there is no grace.
        """
        self._drop_queue()
        under_way = asyncio.ensure_future(self._queue.join())
        task = asyncio.current_task()
        try:
            if task is None or not task.cancelling():
                await asyncio.wait({under_way}, timeout=grace)
        finally:
            under_way.cancel()
            for worker in list(self._workers):
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

    def _hire(self) -> None:
        if self._working < self.concurrency.current and not self._queue.empty():
            self._working += 1
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def _drop_queue(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()

    async def _work(self) -> None:
        while self._working <= self.concurrency.current:
            self._hire()
            action, part = await self._queue.get()
            try:
                result = await self.transfer(action)
                if isinstance(result, Outcome) and result.error is not None:
                    self.last_error = result.error
                self.deliver(result, part)
            except IngestError as error:
                if isinstance(error, DiskError):
                    self.deliver(Outcome(action, Status.FAILED, action.remote, error=error, attempts=1), part)
                self.give_up(error)
            except Exception as defect:  # noqa: BLE001 - ours: it must end the run, not vanish with its task
                self.give_up(exhausted(defect) or defect)
            finally:
                self._queue.task_done()
        self._working -= 1

    def give_up(self, error: Exception) -> None:
        """Takes no more work, and drops what is queued: nothing else would fare better."""
        if self.failure is None:
            self.failure = error
            self._failed.set()
        self._drop_queue()
