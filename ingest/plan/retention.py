"""Which local copies ``cleanup`` may remove. A copy that cannot be had again is never removed."""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_TOLERANCE = timedelta(days=1)
"""How far this machine's clock may be behind its own last run, or off the server's, before nothing is removed."""


def reason_to_keep(*, hold: bool, gone: bool, listed_etag: str, found_etag: str | None, confirmed: bool) -> str | None:
    """Why a copy old enough to be pruned stays; None when it may go.

    `found_etag` is what the bucket holds now (None: no such object); it counts only when `confirmed`, that is when the
    bucket was asked.
    """
    if hold:
        return "held"
    if gone or (confirmed and found_etag is None):
        return "the only copy: gone from the bucket"
    if confirmed and found_etag != listed_etag:
        return "the only copy of this version: changed in the bucket"
    return None


def clock_fault(now: datetime, last_run: datetime | None, server: datetime | None) -> str | None:
    """Why the clock cannot be trusted to tell an age; None when it can."""
    if last_run is not None and now < last_run - CLOCK_TOLERANCE:
        return f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but the last run was at {last_run:%Y-%m-%d %H:%M}"
    if server is not None and abs(now - server) > CLOCK_TOLERANCE:
        return f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, the server's {server:%Y-%m-%d %H:%M}"
    return None
