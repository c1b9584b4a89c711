"""The page memory: what each page of a byte-ordered listing looked like when nothing was left to do in it."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.catalog.batch import Batch
from ingest.catalog.lane import Lane, Statement, Steps
from ingest.model import KnownPage

_MOST_KEYS = 64
"""Unsettled keys that are looked up one by one; of more than these, the range from the first to the last."""

_READ = (
    "SELECT start_after, last_key, listed, skipped, fingerprint, filters FROM pages "
    "WHERE source_id = ? AND prefix = ? AND start_after >= ? ORDER BY start_after LIMIT ?"
)
_FORGET_RANGE = "DELETE FROM pages WHERE source_id = ? AND prefix = ? AND start_after >= ? AND start_after < ?"
_FORGET_REST = "DELETE FROM pages WHERE source_id = ? AND prefix = ? AND start_after >= ?"
_FORGET_ALL = "DELETE FROM pages WHERE source_id = ?"
_FORGET_KEYS = "DELETE FROM pages WHERE source_id = ? AND start_after < ? AND last_key >= ?"
_RECOUNT = f"{_FORGET_KEYS} AND skipped > 0"
_REMEMBER = (
    "INSERT INTO pages (source_id, prefix, start_after, last_key, listed, skipped, fingerprint, filters) "
    "SELECT ?, ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS "
    "(SELECT 1 FROM objects WHERE source_id = ? AND key > ? AND key <= ? AND state = 'failed') "
    "ON CONFLICT (source_id, prefix, start_after) DO UPDATE SET last_key = excluded.last_key, "
    "listed = excluded.listed, skipped = excluded.skipped, fingerprint = excluded.fingerprint, "
    "filters = excluded.filters"
)


async def read(lane: Lane, source_id: int, prefix: str, start: str, limit: int) -> list[KnownPage]:
    """Up to `limit` pages from `start` on, in byte order."""
    return [KnownPage._make(row) for row in await lane.fetch(_READ, source_id, prefix, start, limit)]


def keep(batch: Batch) -> Steps[None]:
    """Forgets the pages that the batch unsettles or relists, then remembers those that it settles."""
    for forget, keys in (
        (_FORGET_KEYS, [remote.key for remote, _ in (*batch.failed, *batch.blocked)]),
        (_RECOUNT, batch.pages.taken_later),  # unchanged from now on, by whatever prefix they are listed
    ):
        if keys:
            yield Statement(forget, rows=[(batch.source_id, last, first) for first, last in _spans(keys)])
    for prefix, after, upto in batch.pages.relisted:
        if upto is None:
            yield Statement(_FORGET_REST, (batch.source_id, prefix, after))
        else:
            yield Statement(_FORGET_RANGE, (batch.source_id, prefix, after, upto))
    if batch.pages.settled:
        rows = [
            (batch.source_id, prefix, *page, batch.source_id, page.start_after, page.last_key)
            for prefix, page in batch.pages.settled
        ]
        yield Statement(_REMEMBER, rows=rows)


def _spans(keys: Sequence[str]) -> list[tuple[str, str]]:
    """Each key by itself; of many, the range that holds them all."""
    return [(key, key) for key in keys] if len(keys) <= _MOST_KEYS else [(min(keys), max(keys))]


def forget_all(source_id: int) -> Steps[None]:
    """Nothing is known of any page: the next listing reads every one."""
    yield Statement(_FORGET_ALL, (source_id,))
