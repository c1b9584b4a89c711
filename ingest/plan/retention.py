"""Which local copies ``cleanup`` may remove. A copy that cannot be had again is never removed."""

from __future__ import annotations


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
