"""One object's way from the bucket to a staged file, and the pool that runs many of them at once.

The queue is bounded and the lister waits at it: what is listed but not yet downloaded never piles up in memory.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.engine.record.recorder import Taken
from ingest.errors import (
    CredentialsExpired,
    DamagedTransfer,
    DiskError,
    ExitCode,
    IngestError,
    NoSuchKey,
    ObjectArchived,
    ObjectChanged,
    SourceError,
    exhausted,
)
from ingest.model import HAD_A_COPY, Download, Outcome, Reason, RemoteObject, Skip, Status
from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.plan.cursors import Part
from ingest.plan.policy import is_believed_absent, is_had

if TYPE_CHECKING:
    from ingest.engine.transfer.fetch import Fetch

MOST_ATTEMPTS = 5
"""Tries for one object, the first included; of a large one, those in a row that bring nothing."""
MOST_VERSIONS = 3
"""How often an object may change under our hands before it is left to the next run."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before the first and at most before any retry; jittered over the whole span (AWS, "full jitter")."""


@dataclass
class Transfer:
    """Downloads one object, with retries, new versions and disappearances taken care of."""

    fetch: Fetch
    concurrency: Concurrency
    budget: RetryBudget
    on_retry: Callable[[Download, IngestError, int, float], None]

    async def __call__(self, action: Download) -> Outcome | Taken:  # noqa: C901, PLR0912 - one branch for each fault
        """Never raises for the object's own faults: they are the outcome.

        Raises:
            DiskError: the local disk failed; no other object would fare better.
            SourceError: nor with a source that was away for longer than anybody has patience.
        """
        if self._may_be_had(action) and (had := await self._had(action)) is not None:
            return had
        remote, attempt, versions, doubtful = action.remote, 0, 1, set[str]()
        while True:
            attempt += 1
            try:
                fetched = await self.fetch(remote, doubtful)
            except ObjectChanged as error:
                newer = await self._look_again(remote)
                if newer is None:
                    return _absent(action, remote, NoSuchKey(error.message), attempt)
                if isinstance(newer, RemoteObject):
                    if (had := _unchanged(action, newer)) is not None:
                        return had
                    # The server refuses the very version that it has: that is asked for once more, without a condition.
                    is_another = (newer.etag, newer.size) != (remote.etag, remote.size)
                    versions += 1 if is_another or not self.fetch.ask_for_none() else 0
                if isinstance(newer, IngestError) or versions > MOST_VERSIONS:
                    return Outcome(action, Status.FAILED, remote, error=error, attempts=attempt)
                remote = newer
            except NoSuchKey as error:
                return _absent(action, remote, error, attempt)
            except ObjectArchived as error:
                return Outcome(action, Status.SKIPPED, remote, error=error, attempts=attempt)
            except DiskError as error:
                if not error.of_one_object:
                    raise
                return Outcome(action, Status.FAILED, remote, error=error, attempts=attempt)
            except SourceError as error:
                if isinstance(error, DamagedTransfer) and error.digest:
                    doubtful.add(error.digest)
                attempt = 1 if error.progressed else attempt
                pause = self._pause_before_retry(error, attempt)
                if pause is None:
                    return Outcome(action, Status.FAILED, remote, error=error, attempts=attempt)
                self.on_retry(action, error, attempt, pause)
                await asyncio.sleep(pause)
            else:
                if fetched.seconds is not None:
                    self.concurrency.succeeded(fetched.seconds, time.monotonic())
                self.budget.earn()
                return Taken(action, fetched.remote, fetched.staged, attempt, fetched.received)

    def _may_be_had(self, action: Download) -> bool:
        """Whether the copy may be of this very version, and no request would tell without bringing its bytes."""
        row, remote = action.row, action.remote
        had = row is not None and row.state in HAD_A_COPY and row.size == remote.size
        return had and action.reason is Reason.CHANGED and not self.fetch.can_ask_for(remote)

    async def _had(self, action: Download) -> Outcome | None:
        newest = await self._look_again(action.remote)
        return _unchanged(action, newest) if isinstance(newest, RemoteObject) else None

    async def _look_again(self, remote: RemoteObject) -> RemoteObject | IngestError | None:
        try:
            return await self.fetch.newest(remote)
        except NoSuchKey:
            return None
        except SourceError as error:
            if error.away:
                raise
            return error

    def _pause_before_retry(self, error: SourceError, attempt: int) -> float | None:
        """Seconds to wait, or None when another try cannot help or is not allowed.

        Raises:
            SourceError: `error`, where no object would fare better.
        """
        if error.away:
            raise error
        if isinstance(error, CredentialsExpired):
            # The credentials were reloaded: a second refusal is final. New ones may be refused as well, each time.
            return 0.0 if attempt == 1 and self.budget.spend() else None
        if not error.retryable or attempt >= MOST_ATTEMPTS or not self.budget.spend():
            return None
        return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))  # noqa: S311 - jitter, no secret


def _absent(action: Download, remote: RemoteObject, error: NoSuchKey, attempts: int) -> Outcome:
    status = Status.SKIPPED if is_believed_absent(action) else Status.FAILED
    return Outcome(action, status, remote, error=error, attempts=attempts)


def _unchanged(action: Download, newest: RemoteObject) -> Outcome | None:
    """Where the object as it answers for itself is the version of its copy, and only the listing shows another."""
    if action.reason is not Reason.CHANGED or not is_had(newest, action.row):
        return None
    return Outcome(Skip(action.remote, "listed under another etag", unchanged=True), Status.DONE, newest, attempts=1)


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
        finished = asyncio.ensure_future(self._queue.join())
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait({finished, failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in (finished, failed):
                waiter.cancel()
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
