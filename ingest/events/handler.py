"""One event's way to the bucket: what the object is now, what to do about it, and its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple

from ingest.broker.messages import Event
from ingest.engine.record.recorder import Taken
from ingest.engine.transfer.fetch import Fetch
from ingest.engine.transfer.transfer import Transfer
from ingest.errors import (
    AccessDenied,
    DamagedTransfer,
    ExitCode,
    IngestError,
    NoSuchKey,
    SourceError,
    UnexpectedResponse,
)
from ingest.model import HAD_A_COPY, CatalogRow, Download, MarkGone, Outcome, Pair, RemoteObject, Skip, Status
from ingest.observe.logs import log
from ingest.plan.etags import etag_of, is_void, shape_of
from ingest.plan.event_names import EventKind
from ingest.plan.policy import decide
from ingest.plan.selection import Selection
from ingest.plan.spellings import is_meant
from ingest.source.peek import PeekingBucket
from ingest.system.failpoints import failpoint
from ingest.tasks.turns import Turns

_EVERYTHING = Selection()
_NEVER = datetime.fromtimestamp(0, UTC)
_LONGEST_PAUSE = 10.0
_UNPROVEN_SECONDS = 5.0
"""What never answered is not waited for longer, where anybody's patience has an end."""
_NOBODYS_KEY = ".ingest/nobody"
"""Asked for where it is not clear whether the bucket is at fault, or one object: it should not exist."""


class Handled(NamedTuple):
    """What came of one event: results for the recorder, and the error that leaves the event undone."""

    results: tuple[Outcome | Taken, ...] = ()
    error: IngestError | None = None

    def and_also(self, other: Handled) -> Handled:
        return Handled(self.results + other.results, self.error or other.error)


