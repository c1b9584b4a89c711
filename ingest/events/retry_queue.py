"""Messages that could not be carried out: kept in the catalog, tried again while they may succeed, then given up.

A message that waits is durable, so its offset moves on: one object that never comes holds nothing up. Nor does the
topic of dead letters: what was given up is written there afterwards (`events.dead_letter_topic`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from ingest.broker.messages import Letter
from ingest.catalog import deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow
from ingest.engine.record.patient import Outage
from ingest.errors import DatabaseDataError, Poison
from ingest.events.in_flight import InFlight
from ingest.model import LetterState
from ingest.observe.logs import log
from ingest.observe.sparing import Sparing
from ingest.plan.patience import MESSAGE_PATIENCE, next_try
from ingest.system.failpoints import failpoint

_GATHER_SECONDS = 0.05
_BYTES_AT_ONCE = 8 << 20
"""Of messages that are written in one transaction, unless one alone has more."""
_KEPT_ATTEMPTS = 50
"""Of the stack, the newest."""
_LISTED = "; `ingest deadletters list` shows them"


class _Change(NamedTuple):
    row: LetterRow | None
    settled: int | None
    then: Callable[[], None]

    @property
    def size(self) -> int:
        return self.row.size if self.row is not None and self.row.id is None else 0


@dataclass
class RetryQueue:
    """Writes the letters of one source. `on_dead` is told that there is something for the topic of dead letters."""

    catalog: Catalog
    source_id: int
    outage: Outage
    patience: timedelta = MESSAGE_PATIENCE
    on_dead: Callable[[], None] | None = None
    parked: int = 0
    """Messages of the topic that were put to wait; `died` were given up, `settled` succeeded after all."""
    died: int = 0
    settled: int = 0
    lost: int = 0
    """Messages that the broker had removed before they were read."""
    under_way: int = 0
    """Changes that are not durable yet, and the bytes of their messages."""
    bytes_under_way: int = 0
    _changes: deque[_Change] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _waits: Sparing = field(default_factory=lambda: Sparing("message_waits", "info", hint=_LISTED))
    _deaths: Sparing = field(default_factory=lambda: Sparing("message_dead", hint=_LISTED))

    def keep(self, flight: InFlight, then: Callable[[], None]) -> None:
        """A message of the topic failed; `then` is called when that is durable."""
        self._change(_Change(self._next(None, flight), None, then))

    def note_lost(self, row: LetterRow, messages: int, then: Callable[[], None]) -> None:
        """The broker has removed so many messages unread: `row` stands for them, and `then` is called when it is
        durable."""
        self.lost += messages
        self._change(_Change(row, None, then))

    def tried(self, row: LetterRow, flight: InFlight) -> None:
        """A kept letter was tried again."""
        if flight.error is None:
            log().info("letter_settled", letter=row.id, key=row.key, attempts=len(row.attempts) + 1)
            self._change(_Change(None, row.id, _nothing))
        else:
            self._change(_Change(self._next(row, flight), None, _nothing))

    async def run(self) -> None:
        """Writes changes as they come, until cancelled.

        Raises:
            DatabaseError: the database was away for too long.
        """
        while True:
            await self._news.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._news.clear()
            while self._changes:
                await self._write(list(self._some()))

    def close(self) -> None:
        """What was only counted is told."""
        self._waits.close()
        self._deaths.close()

    async def due(self, limit: int, most_bytes: int = deadletters.BYTES_AT_ONCE) -> list[LetterRow]:
        """Letters to be tried again now."""
        attempt = partial(deadletters.due, self.catalog, self.source_id)
        return await self.outage.wait_out(lambda: attempt(limit, most_bytes))

    def _some(self) -> Iterator[_Change]:
        """The next changes, as many as one transaction takes; they stay under way."""
        total = 0
        for _ in range(min(len(self._changes), deadletters.AT_ONCE)):
            total += self._changes[0].size
            if total > _BYTES_AT_ONCE and total > self._changes[0].size:
                return
            yield self._changes.popleft()

    async def _write(self, changes: list[_Change]) -> None:
        rows = [change.row for change in changes if change.row is not None]
        settled = [change.settled for change in changes if change.settled is not None]
        await self.outage.wait_out(lambda: deadletters.put(self.catalog, self.source_id, rows, settled))
        failpoint("letters.kept")
        self.settled += len(settled)
        self.under_way -= len(changes)
        self.bytes_under_way -= sum(change.size for change in changes)
        for row in rows:
            self._announce(row)
        for change in changes:
            change.then()

    def _next(self, row: LetterRow | None, flight: InFlight) -> LetterRow:
        assert flight.error is not None  # noqa: S101 - only what failed is kept
        now = datetime.now(UTC)
        attempts = (*(row.attempts if row else ()), flight.attempt)[-_KEPT_ATTEMPTS:]
        first_at = row.first_at if row else now
        was_dead = row is not None and row.state == LetterState.DEAD
        may_wait = not was_dead and not isinstance(flight.error, Poison | DatabaseDataError)
        again = next_try(first_at, now, len(attempts), self.patience) if may_wait else None
        reason = flight.error.reason if isinstance(flight.error, Poison) else flight.error.code
        if row is not None and row.reason == deadletters.REMOVED_UNREAD:
            reason = row.reason  # there is nothing of it to be tried
        letter = flight.letter
        return LetterRow(
            letter.topic,
            letter.partition,
            letter.offset,
            letter.key,
            letter.value,
            letter.headers,
            LetterState.DEAD.value if again is None else LetterState.WAITING.value,
            reason,
            attempts,
            first_at,
            again,
            flight.key,
            now if again is None and not was_dead else None,
            row.id if row else None,
        )

    def _change(self, change: _Change) -> None:
        self.under_way += 1
        self.bytes_under_way += change.size
        self._changes.append(change)
        self._news.set()

    def _announce(self, row: LetterRow) -> None:
        if row.reason == deadletters.REMOVED_UNREAD:
            return  # it was said when it was seen
        told = {"topic": row.topic, "partition": row.partition, "offset": row.offset, "key": row.key}
        told |= {"message": row.attempts[-1]["message"], "tries": len(row.attempts)}
        if row.state == LetterState.WAITING:
            self.parked += row.id is None
            self._waits.say(row.reason, **told)
            return
        self.died += 1
        self._deaths.say(row.reason, **told)
        if row.publish_at is not None and self.on_dead is not None:
            self.on_dead()


def as_letter(row: LetterRow) -> Letter:
    """The message as it came."""
    return Letter(row.topic, row.partition, row.offset, row.message_key, row.value, row.headers)


def _nothing() -> None:
    """Only the letter's own row moves."""
