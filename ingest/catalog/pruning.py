"""What ``cleanup`` asks, and its intent: written, and checked once more, before any copy is unlinked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ingest.catalog.catalog import Catalog
from ingest.catalog.copies import COPY, CopyRow, as_copy
from ingest.catalog.holds import IS_HELD
from ingest.catalog.runs import NEWEST_OF_COMMAND, NO_DRY_RUN, OF_COMMAND
from ingest.catalog.sql.driver import VERSION, Dialect, Statement, Steps, lock_source, read_time
from ingest.system.failpoints import failpoint

UNDELIVERED = (
    "(? AND EXISTS (SELECT 1 FROM deliveries d WHERE d.source_id = objects.source_id AND d.key = objects.key "
    "AND (d.state = 'pending' OR d.etag = coalesce(objects.version, objects.etag) "
    "AND d.state NOT IN ('delivered', 'rejected'))))"
)
"""Whether the service has not ruled on the object of a row of `objects`, in the version that is recorded: its copy must
stay, also when it was given up. So must it while an older version waits, whose place it will have. The value says
whether hand-overs count."""
_OLD = "FROM objects WHERE source_id = ? AND state = 'present' AND downloaded_at <= ? AND"
_BEHIND = {False: "key > ?", True: "(downloaded_at, key) > (?, ?)"}
_ORDER = {False: "key", True: "downloaded_at, key"}
_CANDIDATES = {
    oldest_first: f"SELECT {IS_HELD}, {UNDELIVERED}, {COPY} {_OLD} {_BEHIND[oldest_first]} "
    f"ORDER BY {_ORDER[oldest_first]} LIMIT ?"
    for oldest_first in (False, True)
}
_COUNT_BEHIND = {first: f"SELECT count(*) {_OLD} {_BEHIND[first]}" for first in (False, True)}
_CLEANUPS = (
    f"SELECT counts FROM runs WHERE {OF_COMMAND} AND id < ? AND {NO_DRY_RUN} "
    f"AND status IN ('ok', 'partial') {NEWEST_OF_COMMAND} 1"
)
_NO_NEW_REASONS_POSTGRES = "LOCK TABLE holds, deliveries IN SHARE MODE"
_STILL = (
    f"SELECT key, {VERSION}, local_path, downloaded_at, gone_at IS NOT NULL FROM objects "
    f"WHERE source_id = ? AND key {{among}} AND state = 'present' AND NOT {IS_HELD} AND NOT {UNDELIVERED}"
)
_INTEND = "UPDATE objects SET pruned_at = ? WHERE source_id = ? AND key {among}"
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class Candidate(NamedTuple):
    """A copy old enough to go, and what may keep it."""

    copy: CopyRow
    held: bool
    undelivered: bool


class Sought(NamedTuple):
    """Which copies cleanup looks at: those of a source that were downloaded before a moment, in this order.

    `delivering` says that hand-overs count.
    """

    source_id: int
    downloaded_before: datetime
    delivering: bool
    oldest_first: bool

    def behind(self, after: CopyRow | None, dialect: Dialect) -> tuple[Any, ...]:
        """The values of the conditions: behind the copy `after`."""
        since, key = (after.downloaded_at or _BEGINNING, after.remote.key) if after else (_BEGINNING, "")
        place = (dialect.time(since), key) if self.oldest_first else (key,)
        return (self.source_id, dialect.time(self.downloaded_before), *place)


async def candidates(catalog: Catalog, sought: Sought, *, after: CopyRow | None, limit: int) -> list[Candidate]:
    """Up to `limit` present copies, in their order."""
    values = (sought.delivering, *sought.behind(after, catalog.driver.dialect), limit)
    rows = await catalog.driver.fetch(_CANDIDATES[sought.oldest_first], *values, leisurely=True)
    return [Candidate(as_copy(copy), bool(held), bool(undelivered)) for held, undelivered, *copy in rows]


async def count_behind(catalog: Catalog, sought: Sought, after: CopyRow) -> int:
    """How many copies come behind that one."""
    values = sought.behind(after, catalog.driver.dialect)
    return int((await catalog.driver.fetch(_COUNT_BEHIND[sought.oldest_first], *values, leisurely=True))[0][0])


async def only_copies_before(catalog: Catalog, source_id: int, run_id: int) -> int:
    """How many copies the last cleanup before this run kept since the bucket no longer had their objects."""
    own = (source_id, "cleanup") * 2
    last = await catalog.driver.fetch(_CLEANUPS, *own, run_id)
    return int(json.loads(last[0][0]).get("only_copies", 0)) if last else 0


async def intend(
    catalog: Catalog, source_id: int, copies: Sequence[CopyRow], *, at: datetime, delivering: bool
) -> set[str]:
    """Writes down that these copies are about to be unlinked; returns the keys for which that still holds.

    A copy that was replaced, held or queued for delivery since it was looked at is left out, and so is one that became
    the only one: its object has gone from the bucket.
    """
    looked_at = {(copy.remote.key, copy.remote.etag, copy.local_path, copy.downloaded_at, copy.gone) for copy in copies}
    keys = [copy.remote.key for copy in copies]

    def intending(dialect: Dialect) -> Steps[set[str]]:
        if dialect.is_postgres:  # SQLite's write lock does the same: a hold comes before the intent, or sees it
            yield Statement(_NO_NEW_REASONS_POSTGRES)
        yield from lock_source(source_id)
        still = yield Statement(_STILL, (source_id, dialect.listed(keys), delivering))
        intended = {
            key
            for key, version, path, since, gone in still
            if (key, version, path, None if since is None else read_time(since), bool(gone)) in looked_at
        }
        yield Statement(_INTEND, (dialect.time(at), source_id, dialect.listed([*intended])))
        failpoint("cleanup.intent-written")
        return intended

    return await catalog.driver.write(intending)
