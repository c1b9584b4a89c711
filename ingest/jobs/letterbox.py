"""Messages that could not be carried out: kept in the catalog, tried again while they may succeed, then given up.

A message that waits is durable, so its offset moves on: one object that never comes holds nothing up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ingest.catalog import deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow
from ingest.crashpoints import here
from ingest.delivery.messages import Letter
from ingest.errors import BrokerError, DatabaseDataError, DeadLetterRefused, Poison
from ingest.jobs.errands import Errand
from ingest.jobs.outages import Outage
from ingest.model import LetterState
from ingest.observe.logs import log
from ingest.plan.patience import PATIENCE, next_try

_GATHER_SECONDS = 0.05
_LONGEST_PAUSE = 10.0
_REFUSED_SECONDS = 60.0
"""After a refusal, the topic of dead letters is not asked again for so long: each question may take a while."""
_KEPT_ATTEMPTS = 50
"""Of the stack, the newest."""

Bury = Callable[[Letter, str], Awaitable[None]]
"""Writes a message and the reason to the topic of dead letters. Raises `BrokerError`."""


class _Change(NamedTuple):
    row: LetterRow | None
    settled: int | None
    then: Callable[[], None]


@dataclass
class Letterbox:
    """Writes the letters of one source. `bury` of None: there is no topic of dead letters at hand."""

    catalog: Catalog
    source_id: int
    outage: Outage
    bury: Bury | None = None
    patience: timedelta = PATIENCE
    parked: int = 0
    """Messages of the topic that were put to wait; `died` were given up, `settled` succeeded after all."""
    died: int = 0
    settled: int = 0
    under_way: int = 0
    """Changes that are not durable yet."""
    _silent_until: float = 0.0
    _changes: list[_Change] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, errand: Errand, then: Callable[[], None]) -> None:
        """A message of the topic failed; `then` is called when that is durable."""
        self._change(_Change(self._next(None, errand), None, then))

    def tried(self, row: LetterRow, errand: Errand) -> None:
        """A kept letter was tried again."""
        if errand.error is None:
            log().info("letter_settled", letter=row.id, key=row.key, attempts=len(row.attempts) + 1)
            self._change(_Change(None, row.id, _nothing))
        else:
            self._change(_Change(self._next(row, errand), None, _nothing))

    async def run(self) -> None:
        """Writes changes as they come, until cancelled.

        Raises:
            DatabaseError: the database was away for too long.
        """
        while True:
            await self._news.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._news.clear()
            changes, self._changes = self._changes, []
            rows = [change.row for change in changes if change.row is not None]
            settled = [change.settled for change in changes if change.settled is not None]
            for row in rows:
                await self._announce(row)
                here("letters.announced")
            # After the topic: a crash in between publishes a dead letter twice, and never not at all.
            await self.outage.outlast(
                lambda: deadletters.put(self.catalog, self.source_id, rows, settled)  # noqa: B023 - awaited
            )
            here("letters.kept")
            self.settled += len(settled)
            self.under_way -= len(changes)
            for change in changes:
                change.then()

    async def due(self, limit: int) -> list[LetterRow]:
        """Letters to be tried again now."""
        catalog, source_id = self.catalog, self.source_id
        return await self.outage.outlast(lambda: deadletters.due(catalog, source_id, datetime.now(UTC), limit))

    def _next(self, row: LetterRow | None, errand: Errand) -> LetterRow:
        assert errand.error is not None  # noqa: S101 - only what failed is kept
        now = datetime.now(UTC)
        attempts = (*(row.attempts if row else ()), errand.attempt)[-_KEPT_ATTEMPTS:]
        first_at = row.first_at if row else now
        may_wait = not isinstance(errand.error, Poison | DatabaseDataError) and (
            row is None or row.state == LetterState.WAITING
        )
        again = next_try(first_at, now, len(attempts), self.patience) if may_wait else None
        reason = errand.error.reason if isinstance(errand.error, Poison) else errand.error.code
        letter = errand.letter
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
            errand.key,
            row.id if row else None,
        )

    def _change(self, change: _Change) -> None:
        self.under_way += 1
        self._changes.append(change)
        self._news.set()

    async def _announce(self, row: LetterRow) -> None:
        where = {"topic": row.topic, "partition": row.partition, "offset": row.offset, "key": row.key}
        last = row.attempts[-1]
        if row.state == LetterState.WAITING:
            self.parked += row.id is None
            log().info("message_waits", reason=row.reason, message=last["message"], tries=len(row.attempts), **where)
            return
        self.died += 1
        log().error("message_dead", reason=row.reason, message=last["message"], tries=len(row.attempts), **where)
        await self._publish(row)

    async def _publish(self, row: LetterRow) -> None:
        """Waits for a broker that is away; where it refuses, the catalog alone keeps the letter."""
        pause, now = 0.2, asyncio.get_running_loop().time
        while self.bury is not None and now() >= self._silent_until:
            try:
                await self.bury(as_letter(row), row.reason)
                return
            except DeadLetterRefused as error:
                self._silent_until = now() + _REFUSED_SECONDS
                log().error("dead_letter_refused", message=error.message, hint=error.hint)
                return
            except BrokerError as error:
                log().warning("dead_letter_not_sent", error=error.code, message=error.message, pause=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)


def as_letter(row: LetterRow) -> Letter:
    """The message as it came."""
    return Letter(row.topic, row.partition, row.offset, row.message_key, row.value, row.headers)


def _nothing() -> None:
    """Only the letter's own row moves."""
