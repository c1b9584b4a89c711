"""What earlier versions kept of listings, in a catalog that is brought up to date."""

from __future__ import annotations

from sqlalchemy import text

from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.engine import create_engine

KEEP = (
    "INSERT INTO pages (source_id, prefix, start_after, last_key, listed, skipped, fingerprint, filters) "
    "VALUES (1, '', :after, 'z', 1, 0, '', '')"
)
COPY = (
    "INSERT INTO objects (source_id, key, size, etag, last_modified, source_s3_path, state, listed_etag) "
    "VALUES (1, 'k', 5, 'e1', '2026-11-24 07:10:18.123000+00:00', 's3://b/k', 'present', 'e0@moment')"
)


async def test_it_is_not_believed(database_url: str) -> None:
    """A mended defect may have stored it. Nor is a page that such a version keeps on the new schema, where it is at work
    still."""
    await schema.upgrade(database_url)
    await schema.downgrade(database_url, "0006")
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO sources (id, endpoint, bucket) VALUES (1, 'e', 'b')"))
        await connection.execute(text(COPY))
        await connection.execute(text(KEEP), {"after": ""})
    await schema.upgrade(database_url)
    async with engine.begin() as connection:
        await connection.execute(text(KEEP), {"after": "y"})
    await engine.dispose()
    async with Catalog.open(database_url) as catalog:
        assert len(await catalog.driver.fetch("SELECT 1 FROM pages")) == 1
        assert await catalog.pages(1, "", "", 10) == []
        (row,) = await catalog.rows_between(1, "", None)
        assert (row.key, row.listed_etag, row.seen) == ("k", None, 0)
