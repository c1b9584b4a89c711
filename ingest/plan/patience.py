"""How long a message waits for what it names: events outrun the bucket, and some objects never come."""

from __future__ import annotations

from datetime import datetime, timedelta

MESSAGE_PATIENCE = timedelta(minutes=15)
"""After this long, what a message names is not expected any more."""
_FIRST, _LONGEST = timedelta(seconds=1), timedelta(minutes=1)


def next_try(first_at: datetime, now: datetime, tries: int, patience: timedelta = MESSAGE_PATIENCE) -> datetime | None:
    """When to try again after `tries` failures, the first of them at `first_at`; None when patience is at its end."""
    if now - first_at >= patience:
        return None
    pause = min(_LONGEST, _FIRST * (1 << min(tries - 1, 16)), patience)
    return now + pause
