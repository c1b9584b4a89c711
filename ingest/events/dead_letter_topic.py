"""Writes what was given up to the topic of dead letters: from the catalog, where it is marked until the topic has it.

Nothing waits for that, so a topic that takes nothing holds nothing up. A kill in between writes a letter twice, and
never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ingest.broker.messages import Letter
from ingest.catalog import deadletters
from ingest.catalog.catalog import Catalog
from ingest.catalog.deadletters import LetterRow, TopicPlace
from ingest.engine.record.patient import Outage
from ingest.errors import BrokerError, DatabaseError, DeadLetterRefused
from ingest.events.retry_queue import as_letter
from ingest.observe.logs import log
from ingest.system.failpoints import failpoint

_LOOK_SECONDS = 5.0
"""How often letters are looked for that others have marked, or that have waited for their next try."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_SAID_SECONDS = 60.0

GiveUp = Callable[[Letter, str], Awaitable[None]]
"""Writes a message and the reason to the topic of dead letters. Raises `BrokerError`."""


@dataclass
class DeadLetterTopic:
    """`place` says which letters are this consumer's to write: those of its partitions."""

    catalog: Catalog
    source_id: int
    outage: Outage
    give_up_on: GiveUp
    place: Callable[[], TopicPlace]
    trouble: str = ""
    """Why letters wait; empty while none does."""
    _idle: bool = False
    """The last look found nothing."""
    _pause: float = _FIRST_PAUSE
    _said_at: float = float("-inf")
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def busy(self) -> bool:
        """Whether letters are written now, or will be soon."""
        return not self._idle and not self.trouble

    def wake(self) -> None:
        """Something was given up."""
        self._idle = False
        self._news.set()

    async def run(self) -> None:
        """Writes letters as they come, until cancelled.

        Raises:
            DatabaseError: the database was away for too long.
        """
        while True:
            self._news.clear()
            pause = await self._write_some()
            if pause:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait() if self._idle else asyncio.sleep(pause), pause)

    async def end(self, running: asyncio.Task[None], seconds: float) -> None:
        """Lets `running` finish what it is at, for a moment; the rest is written by whoever has the partitions next."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self.busy and not running.done() and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait({running}, timeout=0.02)
        running.cancel()
        await asyncio.wait({running})

    async def _write_some(self) -> float:
        """Returns for how many seconds to pause."""
        catalog, source_id, now = self.catalog, self.source_id, datetime.now(UTC)
        place, limit = self.place(), 1 if self.trouble else deadletters.AT_ONCE
        rows = await self.outage.wait_out(lambda: deadletters.to_publish(catalog, source_id, place, now, limit))
        if not rows:
            self._idle = True
            return _LOOK_SECONDS
        self._idle = False
        failures = await asyncio.gather(*map(self._write, rows))
        failpoint("letters.published")
        written = [row.id for row, failure in zip(rows, failures, strict=True) if failure is None and row.id]
        left = [row.id for row, failure in zip(rows, failures, strict=True) if failure is not None and row.id]
        failure = next((one for one in failures if one is not None), None)
        if failure is None:
            self.trouble, self._pause = "", _FIRST_PAUSE
        else:
            self._say(failure)
            if not written:
                self.trouble, self._pause = failure.message, min(_LONGEST_PAUSE, 2 * self._pause)
        again = now + timedelta(seconds=_LONGEST_PAUSE)
        if written:
            await self.outage.wait_out(lambda: deadletters.published(catalog, written))
        if left:  # others first: it may be this one's own trouble
            await self.outage.wait_out(lambda: deadletters.published(catalog, left, again_at=again))
        return 0.0 if written else self._pause

    async def _write(self, row: LetterRow) -> BrokerError | None:
        try:
            await self.give_up_on(as_letter(row), row.reason)
        except BrokerError as error:
            return error
        return None

    def _say(self, error: BrokerError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _SAID_SECONDS:
            self._said_at = now
            message = f"{error.message}; what was given up waits in the catalog"
            event = "dead_letter_refused" if isinstance(error, DeadLetterRefused) else "dead_letter_not_sent"
            log().error(event, error=error.code, message=message, hint=error.hint)


async def left(catalog: Catalog, source_id: int) -> int:
    """How many letters are still to be written; 0 where the database cannot tell: then that is the run's trouble."""
    try:
        return await deadletters.unpublished(catalog, source_id)
    except DatabaseError:
        return 0
