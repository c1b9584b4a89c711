"""A value that the database cannot keep is an error of that value: never an outage, and the same on every way in."""

from __future__ import annotations

import random
import string
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.sql import postgres
from ingest.catalog.sql.driver import Dialect, Insert, Statement, Steps
from ingest.engine.record.patient import Outage
from ingest.errors import DatabaseDataError, DatabaseError
from ingest.tasks.stop import Stop
from tests.fixtures.catalogs import source_of
from tests.fixtures.databases import migrate

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
COLUMNS = ("source_id", "key", "size", "etag", "last_modified", "source_s3_path", "state")
LONG = "".join(random.Random(1).choices(string.ascii_letters, k=3_000))
"""More than PostgreSQL takes into an index, also when it is compressed."""

Write = Callable[[Catalog, tuple[Any, ...]], Awaitable[None]]


def row(catalog: Catalog, **odd: Any) -> tuple[Any, ...]:
    whole = dict(zip(COLUMNS, (1, "k", 1, "e", catalog.driver.dialect.time(MOMENT), "s3://b/k", "known"), strict=True))
    return tuple((whole | odd).values())


def steps(*rows: tuple[Any, ...]) -> Callable[[Dialect], Steps[None]]:
    def write(_dialect: Dialect) -> Steps[None]:
        yield Insert("objects", COLUMNS, ("source_id", "key")).of(rows)

    return write


async def one_by_one(catalog: Catalog, odd: tuple[Any, ...]) -> None:
    await catalog.driver.write(steps(row(catalog), odd))


async def as_a_value(catalog: Catalog, odd: tuple[Any, ...]) -> None:
    marks = ", ".join("?" * len(COLUMNS))

    def write(_dialect: Dialect) -> Steps[None]:
        yield Statement(f"INSERT INTO objects ({', '.join(COLUMNS)}) VALUES ({marks})", odd)

    await catalog.driver.write(write)


@pytest.mark.parametrize("way", [one_by_one, as_a_value])
@pytest.mark.parametrize("odd", [{"size": 2**63}, {"key": "\ud800"}, {"source_id": None}], ids=str)
@pytest.mark.parametrize("copies", [False, True], ids=["few", "as if many"])
async def test_what_neither_keeps(
    database_url: str, monkeypatch: pytest.MonkeyPatch, way: Write, odd: dict[str, Any], copies: bool
) -> None:
    if copies:
        monkeypatch.setattr(postgres, "COPY_FROM", 1)
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        await source_of(catalog, "minio.example.com", "statements")
        with pytest.raises(DatabaseDataError) as refused:
            await way(catalog, row(catalog, **odd))
        assert not refused.value.retryable
        assert "\n" not in refused.value.message
        await one_by_one(catalog, row(catalog, key="next"))  # and the connection is as good as before
        assert len(await catalog.rows_between(1, "", None)) == 2


@pytest.mark.parametrize("odd", [{"key": "a\0b"}, {"key": LONG}, {"size": "many"}], ids=["nul", "long", "word"])
@pytest.mark.parametrize("copies", [False, True], ids=["few", "as if many"])
async def test_what_postgresql_does_not_keep(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any], copies: bool
) -> None:
    if copies:
        monkeypatch.setattr(postgres, "COPY_FROM", 1)
    await migrate(postgres_url)
    async with Catalog.open(postgres_url) as catalog:
        await source_of(catalog, "minio.example.com", "statements")
        with pytest.raises(DatabaseDataError):
            await one_by_one(catalog, row(catalog, **odd))
        await one_by_one(catalog, row(catalog, key="next"))


async def test_it_is_not_waited_for() -> None:
    """As an outage would be: it is so each time."""
    asked = 0

    async def refused() -> None:
        nonlocal asked
        asked += 1
        raise DatabaseDataError("bigint out of range")

    with pytest.raises(DatabaseError):
        await Outage(Stop()).wait_out(refused)
    assert asked == 1
