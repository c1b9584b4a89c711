"""Opens the lane that a URL leads to. The drivers are imported when they are needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.catalog.lane import Lane
from ingest.catalog.target import Target


@asynccontextmanager
async def open_lane(target: Target) -> AsyncIterator[Lane]:
    """Connects. Raises `DatabaseError`."""
    if target.is_postgres:
        from ingest.catalog.postgres import PostgresLane

        async with PostgresLane.open(target) as lane:
            yield lane
    else:
        from ingest.catalog.sqlite import SqliteLane

        async with SqliteLane.open(target) as lane:
            yield lane
