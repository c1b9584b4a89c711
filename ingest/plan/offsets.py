"""How far a partition may be committed: never past a message that is still at work."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple


class OffsetGap(NamedTuple):
    """Offsets from `start` to before `end` that did not come. `start` of None: from where the group had got to; `end`
    of None: to the oldest that there is."""

    start: int | None
    end: int | None


def removed(gap: OffsetGap, committed: int | None, oldest: int) -> range:
    """Which messages of a gap the broker has removed before they were read, `oldest` being the first that it has still.

    | gap | the broker's oldest | removed |
    |---|---|---|
    | nothing is known of where it begins: a new group | any | nothing that was to be read |
    | begins at the oldest, or behind it | | nothing: compaction, a transaction's marks, or the topic was made anew |
    | begins before the oldest | before its end | up to the oldest; what is missing behind it was compacted |
    | begins before the oldest | behind its end | all of it |
    """
    start = committed if gap.start is None else gap.start
    if start is None:
        return range(0)
    return range(start, max(start, oldest if gap.end is None else min(oldest, gap.end)))


@dataclass(slots=True)
class OffsetTracker:
    """Messages of one partition, taken in their order and finished in any.

    Offsets ascend, and may leave some out: a compacted topic and transactions do.
    """

    expected: int = 0
    """No offset below this one may be taken."""
    doubts: int = 0
    """Gaps before it that are not cleared up, or not on record: as long as there are any, it is not committed."""
    _open: deque[int] = field(default_factory=deque)
    _finished: set[int] = field(default_factory=set)
    _durable: int | None = None
    _committed: int | None = None

    @property
    def in_flight(self) -> int:
        """Messages taken and not finished."""
        return len(self._open) - len(self._finished)

    @property
    def committable(self) -> int | None:
        """The offset to go on from after a restart; None when the broker has it already, or is not to have it yet."""
        return self._durable if self._durable != self._committed and not self.doubts else None

    def take(self, offset: int) -> None:
        """The message at `offset` is at work.

        Raises:
            ValueError: it does not lie behind all that were taken before.
        """
        if offset < self.expected:
            raise ValueError(f"offset {offset} was taken after {self.expected - 1}")
        self._open.append(offset)
        self.expected = offset + 1

    def finish(self, offset: int) -> None:
        """What the message at `offset` asked for is durable."""
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            self._finished.remove(self._open.popleft())
            self._durable = self._open[0] if self._open else self.expected

    def commit(self, position: int) -> None:
        """The broker has taken `position`."""
        self._committed = position

    def believe(self) -> None:
        """One of the `doubts` is cleared up, and what came of it on record."""
        self.doubts -= 1
