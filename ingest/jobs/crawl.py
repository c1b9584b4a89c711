"""Lists the bucket by shards, several at once, and joins each page with the catalog.

The first level is listed by itself; every common prefix it shows, or that the catalog remembers, is a shard. What is
gone shows only when a shard was listed completely: nothing is concluded from a listing that failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ingest.catalog.catalog import Catalog, Source
from ingest.crashpoints import here
from ingest.errors import IngestError, SourceError
from ingest.jobs.listed import ListedKeys
from ingest.model import CatalogRow, ListingOrder, Page, Pair, RemoteObject, Shard
from ingest.observe.logs import log
from ingest.plan.merge import join, merge
from ingest.plan.shards import is_ascending, key_range, last_of_prefix, order_of_page, order_of_server, top_level
from ingest.plan.storable import without_unstorable
from ingest.source.bucket import Bucket, RawPage
from ingest.source.listing import Listed, pages
from ingest.source.retries import retried

LISTERS = 8
_ROWS_A_SWEEP = 1_000
_PAGE_ATTEMPTS = 5

TakePairs = Callable[[Page, Sequence[Pair]], Awaitable[None]]
TakeMissing = Callable[[Sequence[CatalogRow]], Awaitable[None]]


@dataclass
class Walk:
    """One shard on its way: what is needed to know at its end whether the catalog holds more than was listed."""

    shard: Shard
    live: int
    """Rows that the catalog held as in the bucket when the walk began."""
    from_start: bool
    """False for a resumed shard: what lies before its cursor was listed by an earlier run."""
    met: int = 0
    keys: ListedKeys | None = None


@dataclass
class Crawl:
    """`take_pairs` receives every page joined, `take_missing` the rows of keys that are no longer in the bucket."""

    bucket: Bucket
    catalog: Catalog
    source: Source
    take_pairs: TakePairs
    take_missing: TakeMissing
    listers: int = LISTERS
    resumed: frozenset[Shard] = frozenset()
    order: ListingOrder = ListingOrder.UNKNOWN
    failures: list[IngestError] = field(default_factory=list)
    _waiting: deque[Shard] = field(default_factory=deque)

    async def run(self, shards: Sequence[Shard], planned: Callable[[Sequence[Shard]], Awaitable[None]]) -> None:
        """Lists all of `shards`; `planned` learns of shards before they are listed.

        Raises:
            SourceError: a shard could not be listed to its end; the others were.
        """
        self.order = self.source.order
        self._waiting.extend(shards)
        await planned(shards)
        while self._waiting:
            level = [self._waiting.popleft() for _ in range(len(self._waiting))]
            found: list[Shard] = []
            limit = asyncio.Semaphore(self.listers)
            async with asyncio.TaskGroup() as group:
                for shard in level:
                    await limit.acquire()
                    task = group.create_task(self._walk(shard, found))
                    task.add_done_callback(partial(_release, limit))
            await planned(found)
            self._waiting.extend(found)
        if self.order is not self.source.order:
            await self.catalog.learn_order(self.source.id, self.order)
            here("order.learnt")
        if self.failures:
            raise self.failures[0]

    async def _walk(self, shard: Shard, found: list[Shard]) -> None:
        try:
            live = await self.catalog.count_live(self.source.id, shard)
            walk = Walk(shard, live, shard not in self.resumed, keys=ListedKeys() if live else None)
            try:
                prefixes = await self._list(walk)
                if shard.level:
                    remembered = await self._remembered_prefixes(shard.prefix)
                    found.extend(Shard(prefix) for prefix in sorted(prefixes | remembered))
                if walk.from_start and walk.met < walk.live:
                    await self._sweep(walk)
            finally:
                if walk.keys is not None:
                    walk.keys.close()
        except SourceError as error:
            log().error("listing_failed", shard=str(shard), error=error.code, message=error.message)
            self.failures.append(error)

    async def _list(self, walk: Walk) -> set[str]:
        shard = walk.shard

        async def ask(token: str) -> RawPage:
            delimiter = "/" if shard.level else ""
            start_after = "" if token else shard.start_after

            async def request() -> RawPage:
                return await self.bucket.list_page(
                    shard.prefix, start_after=start_after, token=token, delimiter=delimiter
                )

            return await retried(request, attempts=_PAGE_ATTEMPTS)

        prefixes: set[str] = set()
        async for listed in pages(ask, self.source.bucket, shard):
            self._learn(listed)
            page = without_unstorable(listed.page)
            prefixes.update(page.prefixes)
            pairs = await self._join(walk, page)
            walk.met += sum(1 for pair in pairs if pair.row is not None and not pair.row.gone)
            if walk.keys is not None:
                walk.keys.add([remote.key for remote in page.objects])
            await self.take_pairs(page, pairs)
        return prefixes

    async def _join(self, walk: Walk, page: Page) -> list[Pair]:
        objects: Sequence[RemoteObject] = page.objects
        if self.order is ListingOrder.BYTES and objects and is_ascending(objects, page.start_after):
            rows = await self.catalog.rows_between(self.source.id, page.start_after, page.last_key)
            rows = [row for row in rows if belongs(row.key, walk.shard)]
            # Rows alone are left out: what is gone shows at the end of the shard.
            return [pair for pair in merge(objects, rows) if pair.remote is not None]
        rows_by_key = await self.catalog.rows_for(self.source.id, [remote.key for remote in objects])
        return list(join(objects, rows_by_key))

    def _learn(self, listed: Listed) -> None:
        if self.order is ListingOrder.UNKNOWN:
            self.order = order_of_server(listed.server)
        seen = order_of_page(listed.page.objects)
        if seen is ListingOrder.DIRECTORY or self.order is ListingOrder.UNKNOWN:
            self.order = seen if seen is not ListingOrder.UNKNOWN else self.order

    async def _sweep(self, walk: Walk) -> None:
        """The shard holds more live rows than were listed: finds which."""
        after, upto = key_range(walk.shard)
        while rows := await self.catalog.rows_between(self.source.id, after, upto, _ROWS_A_SWEEP):
            after = rows[-1].key
            candidates = [row for row in rows if not row.gone and belongs(row.key, walk.shard)]
            missing = walk.keys.missing(candidates) if walk.keys is not None else candidates
            if missing:
                await self.take_missing(missing)

    async def _remembered_prefixes(self, prefix: str) -> set[str]:
        """The common prefixes below `prefix` that the catalog has rows of: one short query for each."""
        prefixes: set[str] = set()
        after, upto = key_range(Shard(prefix))
        while rows := await self.catalog.rows_between(self.source.id, after, upto, 1):
            folded = top_level(rows[0].key, prefix) if rows[0].key.startswith(prefix) else None
            if folded is None:
                after = rows[0].key
                continue
            prefixes.add(folded)
            after = last_of_prefix(folded) or rows[0].key
        return prefixes


def _release(limit: asyncio.Semaphore, _task: asyncio.Task[None]) -> None:
    limit.release()


def belongs(key: str, shard: Shard) -> bool:
    """Whether a key lies in the shard's prefix (and level); its range is the query's part."""
    return key.startswith(shard.prefix) and not (shard.level and "/" in key[len(shard.prefix) :])
