"""Whether this machine's clock is right: by the server's, or by the runs before where the server does not say.

What a run may believe, and leaves for the next ones to believe:

| the server says | its clock against ours | then |
|---|---|---|
| a time | not more than a day off | ours is right, whatever earlier runs had: it is the last that is believed |
| a time | more than a day off | ours says nothing: what was believed stays |
| nothing | from a day before to a week behind the last that is believed | ours goes on from it |
| nothing | further away | ours says nothing, unless an operator says that it is right |

What is recorded as the moment of a download is the later of two times that contradict each other: a copy may be kept
too long, and is never pruned too early.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

TOLERANCE = timedelta(days=1)
"""How far this machine's clock may be off the server's, or before the last time that is believed."""
LONGEST_GAP = timedelta(days=7)
"""Without the server's clock: how far it may be behind that time. A clock that jumped ahead looks like a pause."""
NOTED = timedelta(minutes=15)
"""From here on it is said that the clocks differ, and the later one counts: servers that sign refuse as much."""


class Reading(NamedTuple):
    """This machine's clock. `ahead` is how far before the server's it is (negative: behind); None: nobody said."""

    now: datetime
    ahead: timedelta | None = None
    trusted: bool = False
    """An operator says that it is right."""

    @property
    def server(self) -> datetime | None:
        return None if self.ahead is None else self.now - self.ahead


def believed_after(reading: Reading, believed: datetime | None) -> datetime | None:
    """The last time that is believed, when a run with this clock is on record."""
    now, ahead, trusted = reading
    if ahead is not None:
        return now if abs(ahead) <= TOLERANCE else believed
    if trusted or believed is None:
        return now
    return max(now, believed) if now <= believed + LONGEST_GAP else believed


def clock_fault(reading: Reading, believed: datetime | None) -> str | None:
    """Why the clock cannot be trusted to tell an age; None when it can. No word outranks the server's."""
    now, ahead, trusted = reading
    shown = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if ahead is not None:
        return f"{shown}, the server's {reading.server:%Y-%m-%d %H:%M}" if abs(ahead) > TOLERANCE else None
    if trusted or believed is None or believed - TOLERANCE <= now <= believed + LONGEST_GAP:
        return None
    last = f"the last run whose clock is believed was at {believed:%Y-%m-%d %H:%M}"
    return f"{shown}, {last}, and the server does not say what time it is"


def moment_of(reading: Reading, believed: datetime | None) -> datetime:
    """What is recorded as the time of what happens now."""
    now, server = reading.now, reading.server
    if server is not None:
        return max(now, server) if abs(now - server) > NOTED else now
    return believed if believed is not None and now < believed - TOLERANCE else now
