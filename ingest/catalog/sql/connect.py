"""Opens the lane that a URL leads to. The drivers are imported when they are needed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.catalog.sql.driver import Lane
from ingest.catalog.sql.url import Target

_EFFECTIVE = os.access in os.supports_effective_ids
"""Asked as what the process is, with its capabilities, where the system can be asked so."""


@asynccontextmanager
async def open_lane(target: Target) -> AsyncIterator[Lane]:
    """Connects. Where the target is only asked, what can only be read will do. Raises `DatabaseError`."""
    if target.is_postgres:
        from ingest.catalog.sql.postgres import PostgresLane

        async with PostgresLane.open(target) as lane:
            yield lane
    elif target.asked and is_read_only(target.file):
        from ingest.catalog.sql.readonly import ReadOnlyLane

        async with ReadOnlyLane.open(target) as lane:
            yield lane
    else:
        from ingest.catalog.sql.sqlite import SqliteLane

        async with SqliteLane.open(target) as lane:
            yield lane


def is_read_only(file: str) -> bool:
    """Whether neither the file nor anything beside it can be written, by us or by anybody."""
    beside = os.path.dirname(os.path.realpath(file))
    may = {file: os.W_OK, beside: os.W_OK | os.X_OK}
    return not all(os.access(path, how, effective_ids=_EFFECTIVE) for path, how in may.items())
