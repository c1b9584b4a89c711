"""Holds: what ``cleanup`` may not remove, by key or by prefix. A prefix covers also what comes later.

Keys and prefixes are literal: nothing in them is a pattern. The hold of a key is a mark on its row, which is what
counts, and a record of who placed it and why; the hold of a prefix is its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog import audit
from ingest.catalog.catalog import Catalog
from ingest.catalog.conditions import among, under
from ingest.catalog.schema.tables import holds, objects
from ingest.catalog.sql.engine import lock_source, upsert, within
from ingest.model import Audit, State
from ingest.system.failpoints import failpoint


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
        rows = [
            {
                "source_id": self.source_id,
                "key": key,
                "is_prefix": is_prefix,
                "reason": reason,
                "placed_by": by,
                "placed_at": at,
            }
            for key in keys
        ]
        detail: dict[str, object] = {"prefix": is_prefix, "reason": reason, "by": by}
        async with self.catalog.writing() as connection:
            statement = upsert(connection, holds)
            changed = {name: statement.excluded[name] for name in ("reason", "placed_by", "placed_at")}
            conflict = {"index_elements": ["source_id", "key", "is_prefix"], "set_": changed}
            await connection.execute(statement.on_conflict_do_update(**conflict), rows)
            failpoint("hold.recorded")
            if not is_prefix:
                await self._mark(connection, keys, held=True)
                failpoint("hold.marked")
            covered = await self._covered(connection, keys, is_prefix=is_prefix)
            lines = [Audit("held", key, detail) for key in keys]
            await within(connection, audit.appending(self.run_id, self.source_id, at, lines))
            failpoint("hold.written")
        return covered

    async def release(self, keys: Sequence[str], *, is_prefix: bool, by: str, at: datetime) -> list[str]:
        """Ends these holds and returns those that there were; nothing is done unless there were all of them.

        A hold on a key ends with its mark, also one that has no record.
        """
        async with self.catalog.writing() as connection:
            found = await self._existing(connection, keys, is_prefix=is_prefix)
            if len(found) < len(keys):
                return found
            recorded = [{"held_key": key, "held_source": self.source_id, "by_prefix": is_prefix} for key in keys]
            matching = (
                holds.c.source_id == bindparam("held_source"),
                holds.c.key == bindparam("held_key"),
                holds.c.is_prefix == bindparam("by_prefix"),
            )
            await connection.execute(delete(holds).where(*matching), recorded)
            failpoint("release.deleted")
            if not is_prefix:
                await self._mark(connection, keys, held=False)
                failpoint("release.marked")
            lines = [Audit("released", key, {"prefix": is_prefix, "by": by}) for key in keys]
            await within(connection, audit.appending(self.run_id, self.source_id, at, lines))
            failpoint("release.written")
        return found

    async def _existing(self, connection: AsyncConnection, keys: Sequence[str], *, is_prefix: bool) -> list[str]:
        of_source = holds.c.source_id == self.source_id, holds.c.is_prefix == is_prefix
        recorded = await connection.execute(select(holds.c.key).where(*of_source, self._among(holds.c.key, keys)))
        found = set(recorded.scalars())
        if not is_prefix:
            marked = objects.c.source_id == self.source_id, self._among(objects.c.key, keys), objects.c.hold
            found |= set((await connection.execute(select(objects.c.key).where(*marked))).scalars())
        return [key for key in keys if key in found]

    async def _mark(self, connection: AsyncConnection, keys: Sequence[str], *, held: bool) -> None:
        await lock_source(connection, self.source_id)
        of_key = objects.c.source_id == self.source_id, objects.c.key == bindparam("marked")
        statement = update(objects).where(*of_key).values(hold=held)
        await connection.execute(statement, [{"marked": key} for key in keys])

    async def _covered(self, connection: AsyncConnection, keys: Sequence[str], *, is_prefix: bool) -> int:
        matching = or_(*(under(key) for key in keys)) if is_prefix else self._among(objects.c.key, keys)
        present = objects.c.source_id == self.source_id, objects.c.state == State.PRESENT.value
        query = select(func.count()).select_from(objects).where(*present, matching)
        return int((await connection.execute(query)).scalar_one())

    def _among(self, column: ColumnElement[str], keys: Sequence[str]) -> ColumnElement[bool]:
        return among(column, keys, is_postgres=self.catalog.is_postgres)


def is_held() -> ColumnElement[bool]:
    """Whether a row of ``objects`` is held, by its mark or by a prefix; for a query over ``objects``."""
    starts = func.substr(objects.c.key, 1, func.length(holds.c.key)) == holds.c.key
    covering = exists().where(holds.c.source_id == objects.c.source_id, holds.c.is_prefix, starts)
    return or_(objects.c.hold, covering.correlate(objects))


async def all_holds(catalog: Catalog, source_id: int) -> list[Hold]:
    """Every hold in key order, and every mark that has no record of who placed it and why."""
    recorded = select(holds).where(holds.c.source_id == source_id)
    has_record = exists().where(holds.c.source_id == source_id, holds.c.key == objects.c.key, ~holds.c.is_prefix)
    marked = select(objects.c.key).where(objects.c.source_id == source_id, objects.c.hold, ~has_record)
    async with catalog.reading() as connection:
        found = [_as_hold(row) for row in await connection.execute(recorded)]
        found += [Hold(key, False, None, None, None) for key in (await connection.execute(marked)).scalars()]
    return sorted(found, key=lambda hold: (hold.key, not hold.is_prefix))


def _as_hold(row: Any) -> Hold:
    return Hold(row.key, row.is_prefix, row.reason, row.placed_by, row.placed_at)
