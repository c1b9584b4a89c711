"""What a batch forgets of the page memory, and what it does not remember, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from ingest.catalog.batch import Batch, Settled
from ingest.catalog.catalog import Catalog
from ingest.model import KnownPage, RemoteObject
from tests.fixtures.catalogs import source_of, start_run
from tests.fixtures.databases import migrate

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYS = [f"{directory}/{number}" for directory in ("a", "b") for number in range(6)]
WHOLE = [KnownPage("", "a/2", 3, 3, b"1"), KnownPage("a/2", "b/0", 4, 4, b"2"), KnownPage("b/0", "b/5", 5, 5, b"3")]
BELOW_A = [KnownPage("", "a/3", 4, 4, b"4"), KnownPage("a/3", "a/5", 2, 2, b"5")]


class Memory:
    def __init__(self, catalog: Catalog, source_id: int, run_id: int) -> None:
        self.catalog, self.source_id, self.run_id = catalog, source_id, run_id

    def batch(self) -> Batch:
        return Batch(self.run_id, self.source_id, "statements", MOMENT)

    async def settle(self, prefix: str, *pages: KnownPage) -> None:
        batch = self.batch()
        batch.pages.settled = [Settled(prefix, page, 1 << 62) for page in pages]
        await self.catalog.commit(batch)

    async def gone(self, listed: str | None, *keys: str) -> None:
        batch = self.batch()
        batch.gone = dict.fromkeys(keys, 1 << 62)
        batch.pages.changed = {listed: list(keys)}
        await self.catalog.commit(batch)

    async def of(self, prefix: str) -> list[bytes]:
        return [page.fingerprint for page in await self.catalog.pages(self.source_id, prefix, "", 100)]


@pytest.fixture
async def memory(database_url: str) -> AsyncIterator[Memory]:
    """Every key recorded; its pages remembered under two prefixes."""
    await migrate(database_url)
    async with Catalog.open(database_url) as catalog:
        source = await source_of(catalog, "https://minio.example.com:9000", "statements")
        memory = Memory(catalog, source.id, await start_run(catalog, "sync", {}, source.id))
        batch = memory.batch()
        batch.known = [RemoteObject(key, 1, "e", MOMENT) for key in KEYS]
        await catalog.commit(batch)
        await memory.settle("", *WHOLE)
        await memory.settle("a/", *BELOW_A)
        assert (await memory.of(""), await memory.of("a/")) == ([b"1", b"2", b"3"], [b"4", b"5"])
        yield memory


async def test_a_key_forgets_the_page_that_holds_it_under_every_prefix(memory: Memory) -> None:
    await memory.gone(None, "a/2")
    assert (await memory.of(""), await memory.of("a/")) == ([b"2", b"3"], [b"5"])
    await memory.gone(None, "b/5", "never there", "a/4")
    assert (await memory.of(""), await memory.of("a/")) == ([], [])


async def test_of_what_a_listing_found_it_relists_its_own_pages_itself(memory: Memory) -> None:
    await memory.gone("", "a/2", "b/1")
    assert (await memory.of(""), await memory.of("a/")) == ([b"1", b"2", b"3"], [b"5"])


@pytest.mark.parametrize(
    ("after", "upto", "left"),
    [("", "a/1", [b"2", b"3"]), ("a/2", "b/0", [b"1", b"3"]), ("a/1", "a/4", [b"3"]), ("a/4", None, [b"1"])],
)
async def test_what_is_relisted_forgets_every_page_with_a_part_in_it(
    memory: Memory, after: str, upto: str | None, left: list[bytes]
) -> None:
    batch = memory.batch()
    batch.pages.relisted = [("", after, upto)]
    await memory.catalog.commit(batch)
    assert (await memory.of(""), await memory.of("a/")) == (left, [b"4", b"5"])


async def test_a_page_is_not_remembered_with_a_row_that_was_found_gone_since_it_was_listed(memory: Memory) -> None:
    await memory.gone(None, "b/3")
    await memory.settle("", *WHOLE)
    assert await memory.of("") == [b"1", b"2"]


async def test_nor_without_one_that_was_found_since(memory: Memory) -> None:
    batch = memory.batch()
    batch.known = [RemoteObject("a/11", 1, "e", MOMENT)]
    batch.pages.changed = {None: ["a/11"]}
    await memory.catalog.commit(batch)
    await memory.settle("", *WHOLE)
    await memory.settle("a/", *BELOW_A)
    assert (await memory.of(""), await memory.of("a/")) == ([b"2", b"3"], [b"5"])
