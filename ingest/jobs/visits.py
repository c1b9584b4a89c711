"""One event's way to the bucket: what the object is now, what to do about it, and its bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from ingest.delivery.messages import Event, Kind
from ingest.errors import (
    AccessDenied,
    DamagedTransfer,
    ExitCode,
    IngestError,
    NoSuchKey,
    SourceError,
    UnexpectedResponse,
)
from ingest.jobs.fetch import Fetch
from ingest.jobs.recorder import Taken
from ingest.jobs.transfers import Transfer
from ingest.model import HAD_A_COPY, CatalogRow, Download, MarkGone, Outcome, Pair, RemoteObject, Skip, Status
from ingest.observe.logs import log
from ingest.plan.concurrency import Concurrency
from ingest.plan.policy import decide
from ingest.plan.selection import Selection
from ingest.source.sight import SightedBucket

_EVERYTHING = Selection()
_NEVER = datetime.fromtimestamp(0, UTC)
_LONGEST_PAUSE = 10.0


class Visited(NamedTuple):
    """What came of one event: results for the recorder, and the error that leaves the event undone."""

    results: tuple[Outcome | Taken, ...] = ()
    error: IngestError | None = None


@dataclass
class Gate:
    """Lets as many through at once as `concurrency` says."""

    concurrency: Concurrency
    _inside: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def __aenter__(self) -> None:
        if self._inside < self.concurrency.current:
            self._inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the turn came together with the cancellation
                self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        while self._waiting and self._inside < self.concurrency.current:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)


@dataclass
class Visitor:
    """Visits objects. While nothing at all succeeds, the bucket is away, and every event waits for it."""

    bucket: SightedBucket
    fetch: Fetch
    transfer: Transfer
    gate: Gate
    look_up: Callable[[str], Awaitable[CatalogRow | None]]
    """The catalog's row of a key, where an event's path turns out to mean another key than it seemed."""
    trouble: str = ""
    """Why every event waits; empty while none does."""
    _succeeded_at: float = float("-inf")

    async def __call__(self, event: Event, row: CatalogRow | None) -> Visited:
        """Never raises for the object's own faults, nor for a bucket that is away: it waits.

        Raises:
            DiskError: the local disk failed.
        """
        loop = asyncio.get_running_loop()
        failed_at, pause = 0.0, 0.2
        while True:
            async with self.gate:
                with self.bucket.attention(event.key):
                    visited = await self._once(event, row)
            if visited.error is None or not _may_be_the_bucket(visited.error):
                self._succeeded_at = loop.time()
                self.trouble = ""
                return visited
            failed_at = failed_at or loop.time()
            if self._succeeded_at > failed_at:
                return visited  # others fare better: it is this object's own trouble
            self.trouble = f"the bucket is away: {visited.error.code}"
            log().warning("source_away", error=visited.error.code, message=visited.error.message, pause=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _once(self, event: Event, row: CatalogRow | None) -> Visited:
        visited = await self._visit(event, row)
        if event.size is not None and isinstance(visited.error, UnexpectedResponse | DamagedTransfer):
            # The event's own figures may be wrong: it is to say where to look, not what to find.
            visited = await self._visit(event._replace(etag=None, size=None), row)
        return visited

    async def _visit(self, event: Event, row: CatalogRow | None) -> Visited:
        try:
            remote, row = await self._facts(event, row)
        except NoSuchKey as error:
            if event.kind is Kind.CREATED:
                return Visited(error=error)
            return Visited((Outcome(MarkGone(row), Status.DONE),) if row is not None and not row.gone else ())
        except SourceError as error:
            return Visited(error=error)
        results: tuple[Outcome | Taken, ...] = ()
        for action in decide(Pair(remote, row), _EVERYTHING):
            if not isinstance(action, Download):
                results += (Outcome(action, Status.SKIPPED if isinstance(action, Skip) else Status.DONE),)
                continue
            result = await self.transfer(action)
            if isinstance(result, Outcome) and isinstance(result.error, NoSuchKey):
                return Visited(error=result.error)
            results += (result,)
            if isinstance(result, Outcome) and result.status is Status.FAILED:
                return Visited(results, result.error)
        return Visited(results)

    async def _facts(self, event: Event, row: CatalogRow | None) -> tuple[RemoteObject, CatalogRow | None]:
        """The object as it is, and its row. The bucket is asked, except where the event says all that matters."""
        if event.kind is Kind.CREATED and event.etag:
            settled = row is not None and row.state in HAD_A_COPY
            if row is not None and settled and not row.gone and row.etag == event.etag:
                return RemoteObject(row.key, row.size, row.etag, event.modified or _NEVER), row
            if not settled and event.size is not None and event.modified is not None:
                # Should it be out of date, the download is pinned to the etag and looks again by itself.
                return RemoteObject(event.key, event.size, event.etag, event.modified), row
        try:
            return await self._newest(event.key, row), row
        except NoSuchKey:
            for key in event.other_keys:
                try:
                    return await self.fetch.newest(_named(key)), await self.look_up(key)
                except NoSuchKey:
                    continue
            raise

    async def _newest(self, key: str, row: CatalogRow | None) -> RemoteObject:
        """What the object is now. Without a copy its bytes are wanted next: they may come along."""
        if row is not None and row.state in HAD_A_COPY:
            return await self.fetch.newest(_named(key))
        seen = await self.bucket.look(key)
        return RemoteObject(key, seen.size, seen.etag, seen.last_modified, seen.storage_class)


def _named(key: str) -> RemoteObject:
    return RemoteObject(key, 0, "", _NEVER)


def _may_be_the_bucket(error: IngestError) -> bool:
    """Whether no other object might fare better. Not a refusal: servers also refuse what does not exist."""
    return error.exit_code is ExitCode.SOURCE and not isinstance(error, AccessDenied)
