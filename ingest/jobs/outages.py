"""A database that restarts is waited for, for a while: what reads events goes on where it stood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.errors import DatabaseError, SchemaAhead, SchemaMissing
from ingest.model import CatalogRow
from ingest.observe.logs import log

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds that a database may be away."""
_LONGEST_PAUSE = 5.0


async def outlast(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` returns, tried again while the database fails.

    Raises:
        DatabaseError: it still fails after `PATIENCE`, or its schema does not fit.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + PATIENCE, 0.1
    while True:
        try:
            return await attempt()
        except (SchemaMissing, SchemaAhead):
            raise
        except DatabaseError as error:
            if loop.time() + pause > deadline:
                raise
            log().warning("database_away", error=error.code, message=error.message, pause=pause)
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, 2 * pause)


@dataclass(frozen=True)
class PatientCatalog(Catalog):
    """The same database; the recorder's writes and the reads before them outlast a restart of it.

    A commit whose answer was lost is written again, which changes nothing but the audit trail.
    """

    @classmethod
    def over(cls, catalog: Catalog) -> PatientCatalog:
        return cls(**{part.name: getattr(catalog, part.name) for part in fields(catalog)})

    async def commit(self, batch: Batch) -> None:
        await outlast(lambda: super(PatientCatalog, self).commit(batch))

    async def rows_for(self, source_id: int, keys: Sequence[str]) -> dict[str, CatalogRow]:
        return await outlast(lambda: super(PatientCatalog, self).rows_for(source_id, keys))
