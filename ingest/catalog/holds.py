"""Holds: what ``cleanup`` may not remove, by key or by prefix. A prefix covers also what comes later.

Keys and prefixes are literal: nothing in them is a pattern. The hold of a key is a mark on its row, which is what
counts, and a record of who placed it and why; the hold of a prefix is its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.driver import Dialect, Insert, Statement, Steps, lock_source, read_time
from ingest.model import Audit
from ingest.system.failpoints import failpoint

IS_HELD = (
    "(objects.hold OR EXISTS (SELECT 1 FROM holds WHERE holds.source_id = objects.source_id AND holds.is_prefix "
    "AND substr(objects.key, 1, length(holds.key)) = holds.key))"
)
"""Whether a row of `objects` is held, by its mark or by a prefix."""
_RECORD = ("reason", "placed_by", "placed_at")
_PUT = Insert(
    "holds",
    ("source_id", "key", "is_prefix", *_RECORD),
    ("source_id", "is_prefix", "key"),
    tuple(f"{name} = excluded.{name}" for name in _RECORD),
)
_DELETE = "DELETE FROM holds WHERE source_id = ? AND is_prefix = ? AND key {among}"
_MARK = "UPDATE objects SET hold = ? WHERE source_id = ? AND key {among}"
_RECORDED = "SELECT key FROM holds WHERE source_id = ? AND is_prefix = ? AND key {among}"
_MARKED = "SELECT key FROM objects WHERE hold AND source_id = ? AND key {among}"
_COUNT_KEYS = "SELECT count(*) FROM objects WHERE source_id = ? AND state = 'present' AND key {among}"
_COUNT_PREFIX = "SELECT count(*) FROM objects WHERE source_id = ? AND state = 'present' AND substr(key, 1, ?) = ?"
_ALL = (
    "SELECT key, is_prefix, reason, placed_by, placed_at FROM holds WHERE source_id = ? UNION ALL "
    "SELECT key, false, NULL, NULL, NULL FROM objects WHERE source_id = ? AND hold AND NOT EXISTS (SELECT 1 FROM holds "
    "WHERE holds.source_id = objects.source_id AND holds.key = objects.key AND NOT holds.is_prefix)"
)


class Hold(NamedTuple):
    """`key` is a prefix where `is_prefix` says so. `placed_by` and the rest are None for a mark that has no record."""

    key: str
    is_prefix: bool
    reason: str | None
    placed_by: str | None
    placed_at: datetime | None


@dataclass(frozen=True)
class Holder:
    """Places and releases the holds of one source, as part of one run."""

    catalog: Catalog
    run_id: int
    source_id: int

    async def place(self, keys: Sequence[str], *, is_prefix: bool, reason: str, by: str, at: datetime) -> int:
        """Returns how many copies that are present now are covered. A hold that exists gets the new reason."""
        detail: dict[str, object] = {"prefix": is_prefix, "reason": reason, "by": by}

        def placing(dialect: Dialect) -> Steps[int]:
            yield _PUT.of([(self.source_id, key, is_prefix, reason, by, dialect.time(at)) for key in keys])
            failpoint("hold.recorded")
            if not is_prefix:
                yield from self._mark(keys, True, dialect)
                failpoint("hold.marked")
            covered = yield from self._covered(keys, is_prefix, dialect)
            lines = [Audit("held", key, detail) for key in keys]
            yield from audit.append(dialect, self.run_id, self.source_id, at, lines)
            failpoint("hold.written")
            return covered

        return await self.catalog.driver.write(placing, leisurely=True)

    async def release(self, keys: Sequence[str], *, is_prefix: bool, by: str, at: datetime) -> list[str]:
        """Ends these holds and returns those that there were; nothing is done unless there were all of them.

        A hold on a key ends with its mark, also one that has no record.
        """

        def releasing(dialect: Dialect) -> Steps[list[str]]:
            found = yield from self._existing(keys, is_prefix, dialect)
            if len(found) < len(keys):
                return found
            yield Statement(_DELETE, (self.source_id, is_prefix, dialect.listed(keys)))
            failpoint("release.deleted")
            if not is_prefix:
                yield from self._mark(keys, False, dialect)
                failpoint("release.marked")
            lines = [Audit("released", key, {"prefix": is_prefix, "by": by}) for key in keys]
            yield from audit.append(dialect, self.run_id, self.source_id, at, lines)
            failpoint("release.written")
            return found

        return await self.catalog.driver.write(releasing, leisurely=True)

    def _existing(self, keys: Sequence[str], is_prefix: bool, dialect: Dialect) -> Steps[list[str]]:
        found = yield Statement(_RECORDED, (self.source_id, is_prefix, dialect.listed(keys)))
        if not is_prefix:
            found += yield Statement(_MARKED, (self.source_id, dialect.listed(keys)))
        known = {key for (key,) in found}
        return [key for key in keys if key in known]

    def _mark(self, keys: Sequence[str], held: bool, dialect: Dialect) -> Steps[None]:
        yield from lock_source(self.source_id)
        yield Statement(_MARK, (held, self.source_id, dialect.listed(keys)))

    def _covered(self, keys: Sequence[str], is_prefix: bool, dialect: Dialect) -> Steps[int]:
        if not is_prefix:
            return int((yield Statement(_COUNT_KEYS, (self.source_id, dialect.listed(keys))))[0][0])
        (prefix,) = keys
        return int((yield Statement(_COUNT_PREFIX, (self.source_id, len(prefix), prefix)))[0][0])


async def all_holds(catalog: Catalog, source_id: int) -> list[Hold]:
    """Every hold in key order, and every mark that has no record of who placed it and why."""
    rows = await catalog.driver.fetch(_ALL, source_id, source_id, leisurely=True)
    return sorted(map(_as_hold, rows), key=lambda hold: (hold.key, not hold.is_prefix))


def _as_hold(row: tuple[Any, ...]) -> Hold:
    key, is_prefix, reason, placed_by, placed_at = row
    return Hold(key, bool(is_prefix), reason, placed_by, None if placed_at is None else read_time(placed_at))
