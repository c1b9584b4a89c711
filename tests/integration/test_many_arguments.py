"""Statements about more keys than PostgreSQL's protocol counts arguments: people name as many on one command line."""

from __future__ import annotations

from datetime import UTC, datetime

from ingest.catalog.batch import Batch
from ingest.catalog.catalog import Catalog
from ingest.catalog.copies import copies_named, copies_of
from ingest.catalog.holds import Holder
from ingest.model import LocalCopy, RemoteObject, Verified
from tests.fixtures.catalogs import source_of, start_run
from tests.fixtures.databases import migrate

MANY = 33_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_keys_by_the_ten_thousand_are_looked_for(database_url: str) -> None:
    await migrate(database_url)
    keys = ["a", "b/c", "quote ' \" \\ [] {} ü", "%_"]
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "minio.example.com:9000", "statements")
        run = await start_run(catalog, "hold add", {}, source.id)
        batch = Batch(run, source.id, source.bucket, NOW)
        for key in keys:
            copy = LocalCopy(f"statements/{key}", "md5:00", Verified.VERIFIED, 3)
            batch.present.append((RemoteObject(key, 3, "etag", NOW), copy))
        await catalog.commit(batch)
        asked = [*keys, *(f"unknown {number}" for number in range(MANY))]
        assert (await copies_of(catalog, source.id, asked)).keys() == set(keys)
        assert (await copies_named(catalog, source.id, asked)).keys() == set(keys)
        holder = Holder(catalog, run, source.id)
        assert await holder.place(keys, is_prefix=False, reason="audit", by="me", at=NOW) == len(keys)
        assert await holder.release(asked, is_prefix=False, by="me", at=NOW) == keys
        assert await holder.release(keys, is_prefix=False, by="me", at=NOW) == keys
        assert await copies_of(catalog, source.id, []) == {}
