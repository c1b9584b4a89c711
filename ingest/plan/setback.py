"""From where a partition is read again when the catalog has forgotten what came of its messages.

| the catalog has still | read again from |
|---|---|
| all that was written when an offset was committed | that offset; the newest one of which it is true |
| less than was written at any of them | where this consumer began |
| nothing was committed | nowhere: the broker's own offset is right |
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_KEPT = 3_600
"""Commits: about an hour of a busy consumer. Whatever was lost before that is read from where it began."""


@dataclass(slots=True)
class Trail:
    """The offsets of one partition that were committed, each beside how many transactions had been written by then."""

    start: int
    _committed: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def committed(self, position: int, written: int) -> None:
        """`written` counts every transaction that the messages before `position` have led to."""
        self._committed.append((written, position))

    def back_to(self, stands: int) -> int | None:
        """The offset to be read from by a catalog that knows of no more than `stands` transactions."""
        if not self._committed:
            return None
        known = (position for written, position in reversed(self._committed) if written <= stands)
        return next(known, self.start)
