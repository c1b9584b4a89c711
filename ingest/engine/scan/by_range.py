"""Lists a byte-ordered bucket by key ranges: remembered pages are asked for by themselves, unknown ranges are split.

Every range is its own proof: the keys between its bounds that the catalog has and the listing does not are gone.

One task (`_feed`) cuts the shards into work of two kinds: `Remembered` pages, one question each, and `Stretch`es,
walked page by page. Some listers (`_list`) take it piece by piece. Who finds nothing to take splits the stretch with
most ahead of it (`_split`): its walker keeps the first piece, whose end has come nearer, and the others become work.
Parts are opened in the order of their keys, as the cursors move in that order, and may end in any.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.engine.scan.lister import Answer, Lister
from ingest.errors import SourceError
from ingest.model import KnownPage, Shard
from ingest.plan.cursors import Part
from ingest.plan.page_memory import Gap, Region, is_unchanged, tile
from ingest.plan.splits import Probe, branch_points, finer_points, pages_ahead, pieces
from ingest.tasks.groups import task_group

_PAGES_AT_ONCE = 5_000
"""Remembered pages that are read from the catalog at a time."""
_WORTH_SPLITTING = 6.0
"""Pages that must lie ahead of a lister."""
_REMAINDER = 100
"""Keys to ask for behind a page that changed: what was added to it, as a rule few."""


@dataclass(eq=False)
class Stretch:
    """A range that one lister walks through. `shard` is replaced when it is split: its end comes nearer."""

    shard: Shard
    remembered: bool
    """Pages of it are in the memory, and have crumbled to few keys each: listed together, and remembered as one."""
    cursor: str = ""
    page_start: str = ""
    """The first key of the last page."""
    pages: int = 0
    split_again: int = 1
    """Pages after which a split may be tried."""
    splitting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def pages_ahead(self) -> float:
        """How much another lister could take over; 0 when nobody should try now."""
        if self.pages < self.split_again or self.splitting.locked():
            return 0.0
        return pages_ahead(self.shard.start_after, self.cursor, self.shard.end, self.pages)


@dataclass(eq=False)
class Remembered:
    """One page of a run of remembered ones; its part of the shard is announced already."""

    page: KnownPage
    part: Part

    @property
    def shard(self) -> Shard:
        return self.part.shard


@dataclass
class ByRange:
    """`run` lists ranges of a byte-ordered bucket; `filters` are tonight's (see `plan.page_memory`)."""

    lister: Lister
    filters: bytes
    remembers: bool = True
    _work: deque[Stretch | Remembered] = field(default_factory=deque)
    _walking: set[Stretch] = field(default_factory=set)
    _busy: int = 0
    _fed: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, shards: Sequence[Shard]) -> None:
        """Lists all of `shards`.

        Raises:
            SourceError: the listing cannot go on. Ranges that failed by themselves are in `lister.failures`.
        """
        await self.lister.sink.plan(shards)
        async with task_group() as group:
            group.create_task(self._feed(shards))
            for _ in range(self.lister.listers):
                group.create_task(self._list())

    async def _feed(self, shards: Sequence[Shard]) -> None:
        """Cuts the shards into work, no more at a time than the memory is read."""
        for shard in shards:
            reached: str | None = shard.start_after
            while reached is not None:
                pages = await self._memory(shard, reached)
                last = len(pages) < _PAGES_AT_ONCE
                await self._plan(shard, pages, reached, shard.end if last else pages[-1].last_key)
                reached = None if last else pages[-1].last_key
                while len(self._work) > self.lister.listers:
                    await self._changed.wait()
        self._fed = True
        self._tell()

    async def _memory(self, shard: Shard, start: str) -> list[KnownPage]:
        if not self.remembers:
            return []
        return await self.lister.catalog.pages(self.lister.source.id, shard.prefix, start, _PAGES_AT_ONCE)

    async def _plan(self, shard: Shard, pages: Sequence[KnownPage], start_after: str, end: str | None) -> None:
        """Pages one behind the other become one shard, whose parts are announced in order and listed in any."""
        work: list[Stretch | Remembered] = []
        run: list[KnownPage] = []
        parts: list[Shard] = []

        def end_run() -> None:
            if run:
                parts.append(shard._replace(start_after=run[0].start_after, end=run[-1].last_key))
                work.extend(Remembered(page, Part(parts[-1], page.last_key, page is run[-1])) for page in run)
                run.clear()

        for segment in tile(pages, start_after, end, self.filters):
            if isinstance(segment, Gap):
                end_run()
                parts.append(shard._replace(start_after=segment.start_after, end=segment.end))
                work.append(Stretch(parts[-1], segment.remembered, segment.start_after))
            else:
                run.append(segment)
        end_run()
        rest = [] if end == shard.end else [shard._replace(start_after=end or "")]
        await self.lister.sink.plan([*parts, *rest])
        for each in work:
            if isinstance(each, Remembered):
                self.lister.sink.open(each.part)
        self._work.extend(work)
        self._tell()

    async def _list(self) -> None:
        while (work := await self._next()) is not None:
            self._busy += 1
            try:
                if isinstance(work, Remembered):
                    await self._ask_again(work)
                elif work.remembered:
                    await self._gather(work)
                else:
                    await self._walk(work)
            except SourceError as error:
                self.lister.fail(work.shard, error)
            finally:
                self._busy -= 1
                self._tell()

    async def _next(self) -> Stretch | Remembered | None:
        """The next piece of work; while there is none, splits what others are at. None when all is done."""
        while not self._work:
            if self._fed and not self._busy:
                return None
            longest = max(self._walking, key=lambda stretch: stretch.pages_ahead, default=None)
            if longest is not None and longest.pages_ahead >= _WORTH_SPLITTING:
                await self._split(longest)
            else:
                await self._changed.wait()
        return self._work.popleft()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask_again(self, work: Remembered) -> None:
        page, part, sink = work.page, work.part, self.lister.sink
        seen = await self.lister.seen()
        raw = await self.lister.ask(part.shard, start_after=page.start_after, max_keys=page.listed)
        if is_unchanged(raw.body, page):
            await sink.count(page.listed - page.skipped, page.skipped, part)
            sink.seal(part)
            return
        shard = part.shard._replace(start_after=page.start_after, end=page.last_key)
        await self._relist(shard, part, await self.lister.read(raw, shard, page.start_after, seen=seen))

    async def _gather(self, stretch: Stretch) -> None:
        shard = stretch.shard
        part = Part(shard, shard.end or "", complete=True)
        self.lister.sink.open(part)
        await self._relist(shard, part, await self.lister.page(shard, shard.start_after))

    async def _relist(self, shard: Shard, part: Part, answer: Answer) -> None:
        """Decides a range of a few pages, whose first answer is here, and remembers it as one."""
        part.relists = (shard.prefix, shard.start_after, shard.end)
        region = Region(shard.start_after, self.filters)
        while True:
            await self._take(answer, part, region)
            if answer.is_last:
                break
            answer = await self.lister.page(shard, answer.page.last_key, answer.token_needed, _REMAINDER)
        part.pages = region.pages()
        self.lister.sink.seal(part)

    async def _walk(self, stretch: Stretch) -> None:
        """Lists an unknown range page by page, the next one on its way meanwhile; each is a part of its own."""
        sink = self.lister.sink
        self._walking.add(stretch)
        upcoming: asyncio.Future[Answer] | None = asyncio.ensure_future(self.lister.page(stretch.shard, stretch.cursor))
        try:
            while upcoming is not None:
                answer = (await upcoming).cut_at(stretch.shard)
                upcoming = None
                stretch.cursor, stretch.pages = answer.page.last_key, stretch.pages + 1
                stretch.page_start = answer.page.objects[0].key if answer.page.objects else stretch.cursor
                if answer.is_last:
                    self._walking.discard(stretch)
                    async with stretch.splitting:
                        pass  # a split under way plans the other pieces first: then this one's end may be recorded
                else:
                    upcoming = asyncio.ensure_future(
                        self.lister.page(stretch.shard, stretch.cursor, answer.token_needed)
                    )
                    self._tell()
                part = Part(stretch.shard, stretch.cursor, answer.is_last)
                upto = stretch.shard.end if answer.is_last else stretch.cursor
                part.relists = (stretch.shard.prefix, answer.page.start_after, upto)
                sink.open(part)
                region = Region(answer.page.start_after, self.filters)
                await self._take(answer, part, region)
                part.pages = region.pages()
                sink.seal(part)
        finally:
            self._walking.discard(stretch)
            if upcoming is not None:
                upcoming.cancel()
                await asyncio.wait({upcoming})

    async def _take(self, answer: Answer, part: Part, region: Region) -> None:
        rows = await self.lister.rows_of(answer)
        without_copy = await self.lister.sink.take(answer.page, rows, part, all_rows=True)
        region.add(answer.page, answer.body, without_copy)

    async def _split(self, stretch: Stretch) -> None:
        """Looks for where keys begin ahead of a lister, and leaves it the first piece."""
        async with stretch.splitting:
            prefix, end = stretch.shard.prefix, stretch.shard.end
            cursor = stretch.cursor
            try:
                first = await self._probe(stretch.shard, branch_points(cursor, prefix, end, stretch.page_start))
                second = await self._probe(stretch.shard, finer_points(cursor, first, end))
            except SourceError:  # the lister that walks here meets the same fault, and says so
                first = second = []
            # The lister went on meanwhile: what it has passed is no longer a place to cut.
            ahead = [probe for probe in (*first, *second) if probe.at > stretch.cursor]
            (_, upto), *others = pieces(stretch.cursor, ahead, end)
            if stretch not in self._walking or not others:
                stretch.split_again = 2 * stretch.pages + 2
                return
            stretch.shard = stretch.shard._replace(end=upto)
            parts = [stretch.shard._replace(start_after=after, end=until) for after, until in others]
            await self.lister.sink.plan([stretch.shard, *parts])
        self._work.extend(Stretch(part, remembered=False, cursor=part.start_after) for part in parts)
        self._tell()

    async def _probe(self, shard: Shard, points: Sequence[str]) -> list[Probe]:
        """All of the answers, or the first fault: nobody wants the others then."""
        async with task_group() as group:
            asked = [group.create_task(self.lister.first_key(shard, point)) for point in points]
        return [each.result() for each in asked]
