"""The page memory: what each page of a byte-ordered listing looked like when nothing was left to do in it.

No two pages of one prefix overlap, so the one that holds a key is found by a look at the index. Writers take turns, as
those of the audit trail do: what one forgets, another that knew no better does not remember at the same moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ingest.catalog.batch import Batch, Settled
from ingest.catalog.sql.driver import Dialect, Driver, Statement, Steps
from ingest.model import KnownPage, Shard
from ingest.plan.shards import key_range

_TURN_POSTGRES = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
VOUCHED = 1
"""What a remembered page vouches for (`plan.page_memory`), a number that goes up whenever that changes: a page that was
kept by another version of this tool, under other rules, is listed again."""
_READ = (
    "SELECT start_after, last_key, listed, skipped, fingerprint, filters FROM pages "
    "WHERE source_id = ? AND prefix = ? AND start_after >= ? AND vouched = ? ORDER BY start_after LIMIT ?"
)
_PREFIXES = (
    "WITH RECURSIVE found(prefix) AS (SELECT min(prefix) FROM pages WHERE source_id = ? UNION ALL "
    "SELECT (SELECT min(prefix) FROM pages WHERE source_id = ? AND prefix > found.prefix) FROM found "
    "WHERE found.prefix IS NOT NULL) SELECT prefix FROM found WHERE prefix IS NOT NULL"
)
"""Two looks at the index for each prefix that a run was ever told; as a rule there is one, the empty one."""
_FORGET_INSIDE = "DELETE FROM pages WHERE source_id = ? AND prefix = ? AND start_after >= ? AND start_after < ?"
_FORGET_REST = "DELETE FROM pages WHERE source_id = ? AND prefix = ? AND start_after >= ?"
_FORGET_ALL = "DELETE FROM pages WHERE source_id = ?"
_LAST_BEFORE = (
    "FROM pages WHERE source_id = ? AND prefix = ? AND start_after = "
    "(SELECT max(start_after) FROM pages WHERE source_id = ? AND prefix = ? AND start_after < ?) AND last_key "
)
_FORGET_HOLDING = f"DELETE {_LAST_BEFORE} >= ?"
_FORGET_REACHING = f"DELETE {_LAST_BEFORE} > ?"
_REMEMBER = (
    "INSERT INTO pages (source_id, prefix, start_after, last_key, listed, skipped, fingerprint, filters, vouched) "
    "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE (?, 0) = "
    "(SELECT count(*) FILTER (WHERE gone_at IS NULL AND state <> 'failed'), "
    "count(*) FILTER (WHERE seen > ? AND seen_in <> ?) FROM objects WHERE source_id = ? AND key >= ? AND key < ?) "
    "ON CONFLICT (source_id, prefix, start_after) DO UPDATE SET last_key = excluded.last_key, "
    "listed = excluded.listed, skipped = excluded.skipped, fingerprint = excluded.fingerprint, "
    "filters = excluded.filters, vouched = excluded.vouched"
)
"""Only where the range has as many settled rows in the bucket as were listed, and no other run has seen one of them
since this page was asked for: in a version that it does not show, gone, or in vain."""


async def read(driver: Driver, source_id: int, prefix: str, start: str, limit: int) -> list[KnownPage]:
    """Up to `limit` pages from `start` on, in byte order."""
    return [KnownPage._make(row) for row in await driver.fetch(_READ, source_id, prefix, start, VOUCHED, limit)]


def keep(batch: Batch, dialect: Dialect) -> Steps[None]:
    """Forgets the pages that the batch unsettles or relists, then remembers those that it settles."""
    notes, source_id = batch.pages, batch.source_id
    if not (notes.changed or notes.relisted or notes.settled):
        return
    yield from _take_turn(source_id, dialect)
    if notes.changed:
        yield from _forget_keys(source_id, notes.changed)
    yield from _forget_ranges(source_id, notes.relisted)
    if notes.settled:
        yield Statement(_REMEMBER, rows=[_remembered(batch, settled) for settled in notes.settled])


def _take_turn(source_id: int, dialect: Dialect) -> Steps[None]:
    if dialect.is_postgres:
        yield Statement(_TURN_POSTGRES, (f"ingest pages of source {source_id}",))


def _forget_keys(source_id: int, changed: Mapping[str | None, Sequence[str]]) -> Steps[None]:
    """Under whatever prefix they are remembered, but for that of the listing that found it: its range is relisted."""
    prefixes = yield Statement(_PREFIXES, (source_id, source_id))
    holding = [
        (source_id, prefix, source_id, prefix, key, key)
        for (prefix,) in prefixes
        for listed, keys in changed.items()
        if prefix != listed
        for key in keys
        if key.startswith(prefix)
    ]
    if holding:
        yield Statement(_FORGET_HOLDING, rows=holding)


def _forget_ranges(source_id: int, ranges: Iterable[tuple[str, str, str | None]]) -> Steps[None]:
    """Every page that has a part in one of them."""
    reaching, inside, rest = [], [], []
    for prefix, after, upto in ranges:
        reaching.append((source_id, prefix, source_id, prefix, after, after))
        if upto is None:
            rest.append((source_id, prefix, after))
        else:
            inside.append((source_id, prefix, after, upto))
    for sql, rows in ((_FORGET_REACHING, reaching), (_FORGET_INSIDE, inside), (_FORGET_REST, rest)):
        if rows:
            yield Statement(sql, rows=rows)


def _remembered(batch: Batch, settled: Settled) -> tuple[object, ...]:
    prefix, page, seen_before = settled
    within = key_range(Shard(prefix, page.start_after, page.last_key))
    rows = (seen_before, batch.run_id, batch.source_id, *within)
    return (batch.source_id, prefix, *page, VOUCHED, page.listed, *rows)


def forget_all(source_id: int, dialect: Dialect) -> Steps[None]:
    """Nothing is known of any page: the next listing reads every one."""
    yield from _take_turn(source_id, dialect)
    yield Statement(_FORGET_ALL, (source_id,))
