"""Whether the database still is the one that a run has written to: each of its transactions moves a counter in its row.

A standby that took over, a backup that was put back, or a server that lost what it had not written yet answers as if
nothing had been. What it has forgotten is told by the run's own row: it is not there, or its counter stands where it
stood before. The same question brings the schema's revision: an older version never writes to a newer schema.

| the run's row | the schema's revision | then |
|---|---|---|
| there, its counter moves on | as at the start | the transaction commits |
| not there, or its counter has gone back | any | `CatalogWentBack`, and nothing is written |
| there | a later one | `SchemaAhead`, and nothing is written |
| there | an earlier one | `SchemaMissing`, and nothing is written |
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from ingest.catalog.sql.driver import Dialect, Driver, Rows, RunLock, Statement, Steps, T, Transaction, read_time
from ingest.errors import CatalogWentBack, SchemaAhead, SchemaMissing
from ingest.plan.behind import Mark, Standing

REVISION = "(SELECT version_num FROM alembic_version)"
_MOVE = f"UPDATE runs SET written = written + 1 WHERE id = ? AND started_at = ? RETURNING written, {REVISION}"
_STANDS = "SELECT id, started_at, written FROM runs WHERE id {among}"
_FIRST = "SELECT coalesce(min(id), 0) FROM runs"


@dataclass
class Continuity:
    """One run's own. `written` is what has been committed for certain."""

    run_id: int
    started_at: datetime
    revision: str
    written: int = 0
    stands: int | None = None
    """What the database had of them when it turned out to have forgotten some; None as long as it has not."""

    @property
    def mark(self) -> Mark:
        return Mark(self.run_id, self.started_at, self.written)

    def counted(self, transaction: Transaction[T]) -> Transaction[tuple[T, int]]:
        """The transaction, which moves the counter in the end where it writes anything; what it returns, and the number
        for `committed`."""

        def steps(dialect: Dialect) -> Steps[tuple[T, int]]:
            inner, rows, writes = transaction(dialect), None, False
            try:
                statement = next(inner)
                while True:
                    writes = writes or not statement.sql.startswith("SELECT")
                    rows = yield statement
                    statement = inner.send(rows)
            except StopIteration as end:
                result: T = end.value
            return result, (yield from self.move(dialect)) if writes else 0

        return steps

    def move(self, dialect: Dialect) -> Steps[int]:
        """Moves the counter, as the last step of a transaction: the row is ours for no longer than its commit takes.

        Raises:
            CatalogWentBack, SchemaAhead, SchemaMissing: nothing may be written.
        """
        rows = yield Statement(_MOVE, (self.run_id, dialect.time(self.started_at)))
        written, revision = rows[0] if rows else (None, self.revision)
        self.require(None if written is None else written - 1)
        self._require_revision(str(revision))
        return int(written)

    def require(self, found: int | None) -> None:
        """`found` is the counter as the database has it; None where it has no such run.

        Raises:
            CatalogWentBack: it has forgotten what was committed.
        """
        if found is None or found < self.written:
            self.stands = found or 0
        if found is None:
            raise CatalogWentBack(f"the database knows nothing of run {self.run_id}, which is under way")
        if found < self.written:
            lost = f"{self.written - found} of the {self.written} transactions"
            raise CatalogWentBack(f"the database has forgotten {lost} that run {self.run_id} had written")

    def _require_revision(self, revision: str) -> None:
        if revision > self.revision:
            said = f"the database's schema was brought to {revision} while this run was at work with {self.revision}"
            raise SchemaAhead(said)
        if revision < self.revision:
            said = f"the database's schema was taken back to {revision} while this run was at work with {self.revision}"
            raise SchemaMissing(said)

    def committed(self, number: int) -> None:
        """A transaction has come to its end; others of this run may have overtaken it."""
        self.written = max(self.written, number)


class CountedDriver:
    """A run's driver: see `Driver`, and what `Continuity.move` raises."""

    def __init__(self, driver: Driver, run: Continuity) -> None:
        self.dialect, self.is_read_only = driver.dialect, driver.is_read_only
        self._driver, self._run = driver, run

    async def fetch(self, sql: str, *values: object, leisurely: bool = False) -> Rows:
        return await self._driver.fetch(sql, *values, leisurely=leisurely)

    async def write(self, transaction: Transaction[T], *, leisurely: bool = False) -> T:
        result, number = await self._driver.write(self._run.counted(transaction), leisurely=leisurely)
        self._run.committed(number)
        return result

    def lock(self, name: str) -> AbstractAsyncContextManager[RunLock | None]:
        return self._driver.lock(name)

    def hurry(self) -> None:
        self._driver.hurry()


async def standing(driver: Driver, marks: Sequence[Mark]) -> Standing:
    """What the database says of these runs."""
    if not marks:
        return Standing()
    rows = await driver.fetch(_STANDS, driver.dialect.listed([mark.run_id for mark in marks]))
    found = [Mark(int(number), read_time(started), int(written)) for number, started, written in rows]
    return Standing(found, int((await driver.fetch(_FIRST))[0][0]))
