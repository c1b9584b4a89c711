"""The way to the database: transactions as generators of statements, run by whichever driver is at hand.

A transaction yields a `Statement` and receives its rows. SQLite runs it in one go on its writer's thread, without a
switch of threads for each statement; PostgreSQL awaits each. Written once, for both, and without SQLAlchemy, whose
import takes longer than a run with nothing to do (docs/decisions/0008, 0038).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import count
from re import sub
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from ingest.system.units import as_utc

if TYPE_CHECKING:
    from ingest.catalog.sql.continuity import Continuity

T = TypeVar("T")
VERSION = "coalesce(version, etag)"
"""The name of an object's version (`plan.etags`): `version` has it where the etag alone is none."""
LAST_ID, END_OF_TIME = (1 << 63) - 1, datetime.max.replace(tzinfo=UTC)
"""No id and no time is greater: what a question without a bound has for one."""
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Insert:
    """Rows of `columns` into `table`. One whose `unique` columns are there already takes the assignments of `update`
    instead (where `where` holds for it), or stays as it is where there are none; without `unique`, none can be there.
    """

    table: str
    columns: tuple[str, ...]
    unique: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    where: str = ""

    @cached_property
    def row(self) -> str:
        """The statement for one row."""
        return self._into(f"VALUES ({', '.join('?' * len(self.columns))})")

    def out_of(self, table: str) -> str:
        """The statement for all rows of another table."""
        return self._into(f"SELECT {', '.join(self.columns)} FROM {table}")

    def of(self, rows: Sequence[tuple[Any, ...]]) -> Statement:
        """To be run for each of `rows`, in their order, or as if it were."""
        return Statement(self.row, rows=rows, insert=self)

    def _into(self, rows: str) -> str:
        head = f"INSERT INTO {self.table} ({', '.join(self.columns)}) {rows}"
        if not self.unique:
            return head
        then = f"UPDATE SET {', '.join(self.update)}" if self.update else "NOTHING"
        condition = f" WHERE {self.where}" if self.where else ""
        return f"{head} ON CONFLICT ({', '.join(self.unique)}) DO {then}{condition}"


class Statement(NamedTuple):
    """SQL with ``?`` for each value, and words in braces for what the engines call differently (`speller`). With `rows`
    it is run once for each of them, and has no result.

    Where that is all it does, `insert` says so: an engine that has a quicker way to the same end may take it.
    """

    sql: str
    values: Sequence[Any] = ()
    rows: Sequence[tuple[Any, ...]] | None = None
    insert: Insert | None = None


class Dialect(NamedTuple):
    """What the two engines do not share."""

    is_postgres: bool
    listed: Callable[[Sequence[str] | Sequence[int]], Any]
    """Makes a list one value, for ``{among}``."""
    time: Callable[[datetime], Any]
    spell: Callable[[str], str]
    """A statement as this engine is told it."""


_LOCK_SOURCE = "SELECT 1 FROM sources WHERE id = ? {no_key_update}"

Steps = Generator[Statement, Rows, T]
Transaction = Callable[[Dialect], Steps[T]]


class RunLock(Protocol):
    """A lock that is held. `run` is the one that it is for, once there is one: should the lock have to be had again,
    that run must be the last to have had it, and be on record as it was."""

    run: Continuity | None

    async def beat(self, transaction: Transaction[T]) -> T:
        """Runs the transaction of a heartbeat: it shows that the lock is held still."""

    async def lost(self) -> None:
        """Waits, and raises `LockLost` when the lock is lost, `CatalogWentBack` where the run is forgotten."""


class Driver(Protocol):
    """`fetch` and `write` raise `DatabaseError` when the database fails, after the retries that can help."""

    dialect: Dialect
    is_read_only: bool
    """Whether the database is a file that can only be read here."""

    async def fetch(self, sql: str, *values: Any, leisurely: bool = False) -> Rows:
        """The rows of one query, outside of any transaction; `leisurely` says that it may read whole tables."""

    async def write(self, transaction: Transaction[T], *, leisurely: bool = False) -> T:
        """Runs a transaction to its end and commits it, or rolls it back. It may be run again after a conflict. Waits
        while a lock of ours is in doubt, and raises `LockLost` when it is lost."""

    def lock(self, name: str) -> AbstractAsyncContextManager[RunLock | None]:
        """The database's own lock of this name, which dies with its holder; None when another process has it."""

    def hurry(self) -> None:
        """From now on the database is waited for for a moment only: the run is asked to stop."""


def speller(*, numbered: bool, **words: str) -> Callable[[str], str]:
    """What `Dialect.spell` does: says ``{word}`` as an engine says it, and ``?`` as ``$1``, ``$2`` … where it has to be
    `numbered` (no statement of ours has a question mark in a literal).

    | word | means |
    |---|---|
    | among | behind a column: whether it is in a list, which `Dialect.listed` makes one value |
    | now | the database's own clock, which all hosts share |
    | later | the same clock, so many seconds from now: the one value of this expression |
    | for_update | behind a query: its rows stay as they are until the transaction ends |
    | skip_locked | the same, without the rows that somebody else has so |
    | no_key_update | the same as `for_update`, for rows that others may refer to meanwhile |
    """

    @lru_cache(maxsize=512)
    def spelled(sql: str) -> str:
        for name, meaning in words.items():
            sql = sql.replace(f"{{{name}}}", meaning)
        numbers = count(1)
        return sub(r"\?", lambda _: f"${next(numbers)}", sql) if numbered else sql

    return spelled


def lock_source(source_id: int) -> Steps[None]:
    """Before rows of `objects` are written: the source's row first, as each batch does, so that a batch and this
    transaction never wait in a circle. SQLite has one writer at a time."""
    yield Statement(_LOCK_SOURCE, (source_id,))


def sqlite_time(moment: datetime) -> str:
    """``YYYY-MM-DD HH:MM:SS.ffffff`` in UTC, which sorts and reads well."""
    text = str(moment if moment.tzinfo is UTC else moment.astimezone(UTC))
    return text[:26] if len(text) == 32 else text[:19] + ".000000"


def read_time(kept: datetime | str) -> datetime:
    """A time of either engine, aware. People may have written one into SQLite by hand, without fraction or offset."""
    return as_utc(datetime.fromisoformat(kept) if isinstance(kept, str) else kept)
