"""Which local copies ``cleanup`` may remove. A copy that cannot be had again is never removed."""

from __future__ import annotations

from datetime import datetime, timedelta

ONLY_COPY = "the only copy: gone from the bucket"
"""Why a copy is kept for ever, unless somebody says how long it is wanted."""


def has_expired(gone_at: datetime | None, now: datetime, gone_after: timedelta | None) -> bool:
    """Whether an object has been gone for as long as its copy is wanted (None: for ever)."""
    return gone_at is not None and gone_after is not None and now - gone_at >= gone_after


def reason_to_keep(
    *,
    held: bool,
    gone: bool,
    listed_etag: str,
    found_etag: str | None,
    confirmed: bool,
    undelivered: bool = False,
    expired: bool = False,
) -> str | None:
    """Why a copy old enough to be pruned stays; None when it may go.

    `found_etag` is what the bucket holds now (None: no such object); it counts only when `confirmed`, that is when the
    bucket was asked. `expired` says that somebody wants the only copy for no longer than this, either.
    """
    if held:
        return "held"
    if undelivered:
        return "not delivered yet"
    if gone and expired:
        return None
    if gone or (confirmed and found_etag is None):
        return ONLY_COPY
    if confirmed and found_etag != listed_etag:
        return "the only copy of this version: changed in the bucket"
    return None
