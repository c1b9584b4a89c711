"""The partitions that are ours: how far each is durable, and the offsets that follow from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ingest.crashpoints import here
from ingest.delivery.messages import Letter
from ingest.errors import BrokerError
from ingest.jobs.errands import Errand
from ingest.jobs.letterbox import Letterbox
from ingest.observe.logs import log
from ingest.plan.offsets import OffsetTracker

if TYPE_CHECKING:
    from ingest.delivery.kafka import Topic

HANDOVER_SECONDS = 5.0
"""What is under way of partitions that are taken away gets this long, while the group waits for us."""


@dataclass
class Partitions:
    """Turns messages into errands whose end moves the offsets of their partition, as long as it is ours."""

    letterbox: Letterbox
    topic: Topic | None = None
    positions: dict[int, int] = field(default_factory=dict)
    """Committed, by partition."""
    _trackers: dict[int, OffsetTracker] = field(default_factory=dict)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def errands(self, letters: Sequence[Letter]) -> list[Errand]:
        """One for each message of a partition that is ours."""
        found = []
        for letter in letters:
            tracker = self._trackers.get(letter.partition)
            if tracker is None:  # taken away in this moment: others read it again
                continue
            if letter.offset < tracker.expected:
                log().warning("topic_starts_anew", partition=letter.partition, offset=letter.offset)
                tracker = self._trackers[letter.partition] = OffsetTracker()
            tracker.take(letter.offset)
            found.append(Errand(letter, partial(self._settled, tracker)))
        return found

    async def revoked(self, numbers: Sequence[int]) -> None:
        """These go to another member: what is under way gets a moment, and what is durable is committed."""
        if not numbers:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS):
                while any(self._trackers[number].in_flight for number in numbers if number in self._trackers):
                    self._moved.clear()
                    await self._moved.wait()
        await self.commit()
        left = {number: self._trackers.pop(number).in_flight for number in numbers if number in self._trackers}
        for number in numbers:
            self.positions.pop(number, None)
        log().info("partitions_revoked", partitions=sorted(numbers), abandoned=sum(left.values()))

    async def assigned(self, numbers: Sequence[int]) -> None:
        """These are ours now, from what was committed last."""
        self._trackers = {number: OffsetTracker() for number in numbers}
        log().info("partitions_assigned", partitions=sorted(numbers))

    async def commit(self) -> None:
        """Commits what is durable. A broker that is away, or partitions that are another's by now, are only logged."""
        trackers = dict(self._trackers)
        wanted = {number: tracker.committable for number, tracker in trackers.items()}
        positions = {number: position for number, position in wanted.items() if position is not None}
        if not positions or self.topic is None:
            return
        here("offsets.committing")
        try:
            await self.topic.commit(positions)
        except BrokerError as error:
            log().warning("offsets_not_committed", error=error.code, message=error.message)
            return
        here("offsets.committed")
        for number, position in positions.items():
            trackers[number].commit(position)
            self.positions[number] = position

    async def lag(self) -> dict[int, int]:
        """By partition: messages behind the committed position, as far as the broker has told."""
        if self.topic is None:
            return {}
        try:
            for number in self.topic.assigned:
                if number not in self.positions:
                    self.positions[number] = await self.topic.committed(number)
        except BrokerError as error:
            log().warning("lag_unknown", error=error.code, message=error.message)
        return self.topic.lag(self.positions)

    def _settled(self, tracker: OffsetTracker, errand: Errand) -> None:
        finish = partial(self._finish, tracker, errand.letter.offset)
        if errand.error is None:
            finish()
        else:
            self.letterbox.keep(errand, finish)

    def _finish(self, tracker: OffsetTracker, offset: int) -> None:
        tracker.finish(offset)
        self._moved.set()
