"""Lists a bucket by common prefixes, for servers that may list directory by directory: a range there would lose keys.

The first level is listed by itself; every common prefix it shows, or that the catalog remembers, is a shard. What is
gone shows only when a shard was listed completely: nothing is concluded from a listing that failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from ingest.engine.scan.lister import Lister
from ingest.engine.scan.seen_keys import SeenKeys
from ingest.errors import SourceError
from ingest.model import ListingOrder, Page, Shard
from ingest.plan.cursors import Part
from ingest.plan.shards import behind_key, behind_prefix, key_range, order_of_page, order_of_server, top_level
from ingest.plan.storable import without_unstorable
from ingest.source.bucket import RawPage
from ingest.source.listing import Listed, pages
from ingest.system.failpoints import failpoint
from ingest.tasks.groups import task_group

_ROWS_A_SWEEP = 1_000


@dataclass
class Walk:
    """One shard on its way: what is needed to know at its end whether the catalog holds more than was listed."""

    shard: Shard
    live: int
    """Rows that the catalog held as in the bucket when the walk began."""
    seen_before: int
    """How far the catalog had seen before (see `Page`)."""
    from_start: bool
    """False for a resumed shard: what lies before its cursor was listed by an earlier run."""
    met: int = 0
    keys: SeenKeys | None = None


@dataclass
class ByPrefix:
    """`resumed` shards start behind their cursor; `planned` prefixes are shards already, of this run or of the one that
    it goes on with; `answers` are first pages that were asked for when the catalog had seen as far as `seen_before`."""

    lister: Lister
    resumed: frozenset[Shard] = frozenset()
    planned: set[str] = field(default_factory=set)
    answers: dict[Shard, RawPage] = field(default_factory=dict)
    seen_before: int = 0
    _waiting: deque[Shard] = field(default_factory=deque)

    async def run(self, shards: Sequence[Shard]) -> None:
        """Lists all of `shards`, and those that they show.

        Raises:
            SourceError: the listing cannot go on. Shards that failed by themselves are in `lister.failures`.
        """
        self._waiting.extend(shards)
        await self.lister.sink.plan(shards)
        while self._waiting:
            level = [self._waiting.popleft() for _ in range(len(self._waiting))]
            found: list[Shard] = []
            limit = asyncio.Semaphore(self.lister.listers)
            async with task_group() as group:
                for shard in level:
                    await limit.acquire()
                    task = group.create_task(self._walk(shard, found))
                    task.add_done_callback(partial(_release, limit))
            self._waiting.extend(found)

    async def _walk(self, shard: Shard, found: list[Shard]) -> None:
        lister = self.lister
        try:
            seen = self.seen_before if shard in self.answers else await lister.seen()
            live = await lister.catalog.count_live(lister.source.id, shard)
            failpoint("listing.counted")
            walk = Walk(shard, live, seen, shard not in self.resumed, keys=SeenKeys() if live else None)
            try:
                await self._list(walk, found)
                if walk.from_start and walk.met < walk.live:
                    await self._sweep(walk)
            finally:
                if walk.keys is not None:
                    walk.keys.close()
        except SourceError as error:
            lister.fail(shard, error)

    async def _list(self, walk: Walk, found: list[Shard]) -> None:
        shard, lister = walk.shard, self.lister

        async def ask(*, token: str, start_after: str) -> RawPage:
            # One that was asked for before the rows were counted says nothing of what is gone.
            if not token and not start_after and shard in self.answers and not walk.live:
                return self.answers.pop(shard)
            if not token and start_after and lister.order is ListingOrder.DIRECTORY and not start_after.endswith("/"):
                start_after += "/"  # what is below a key that is a directory, too, comes behind it
            return await lister.ask(shard, token=token, start_after=start_after)

        opaque = lister.bucket.etags.opaque
        async with aclosing(pages(ask, lister.source.bucket, shard, opaque)) as answers:
            async for listed in answers:
                self._learn(listed)
                page = without_unstorable(listed.page)._replace(seen_before=walk.seen_before)
                if shard.level:
                    found.extend(await self._plan(page))
                await self._take(walk, page)

    async def _plan(self, page: Page) -> list[Shard]:
        """The shards that a page of one level shows, and with the last one those that the catalog remembers. They are
        planned before the page can be recorded: nobody who goes on from there sees them again."""
        prefixes = set(page.prefixes)
        if page.complete:
            prefixes |= await self._remembered_prefixes(page.shard.prefix)
        shards = [Shard(prefix) for prefix in sorted(prefixes - self.planned)]
        self.planned |= prefixes
        await self.lister.sink.plan(shards)
        return shards

    async def _take(self, walk: Walk, page: Page) -> None:
        lister = self.lister
        keys = [remote.key for remote in page.objects]
        failpoint("listing.shown")
        rows = await lister.catalog.rows_for(lister.source.id, keys)
        failpoint("listing.joined")
        walk.met += sum(not row.gone for row in rows.values())
        if walk.keys is not None:
            walk.keys.add(keys)
        part = Part(page.shard, page.last_key, page.complete)
        lister.sink.open(part)
        await lister.sink.take(page, rows, part, all_rows=False)
        lister.sink.seal(part)

    def _learn(self, listed: Listed) -> None:
        lister = self.lister
        if listed.weak:
            lister.bucket.pins = False
        seen = order_of_page(listed.page.objects)
        if ListingOrder.DIRECTORY in (seen, order_of_server(listed.server)):
            lister.by_directory = True
        if seen is ListingOrder.DIRECTORY or lister.order is ListingOrder.UNKNOWN:
            lister.order = seen if seen is not ListingOrder.UNKNOWN else lister.order

    async def _sweep(self, walk: Walk) -> None:
        """The shard holds more live rows than were listed: finds which."""
        lister = self.lister
        first, behind = key_range(walk.shard)
        while rows := await lister.catalog.rows_between(lister.source.id, first, behind, _ROWS_A_SWEEP):
            first = behind_key(rows[-1].key)
            candidates = [row for row in rows if not row.gone and belongs(row.key, walk.shard)]
            # What another run has seen since may have come behind the listing.
            candidates = [row for row in candidates if row.seen <= walk.seen_before]
            missing = walk.keys.missing(candidates) if walk.keys is not None else candidates
            if missing:
                lister.sink.missing(missing)

    async def _remembered_prefixes(self, prefix: str) -> set[str]:
        """The common prefixes below `prefix` that the catalog has rows of: a short query for each, and behind each."""
        prefixes: set[str] = set()
        first, behind = key_range(Shard(prefix))
        limit = 1
        while rows := await self.lister.catalog.rows_between(self.lister.source.id, first, behind, limit):
            limit = _ROWS_A_SWEEP  # more than one only where keys lie on the level itself
            for row in rows:
                first = behind_key(row.key)
                folded = top_level(row.key, prefix)
                if folded is not None:
                    prefixes.add(folded)
                    first, limit = behind_prefix(folded) or first, 1
                    break
        return prefixes


def _release(limit: asyncio.Semaphore, _task: asyncio.Task[None]) -> None:
    limit.release()


def belongs(key: str, shard: Shard) -> bool:
    """Whether a key of the shard's range lies on its level."""
    return not (shard.level and "/" in key[len(shard.prefix) :])
