"""Opens the driver that a URL leads to. Each is imported when it is needed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingest.catalog.sql.driver import Driver
from ingest.catalog.sql.url import Target

_EFFECTIVE = os.access in os.supports_effective_ids
"""Asked as what the process is, with its capabilities, where the system can be asked so."""


@asynccontextmanager
async def open_driver(target: Target) -> AsyncIterator[Driver]:
    """Connects. Where the target is read only, what can only be read will do. Raises `DatabaseError`."""
    if target.is_postgres:
        from ingest.catalog.sql.postgres import PostgresDriver

        async with PostgresDriver.open(target) as driver:
            yield driver
    elif target.read_only and is_read_only(target.file):
        from ingest.catalog.sql.readonly import ReadOnlyDriver

        async with ReadOnlyDriver.open(target) as driver:
            yield driver
    else:
        from ingest.catalog.sql.sqlite import SqliteDriver

        async with SqliteDriver.open(target) as driver:
            yield driver


def is_read_only(file: str) -> bool:
    """Whether neither the file nor anything beside it can be written, by us or by anybody."""
    beside = os.path.dirname(os.path.realpath(file))
    may = {file: os.W_OK, beside: os.W_OK | os.X_OK}
    return not all(os.access(path, how, effective_ids=_EFFECTIVE) for path, how in may.items())
