"""One object's way from the bucket to a staged file, with its retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.engine.record.recorder import Taken
from ingest.errors import (
    CredentialsExpired,
    DamagedTransfer,
    DiskError,
    IngestError,
    NoSuchKey,
    ObjectArchived,
    ObjectChanged,
    SourceError,
)
from ingest.model import HAD_A_COPY, Download, Outcome, Reason, RemoteObject, Skip, Status
from ingest.plan.concurrency import Concurrency, RetryBudget
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
