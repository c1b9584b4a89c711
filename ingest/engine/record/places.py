"""Tells the store which places are taken, on a disk that takes two names for one file.

The catalog knows them, and the store does not know the catalog. Without such a disk there is nothing to tell.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ingest.catalog.catalog import Catalog
from ingest.store.folding import Place, TakenPlaces

_BATCH = 5_000


@dataclass
class Places:
    """Keeps `taken` up to date; whoever changes copies asks for that first, with the lock of the copies held."""

    catalog: Catalog
    taken: TakenPlaces | None
    _last_event: int = -1

    async def refresh(self) -> None:
        """What is in the catalog is in `taken`. The first time all is read, then what is new.

        Raises:
            DatabaseError: the catalog cannot be asked.
        """
        if self.taken is None:
            return
        last_event = await self.catalog.last_event()
        if self._last_event < 0:
            await self._read_all(self.taken)
        elif last_event > self._last_event:
            found = await self.catalog.places_since(self._last_event)
            await asyncio.to_thread(self.taken.add, [Place(*row) for row in found])
        self._last_event = last_event

    async def _read_all(self, taken: TakenPlaces) -> None:
        source_id, key = 0, ""
        while rows := await self.catalog.places_after(source_id, key, _BATCH):
            source_id, key = rows[-1][:2]
            await asyncio.to_thread(taken.add, [Place(*row[2:]) for row in rows])
