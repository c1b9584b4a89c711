"""How far a partition may be committed: never past a message that is still at work."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class OffsetTracker:
    """Messages of one partition, taken in their order and finished in any.

    Offsets ascend, and may leave some out: a compacted topic and transactions do.
    """

    expected: int = 0
    """No offset below this one may be taken."""
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
        """The offset to go on from after a restart; None when the broker has it already."""
        return self._durable if self._durable != self._committed else None

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
