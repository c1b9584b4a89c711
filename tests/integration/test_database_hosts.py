"""Several hosts of a PostgreSQL: one that is away or silent is passed over, and one that only reads is not written at."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.errors import DatabaseError
from ingest.settings import Settings
from ingest.testing.connections import listening
from tests.fixtures.catalogs import source_of


def spread(url: str, *before: str, **more: str) -> str:
    """The same database, with these hosts before its own."""
    parts = urlsplit(url)
    own = parse_qs(parts.query).get("host", [parts.netloc.rpartition("@")[2]])[0]
    user = parts.netloc.rpartition("@")[0]
    also = "".join(f"&{name}={value}" for name, value in more.items())
    return f"{parts.scheme}://{user}@{parts.path}?host={','.join([*before, own])}{also}"


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_hosts_that_are_away_or_silent_are_passed_over(postgres_url: str) -> None:
    async with listening(silence) as port:
        url = spread(postgres_url, "127.0.0.1:1", f"127.0.0.1:{port}", connect_timeout="1", sslmode="disable")
        shown = Settings(bucket="statements", database_url=url)  # type: ignore[arg-type]  # as it is loaded
        await schema.upgrade(shown.database_url.get_secret_value())
        async with Catalog.open(url) as catalog:
            source = await source_of(catalog, "minio.example.com", "statements")
            async with catalog.lock("sync") as lock:
                assert lock
                assert await catalog.rows_for(source.id, ["a"]) == {}


async def test_a_server_that_only_reads_is_not_taken(postgres_url: str) -> None:
    await schema.upgrade(postgres_url)
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await connection.close()
    with pytest.raises(DatabaseError, match="read-write"):
        async with Catalog.open(spread(postgres_url, "127.0.0.1:1")):
            pass
    with pytest.raises(DatabaseError, match="read-write"):
        async with Catalog.open(f"{spread(postgres_url)}&target_session_attrs=read-write"):
            pass
