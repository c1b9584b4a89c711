"""Which local copies ``cleanup`` may remove. A copy that cannot be had again is never removed."""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_TOLERANCE = timedelta(days=1)
"""How far this machine's clock may be behind the runs before, or off the server's, before nothing is removed."""
LONGEST_GAP = timedelta(days=7)
"""Without the server's clock: how long ago the run before may have been. A clock that jumped ahead looks like a gap."""


def reason_to_keep(
    *,
    held: bool,
    gone: bool,
    listed_etag: str,
    found_etag: str | None,
    confirmed: bool,
    undelivered: bool = False,
) -> str | None:
    """Why a copy old enough to be pruned stays; None when it may go.

    `found_etag` is what the bucket holds now (None: no such object); it counts only when `confirmed`, that is when the
    bucket was asked.
    """
    if held:
        return "held"
    if undelivered:
        return "not delivered yet"
    if gone or (confirmed and found_etag is None):
        return "the only copy: gone from the bucket"
    if confirmed and found_etag != listed_etag:
        return "the only copy of this version: changed in the bucket"
    return None


def clock_fault(
    now: datetime, *, newest_run: datetime | None, server: datetime | None, trusted: bool = False
) -> str | None:
    """Why the clock cannot be trusted to tell an age; None when it can.

    `newest_run` is the latest time that a run before has recorded, `server` the server's clock (None: it did not say).
    `trusted` is an operator's word that the clock is right now, whatever it was in earlier runs.
    """
    shown = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if server is not None and abs(now - server) > CLOCK_TOLERANCE:
        return f"{shown}, the server's {server:%Y-%m-%d %H:%M}"
    if newest_run is None or trusted:
        return None
    if now < newest_run - CLOCK_TOLERANCE:
        return f"{shown}, but the last run was at {newest_run:%Y-%m-%d %H:%M}"
    if server is None and now > newest_run + LONGEST_GAP:
        return f"{shown}, the last run was at {newest_run:%Y-%m-%d %H:%M}, and the server does not say what time it is"
    return None