@dataclass
class EventHandler:
    """Visits objects. While nothing at all succeeds, the bucket is away, and every event waits for it."""

    bucket: PeekingBucket
    fetch: Fetch
    transfer: Transfer
    turns: Turns
    look_up: Callable[[str], Awaitable[CatalogRow | None]]
    """The catalog's row of a key, where an event's path turns out to mean another key than it seemed."""
    patience: float = inf
    """Seconds that the bucket may be away; where it was never there, some few."""
    trouble: str = ""
    """Why every event waits; empty while none does."""
    _succeeded_at: float = float("-inf")

    @property
    def away(self) -> str:
        """Why every event waits now; empty while none has to."""
        return self.trouble or self.bucket.trouble

    async def __call__(self, event: Event, row: CatalogRow | None) -> Handled:
        """Never raises for the object's own faults, nor for a bucket that is away: it waits.

        Raises:
            DiskError: the local disk failed. SourceError: the bucket was away for longer than anybody has patience.
        """
        loop = asyncio.get_running_loop()
        failed_at, pause = 0.0, 0.2
        while True:
            async with self.turns.holding():
                with self.bucket.attention(event.key):
                    handled = await self._once(event, row)
            if handled.error is None or not _may_be_the_bucket(handled.error):
                self._succeeded_at = loop.time()
                self.trouble = ""
                return handled
            failed_at = failed_at or loop.time()
            if self._succeeded_at > failed_at:
                return handled  # others fare better: it is this object's own trouble
            if isinstance(handled.error, UnexpectedResponse) and await self._answers_for_another():
                return handled
            if getattr(handled.error, "away", False) or loop.time() + pause - failed_at > self._left():
                raise handled.error
            self.trouble = f"the bucket is away: {handled.error.code}"
            log().warning("source_away", error=handled.error.code, message=handled.error.message, pause=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _left(self) -> float:
        return self.patience if self._succeeded_at > float("-inf") else min(self.patience, _UNPROVEN_SECONDS)

    async def _answers_for_another(self) -> bool:
        """Whether the bucket knows what to say of a key that is nobody's: servers refuse some keys by a plain 400."""
        try:
            await self.bucket.head(_NOBODYS_KEY)
        except (NoSuchKey, AccessDenied):
            return True
        except SourceError:
            return False
        return False

    async def _once(self, event: Event, row: CatalogRow | None) -> Handled:
        handled = await self._visit(event, row)
        if event.size is not None and isinstance(handled.error, UnexpectedResponse | DamagedTransfer):
            # The event's own figures may be wrong: it is to say where to look, not what to find.
            handled = await self._visit(event._replace(etag=None, size=None), row)
        return handled

    async def _visit(self, event: Event, row: CatalogRow | None) -> Handled:
        try:
            if event.kind is not EventKind.CREATED:
                return await self._look_at_each(event, row)
            if event.is_ambiguous:
                return await self._choose(event, row)
            try:
                return await self._carry_out(await self._facts(event, row), row)
            except NoSuchKey:
                other = await self._under_another_key(event)
                if other is None:
                    raise
                return await self._carry_out(*other)
        except SourceError as error:
            return Handled(error=error)

    async def _carry_out(self, remote: RemoteObject, row: CatalogRow | None) -> Handled:
        """
        Raises:
            NoSuchKey: it is not there.
        """
        failpoint("events.seen")
        results: tuple[Outcome | Taken, ...] = ()
        for action in decide(Pair(remote, row), _EVERYTHING):
            if not isinstance(action, Download):
                results += (Outcome(action, Status.SKIPPED if isinstance(action, Skip) else Status.DONE),)
                continue
            try:
                result = await self.transfer(action)
            except SourceError as error:
                return Handled(results, error)
            if isinstance(result, Outcome) and isinstance(result.error, NoSuchKey):
                raise result.error
            results += (result,)
            if isinstance(result, Outcome) and result.status is Status.FAILED:
                return Handled(results, result.error)
        return Handled(results)

    async def _look_at_each(self, event: Event, row: CatalogRow | None) -> Handled:
        """Something went, or nobody knows what: each spelling is judged by what the bucket says of it, so that none is
        marked gone for another. One that nobody has heard of is nobody's concern, unless it is all that there is."""
        handled, found_one = Handled(), False
        for key in (event.key, *event.other_keys):
            row = row if key == event.key else await self.look_up(key)
            if key != event.key and row is None and (found_one or event.kind is EventKind.REMOVED):
                continue
            try:
                remote = await (self._newest(key, row) if key == event.key else self.fetch.newest(_named(key)))
                handled = handled.and_also(await self._carry_out(remote, row))
                found_one = True
            except NoSuchKey:
                if row is not None and not row.gone:
                    handled = handled.and_also(Handled((Outcome(MarkGone(row), Status.DONE),)))
        return handled

    async def _choose(self, event: Event, row: CatalogRow | None) -> Handled:
        """By the event's etag, where the key may be read in several ways; the likeliest way that exists, without."""
        found: list[tuple[RemoteObject, CatalogRow | None]] = []
        missing = NoSuchKey(f"{event.key!r}: there is no such object, however its key is read")
        for key in (event.key, *event.other_keys):
            try:
                remote = await self.fetch.newest(_named(key))
            except NoSuchKey as error:
                missing = error if key == event.key else missing
                continue
            if key == event.key or is_meant(remote, event.etag, event.modified):
                found.append((remote, row if key == event.key else await self.look_up(key)))
        if not found:
            raise missing
        handled = Handled()
        for remote, known in [one for one in found if etag_of(one[0].etag) == event.etag] or found[:1]:
            handled = handled.and_also(await self._carry_out(remote, known))
        return handled

    async def _facts(self, event: Event, row: CatalogRow | None) -> RemoteObject:
        """The object as it is. The bucket is asked, except where the event says all that matters."""
        if event.etag and self._is_a_version(event.etag, event.size):
            settled = row is not None and row.state in HAD_A_COPY
            if row is not None and settled and not row.gone and row.etag == event.etag:
                return RemoteObject(row.key, row.size, row.etag, event.modified or _NEVER)
            if not settled and event.size is not None and event.modified is not None:
                # Should it be out of date, the download is pinned to the etag and looks again by itself.
                return RemoteObject(event.key, event.size, event.etag, event.modified)
        return await self._newest(event.key, row)

    async def _under_another_key(self, event: Event) -> tuple[RemoteObject, CatalogRow | None] | None:
        for key in event.other_keys:
            with suppress(NoSuchKey):
                remote = await self.fetch.newest(_named(key))
                if is_meant(remote, event.etag, event.modified):
                    return remote, await self.look_up(key)
        return None

    def _is_a_version(self, etag: str, size: int | None) -> bool:
        """Whether an etag alone tells one version of an object from another."""
        shape = shape_of(etag)
        return shape is not None and shape not in self.bucket.etags.opaque and not is_void(etag, size or 1)

    async def _newest(self, key: str, row: CatalogRow | None) -> RemoteObject:
        """What the object is now. Without a copy its bytes are wanted next: they may come along."""
        if row is not None and row.state in HAD_A_COPY:
            return await self.fetch.newest(_named(key))
        seen = await self.bucket.peek(key)
        return RemoteObject(key, seen.size, seen.version, seen.last_modified, seen.storage_class)


def _named(key: str) -> RemoteObject:
    return RemoteObject(key, 0, "", _NEVER)


def _may_be_the_bucket(error: IngestError) -> bool:
    """Whether no other object might fare better. Not a refusal: servers also refuse what does not exist."""
    return error.exit_code is ExitCode.SOURCE and not isinstance(error, AccessDenied)
