"""A database that restarts is waited for, for a while: what reads events goes on where it stood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import TypeVar

from ingest.catalog.batch import Batch, Committed
from ingest.catalog.catalog import Catalog
from ingest.errors import CatalogWentBack, DatabaseDataError, DatabaseError, SchemaAhead, SchemaMissing
from ingest.model import CatalogRow
from ingest.observe.logs import log
from ingest.tasks.stop import Stop

T = TypeVar("T")
DATABASE_PATIENCE = 60.0
"""Seconds that a database may be away; none once the run is asked to stop."""
_LONGEST_PAUSE = 5.0
MOVED = (CatalogWentBack, SchemaMissing, SchemaAhead)
"""It is another database by now: nothing that was read of it holds, and no waiting brings it back."""


@dataclass
class Outage:
    """Tries again while the database fails. `trouble` says in words what is waited for now; empty: nothing."""

    stop: Stop
    trouble: str = ""

    async def wait_out(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What `attempt` returns in the end.

        Raises:
            DatabaseError: it still fails after `DATABASE_PATIENCE` or when a stop is requested, or it is another one
            (`MOVED`); `DatabaseDataError` at once: waiting makes no value another one.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + DATABASE_PATIENCE, 0.1
        while True:
            try:
                result = await attempt()
            except (*MOVED, DatabaseDataError):
                raise
            except DatabaseError as error:
                if self.stop.requested or loop.time() + pause > deadline:
                    raise
                self.trouble = f"the database is away: {error.code}"
                log().warning("database_away", error=error.code, message=error.message, pause=pause)
            else:
                self.trouble = ""
                return result
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)


@dataclass(frozen=True)
class PatientCatalog(Catalog):
    """The same database; the recorder's writes and the reads before them outlast a restart of it.

    A commit whose answer was lost is written again, which changes nothing but the audit trail.
    """

    outage: Outage = field(kw_only=True)

    @classmethod
    def over(cls, catalog: Catalog, outage: Outage) -> PatientCatalog:
        return cls(**{part.name: getattr(catalog, part.name) for part in fields(catalog)}, outage=outage)

    async def commit(self, batch: Batch) -> Committed:
        return await self.outage.wait_out(lambda: super(PatientCatalog, self).commit(batch))

    async def rows_for(self, source_id: int, keys: Sequence[str]) -> dict[str, CatalogRow]:
        return await self.outage.wait_out(lambda: super(PatientCatalog, self).rows_for(source_id, keys))
