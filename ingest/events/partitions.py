"""The partitions that are ours: how far each is durable, and the offsets that follow from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ingest.broker.messages import UNREADABLE, Letter
from ingest.catalog.deadletters import REMOVED_UNREAD, LetterRow, TopicPlace
from ingest.errors import BrokerError
from ingest.events.in_flight import InFlight
from ingest.events.retry_queue import RetryQueue
from ingest.model import LetterState
from ingest.observe.logs import log
from ingest.plan.offsets import OffsetGap, OffsetTracker, removed
from ingest.plan.setback import Trail
from ingest.system.failpoints import failpoint

if TYPE_CHECKING:
    from ingest.broker.kafka import Topic
    from ingest.catalog.sql.continuity import Continuity

HANDOVER_SECONDS = 5.0
"""What is under way of partitions that are taken away gets this long, while the group waits for us."""
_NO_PARTITION = (1 << 31) - 1


class _Doubt(NamedTuple):
    """Where messages of a partition may have been removed unread."""

    partition: int
    tracker: OffsetTracker
    gap: OffsetGap


@dataclass
class Partitions:
    """Turns messages into entries in flight whose end moves the offsets of their partition, as long as it is ours."""

    retry_queue: RetryQueue
    topic: Topic | None = None
    run: Continuity | None = None
    """Whose transactions come of the messages."""
    positions: dict[int, int] = field(default_factory=dict)
    """Committed, by partition."""
    _trackers: dict[int, OffsetTracker] = field(default_factory=dict)
    _trails: dict[int, Trail] = field(default_factory=dict)
    _doubts: list[_Doubt] = field(default_factory=list)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def flights(self, letters: Sequence[Letter]) -> list[InFlight]:
        """One for each message of a partition that is ours."""
        found = []
        for letter in letters:
            tracker = self._trackers.get(letter.partition)
            if tracker is None:  # taken away in this moment: others read it again
                continue
            if letter.offset < tracker.expected:
                log().warning("topic_starts_anew", partition=letter.partition, offset=letter.offset)
                tracker = self._trackers[letter.partition] = OffsetTracker()
            if tracker.expected and letter.offset > tracker.expected:
                self._doubt(letter.partition, tracker, OffsetGap(tracker.expected, letter.offset))
            self._trails.setdefault(letter.partition, Trail(letter.offset))
            tracker.take(letter.offset)
            found.append(InFlight(letter, partial(self._settled, tracker)))
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
            self._trails.pop(number, None)
        log().info("partitions_revoked", partitions=sorted(numbers), abandoned=sum(left.values()))

    async def assigned(self, numbers: Sequence[int]) -> None:
        """These are ours now, from what was committed last: unless that was removed before anybody read it."""
        self._trackers, self._doubts = {number: OffsetTracker() for number in numbers}, []
        for number, tracker in self._trackers.items():
            self._doubt(number, tracker, OffsetGap(None, None))
        log().info("partitions_assigned", partitions=sorted(numbers))

    def place(self) -> TopicPlace:
        """The letters that this consumer publishes: of its partitions, and of any that the topic no longer has."""
        topic = self.topic
        ours = topic.assigned if topic is not None else []
        beyond = topic.partitions if topic is not None and 0 in ours and topic.partitions else _NO_PARTITION
        return TopicPlace(topic.name if topic is not None else "", ours, beyond)

    async def commit(self) -> None:
        """Commits what is durable. A broker that is away, or partitions that are another's by now, are only logged."""
        await self._clear_up()
        trackers = dict(self._trackers)
        wanted = {number: tracker.committable for number, tracker in trackers.items()}
        positions = {number: position for number, position in wanted.items() if position is not None}
        written = self.run.written if self.run is not None else 0
        if not positions or self.topic is None:
            return
        failpoint("offsets.committing")
        try:
            await self.topic.commit(positions)
        except BrokerError as error:
            log().warning("offsets_not_committed", error=error.code, message=error.message)
            return
        failpoint("offsets.committed")
        for number, position in positions.items():
            trackers[number].commit(position)
            self.positions[number] = position
            if number in self._trails:
                self._trails[number].committed(position, written)

    async def set_back(self, stands: int) -> None:
        """The catalog has forgotten all but so many transactions: the messages behind them are read again, by whoever
        comes next. No offset moves after this."""
        self._trackers.clear()
        back = {number: trail.back_to(stands) for number, trail in self._trails.items()}
        positions = {number: offset for number, offset in back.items() if offset is not None}
        if not positions or self.topic is None:
            return
        try:
            await self.topic.commit(positions)
        except BrokerError as error:
            log().warning("offsets_not_set_back", error=error.code, message=error.message)
            return
        log().warning("offsets_set_back", partitions=positions, message="the catalog has forgotten what came of them")

    async def lag(self) -> dict[int, int]:
        """By partition: messages behind the committed position, as far as the broker has told."""
        if self.topic is None:
            return {}
        try:
            for number in self.topic.assigned:
                if number not in self.positions:
                    self.positions[number] = await self.topic.committed(number) or 0
        except BrokerError as error:
            log().warning("lag_unknown", error=error.code, message=error.message)
        return self.topic.lag(self.positions)

    async def _clear_up(self) -> None:
        """Asks the broker what it still has. One that does not say is asked again, and until then no offset moves."""
        doubts, topic = self._doubts, self.topic
        if not doubts or topic is None or topic.trouble:
            return
        try:
            oldest = await topic.oldest(sorted({doubt.partition for doubt in doubts}))
            starts = {
                doubt.partition: await topic.committed(doubt.partition) for doubt in doubts if doubt.gap.start is None
            }
        except BrokerError as error:
            log().debug("gaps_unknown", error=error.code, message=error.message)
            return
        self._doubts = self._doubts[len(doubts) :]
        for number, tracker, gap in doubts:
            if self._trackers.get(number) is not tracker:  # taken away meanwhile
                continue
            lost = removed(gap, starts.get(number), oldest.get(number, 0))
            if lost:
                self.retry_queue.note_lost(self._obituary(number, lost), len(lost), tracker.believe)
            else:
                tracker.believe()

    def _doubt(self, number: int, tracker: OffsetTracker, gap: OffsetGap) -> None:
        tracker.doubts += 1
        self._doubts = [*self._doubts, _Doubt(number, tracker, gap)]

    def _obituary(self, number: int, offsets: range) -> LetterRow:
        topic, now = self.topic.name if self.topic is not None else "", datetime.now(UTC)
        said = f"offsets {offsets[0]} to {offsets[-1]} were removed by the broker before they were read"
        log().error(
            "messages_lost", topic=topic, partition=number, first=offsets[0], last=offsets[-1], messages=len(offsets),
            message=said, hint="`ingest sync` finds what they announced; let the topic keep its messages for longer.",
        )  # fmt: skip
        why = ((UNREADABLE, b"the broker has removed it unread"),)
        told = {"at": now.isoformat(timespec="milliseconds"), "error": REMOVED_UNREAD, "message": said}
        told["messages"] = str(len(offsets))
        dead = LetterState.DEAD.value
        return LetterRow(topic, number, offsets[0], None, None, why, dead, REMOVED_UNREAD, (told,), now)

    def _settled(self, tracker: OffsetTracker, flight: InFlight) -> None:
        finish = partial(self._finish, tracker, flight.letter.offset)
        if flight.error is None:
            finish()
        else:
            self.retry_queue.keep(flight, finish)

    def _finish(self, tracker: OffsetTracker, offset: int) -> None:
        tracker.finish(offset)
        self._moved.set()
