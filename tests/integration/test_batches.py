"""A batch ends in the same rows on both engines, and on PostgreSQL whichever way its rows go in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from ingest.catalog import audit
from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.catalog.sql import postgres
from ingest.catalog.sql.driver import Insert, Statement, sqlite_time
from ingest.model import Audit, Delivery, LocalCopy, RemoteObject, Verified
from tests.fixtures.catalogs import source_of, start_run
from tests.fixtures.databases import migrate

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AWAY, EVER = 1 << 30, 1
_OBJECTS = (
    "SELECT key, size, etag, last_modified, storage_class, source_s3_path, state, local_path, digest, verified, "
    "downloaded_at, gone_at, attempts, last_error FROM objects ORDER BY key"
)
_OUTBOX = "SELECT key, etag, target, state, attempts FROM deliveries ORDER BY key, etag"


def remote(number: int, etag: str = "e") -> RemoteObject:
    return RemoteObject(f"k/{number:05}-ä\n'\\", number, etag, MOMENT)


def copy_of(number: int) -> LocalCopy:
    return LocalCopy(f"statements/{number}", "md5:d", Verified.VERIFIED, number)


def batches(run_id: int, source_id: int) -> Iterator[Batch]:
    """New, changed, repeated and troubled objects, more than one insert into one table, and an outbox."""
    first = Batch(run_id, source_id, "statements", MOMENT, target="https://verify.example.com/v1/verify")
    first.known = [remote(number) for number in range(40)]
    first.present = [(remote(number), copy_of(number)) for number in range(40, 80)]
    first.failed = [(remote(number), "timeout: gave up") for number in range(80, 90)]
    first.blocked = [(remote(number), "archived") for number in range(90, 100)]
    first.audits = [Audit("downloaded", remote(number).key, {"etag": "e"}) for number in range(40, 80)]
    first.deliveries = [Delivery(remote(number).key, "e", {"account": "7"}) for number in range(40, 80)]
    yield first
    second = Batch(run_id, source_id, "statements", MOMENT, target=first.target)
    second.known = [remote(number, f"e{number % 2}") for number in (*range(60), 3, 5, 3)]  # one key more than once
    second.present = [(remote(number, "new"), copy_of(number)) for number in (*range(75, 85), 77)]
    second.failed = [(remote(number, "newer"), "slow_down") for number in (*range(70, 95), 94)]
    second.audits = [Audit("changed", remote(number).key, {"etag": "new"}) for number in range(75, 85)]
    second.deliveries = [Delivery(remote(number).key, "e", {}) for number in range(40, 50)]
    yield second


async def written(url: str) -> list[list[tuple[Any, ...]]]:
    """The rows that the batches end in; the audit trail is checked."""
    async with Catalog.open(url) as catalog:
        source = await source_of(catalog, "https://minio.example.com:9000", "statements")
        for batch in batches(await start_run(catalog, "sync", {}, source.id), source.id):
            await catalog.commit(batch)
        assert await audit.broken_links(catalog.driver) == []
        tables = [await catalog.driver.fetch(query) for query in (_OBJECTS, _OUTBOX)]
        trail = await catalog.driver.fetch("SELECT key, what, detail FROM events ORDER BY id")
    assert len(trail) == 50
    return [
        [tuple(sqlite_time(value) if isinstance(value, datetime) else value for value in row) for row in rows]
        for rows in tables
    ]


@pytest.mark.parametrize("copy_from", [AWAY, EVER], ids=["one by one", "by COPY"])
async def test_all_ways_end_in_the_same_rows(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, copy_from: int
) -> None:
    """As SQLite has them, which knows one way only."""
    monkeypatch.setattr(postgres, "COPY_FROM", copy_from)
    lite = f"sqlite+aiosqlite:///{tmp_path}/catalog.db"
    for url in (lite, postgres_url):
        await migrate(url)
    assert await written(postgres_url) == await written(lite)


async def test_without_the_right_to_temporary_tables_it_works_as_well(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "COPY_FROM", EVER)
    await migrate(postgres_url)
    parts = urlsplit(postgres_url)
    name, role = parts.path.lstrip("/"), f"limited_{parts.path.lstrip('/')}"
    connection = await asyncpg.connect(urlunsplit(parts._replace(scheme="postgresql")))
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    await connection.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    await connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    own = urlunsplit(parts._replace(netloc=f"{role}:x@{parts.netloc.rpartition('@')[2]}"))
    try:
        objects, _ = await written(own)
        assert len(objects) == 100
    finally:
        await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await connection.close()


@pytest.mark.parametrize("copy_from", [AWAY, EVER], ids=["one by one", "by COPY"])
async def test_a_row_that_is_there_takes_nothing_where_the_condition_does_not_hold(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, copy_from: int
) -> None:
    monkeypatch.setattr(postgres, "COPY_FROM", copy_from)
    taken = ("listing_order = excluded.listing_order",)
    insert = Insert("sources", ("endpoint", "bucket", "listing_order"), ("endpoint", "bucket"), taken, "sources.id > 1")
    for url in (f"sqlite+aiosqlite:///{tmp_path}/catalog.db", postgres_url):
        await migrate(url)
        async with Catalog.open(url) as catalog:
            for order in ("unknown", "bytes"):

                def transaction(_: object, order: str = order) -> Iterator[Statement]:
                    yield insert.of([("e", "first", order), ("e", "second", order)])

                await catalog.driver.write(transaction)  # type: ignore[arg-type] # a generator without a result
            found = await catalog.driver.fetch("SELECT listing_order FROM sources ORDER BY id")
        assert found == [("unknown",), ("bytes",)]


async def test_a_failed_copy_leaves_nothing_and_the_connection_works(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same temporary table is made again by the next transaction."""
    monkeypatch.setattr(postgres, "COPY_FROM", EVER)
    await migrate(postgres_url)
    insert = Insert("sources", ("endpoint", "bucket"), ("endpoint", "bucket"))
    async with Catalog.open(postgres_url) as catalog:
        for rows, kept in (([("e", None)], 0), ([("e", "b"), ("e", "c")], 2), ([("e", "c"), ("e", "d")], 3)):

            def transaction(_: object, rows: Any = rows) -> Iterator[Statement]:
                yield insert.of(rows)

            if kept:
                await catalog.driver.write(transaction)  # type: ignore[arg-type] # a generator without a result
            else:
                with pytest.raises(Exception, match="null value"):
                    await catalog.driver.write(transaction)  # type: ignore[arg-type]
            assert len(await catalog.driver.fetch("SELECT 1 FROM sources")) == kept
