"""What the catalog holds and the listing does not show: set aside until all of it is known, then marked or refused.

A listing may be right and of the wrong bucket. How much is gone shows only at its end, so nothing is marked before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ingest.errors import TooManyGone
from ingest.model import CatalogRow
from ingest.observe.logs import log
from ingest.plan.vanishing import MOST_GONE, MostGone
from ingest.store.scratch import private_database

_BATCH = 1_000
_TABLE = f"CREATE TABLE gone ({', '.join(CatalogRow._fields)})"
_SET_ASIDE = f"INSERT INTO gone VALUES ({', '.join('?' for _ in CatalogRow._fields)})"  # noqa: S608 - question marks only


@dataclass
class Vanished:
    """Rows without an object, on disk like the listed keys: there may be as many as the catalog holds.

    A run that ends before the decision leaves none behind: no page that holds such a row is remembered, so the next one
    finds them again.
    """

    most: MostGone | None
    """What was said to be right; None: what is likely."""
    listed: int = 0
    """Objects that the listing showed."""
    live: int = 0
    """Objects that the catalog held as in the bucket, of the ranges and prefixes that were listed."""
    gone: int = 0
    _rows: sqlite3.Connection | None = field(default=None, repr=False)

    def saw(self, listed: int, live: int) -> None:
        """A part of the listing, with so many objects, where the catalog had so many live rows."""
        self.listed += listed
        self.live += live

    def set_aside(self, rows: Sequence[CatalogRow]) -> None:
        """Rows, among those that were seen, that have no object."""
        if not rows:
            return
        if self._rows is None:
            self._rows = private_database(_TABLE)
        self.gone += len(rows)
        self._rows.execute("BEGIN")
        self._rows.executemany(_SET_ASIDE, rows)
        self._rows.execute("COMMIT")

    async def check(self, unmarked: Callable[[], Awaitable[int]]) -> None:
        """`unmarked` tells how many objects the run before missed, and did not mark as gone.

        Raises:
            TooManyGone: more than may be gone at once; nothing is to be marked.
        """
        if not self.gone:
            return
        before = await unmarked() if self.most is None else 0
        if not (self.most or MOST_GONE).allows(self.gone, self.live, before):
            said = f"{self.gone} of {self.live} objects on record are no longer listed ({self.listed} are)"
            raise TooManyGone(f"{said}: none was marked as gone; if it is true, say --max-gone {self.gone}")
        if not self.listed:
            said = f"nothing is listed, where {self.live} objects are on record"
            log().warning("nothing_listed", message=f"{said}: all are marked as gone, and their copies stay")

    def batches(self) -> Iterator[list[CatalogRow]]:
        """Everything that was set aside, in no order."""
        if self._rows is not None:
            found = self._rows.execute("SELECT * FROM gone")
            while rows := found.fetchmany(_BATCH):
                yield list(map(CatalogRow._make, rows))

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()
