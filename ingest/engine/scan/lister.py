"""What both ways of listing share: one question with its retries, and what becomes of a page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from ingest.catalog.catalog import Catalog, Source
from ingest.engine.scan.order import order_at
from ingest.errors import IngestError, ListingUntrusted, OutOfOrder, SourceError
from ingest.model import MOST_KEYS, CatalogRow, ListingOrder, Page, Shard
from ingest.observe.logs import log
from ingest.plan.cursors import Part
from ingest.plan.shards import first_directory, is_ascending, key_range
from ingest.plan.splits import Probe
from ingest.plan.storable import without_unstorable
from ingest.source.bucket import Bucket, RawPage
from ingest.source.listing import MOST_EMPTY_PAGES, Listed, cut_at_end, parse_page
from ingest.source.retries import retried
from ingest.system.failpoints import failpoint

_PAGE_ATTEMPTS = 5
_A_MOMENT = 1.0
_MOST_FAILURES = 8
"""Shards that may fail before the server is given up."""


class PageSink(Protocol):
    """What is done with the pages: the sync's side of a listing. All may raise what ended the recording."""

    async def plan(self, shards: Sequence[Shard]) -> None:
        """Learns of shards before they are listed, and of the new end of one that was split."""

    def open(self, part: Part) -> None:
        """Announces a part of a shard, in the shard's order."""

    async def take(self, page: Page, rows: dict[str, CatalogRow], part: Part, *, all_rows: bool) -> Sequence[str]:
        """Decides a page joined with its rows (all of its range, with `all_rows`). Returns the keys that have no copy,
        and will have none."""

    async def count(self, unchanged: int, skipped: int, part: Part) -> None:
        """So many objects, of which nothing else has to be known."""

    def missing(self, rows: Sequence[CatalogRow]) -> None:
        """Live rows that no page was joined with, and whose keys are not listed."""

    def seal(self, part: Part) -> None:
        """Nothing more comes for this part."""


class Answer(NamedTuple):
    """One page of a range, in byte order, and where it came from."""

    page: Page
    token: str
    body: bytes

    @property
    def is_last(self) -> bool:
        return not self.token

    @property
    def token_needed(self) -> str:
        """What to go on with: empty when the last key tells it, as a rule."""
        return self.token if self.page.undecodable else ""

    def cut_at(self, shard: Shard) -> Answer:
        """Without what lies behind the end of `shard`, which is the last answer's then."""
        listed = cut_at_end(Listed(self.page._replace(shard=shard), self.token, ""))
        page, end = listed.page, shard.end
        if page.undecodable and end is not None:  # whoever lists behind the end meets those again
            inside = [raw for raw in page.undecodable if unquote_to_bytes(raw) <= end.encode()]
            page = page._replace(undecodable=inside)
        return self._replace(page=page, token=listed.token)


@dataclass
class Lister:
    """The bucket and the catalog of one scan, and what went wrong with either."""

    bucket: Bucket
    catalog: Catalog
    source: Source
    sink: PageSink
    listers: int
    order: ListingOrder = ListingOrder.UNKNOWN
    failures: list[IngestError] = field(default_factory=list)
    order_reason: str = ""
    """What has shown that the order is another than it was taken for."""
    by_directory: bool = False
    """Tonight, a page has shown that the server lists directory by directory, or its name has."""
    _order_checked: bool = False
    """Tonight, the place of a directory has shown the order, or could show nothing."""
    _proving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _seen: int = 0
    _seen_until: float = float("-inf")

    async def ask(self, shard: Shard, *, start_after: str = "", token: str = "", max_keys: int = MOST_KEYS) -> RawPage:
        """One answer. Raises `SourceError` after the retries that can help."""

        async def request() -> RawPage:
            return await self.bucket.list_page(
                shard.prefix,
                start_after=start_after,
                token=token,
                delimiter="/" if shard.level else "",
                max_keys=max_keys,
            )

        return await retried(request, attempts=_PAGE_ATTEMPTS)

    async def page(self, shard: Shard, start_after: str, token: str = "", max_keys: int = MOST_KEYS) -> Answer:
        """The next answer of a range that holds a key, or is the last one.

        Raises:
            ListingUntrusted: it does not prove itself, or is not in byte order.
        """
        undecodable: list[bytes] = []
        seen = await self.seen()
        for _ in range(MOST_EMPTY_PAGES):
            raw = await self.ask(shard, start_after=start_after, token=token, max_keys=max_keys)
            answer = await self.read(raw, shard, start_after, max_keys, seen)
            undecodable.extend(answer.page.undecodable)
            if answer.is_last or answer.page.objects:
                return answer._replace(page=answer.page._replace(undecodable=undecodable))
            if answer.token == token:
                raise ListingUntrusted(f"listing {shard}: the server repeats a continuation token")
            token = answer.token
        raise ListingUntrusted(f"listing {shard}: {MOST_EMPTY_PAGES} pages without a key, and no end")

    async def seen(self) -> int:
        """How far the catalog has seen (`Page.seen_before`), for what is asked for next: as it was a moment ago at
        most, so that an answer costs no query."""
        now = monotonic()
        if now >= self._seen_until:
            self._seen_until = now + _A_MOMENT
            self._seen = await self.catalog.seen(self.source.id)
        return self._seen

    async def read(
        self, raw: RawPage, shard: Shard, start_after: str, max_keys: int = MOST_KEYS, seen: int = 0
    ) -> Answer:
        """Parses an answer to a question for so many keys, before which the catalog had `seen` so far. Raises
        `ListingUntrusted`."""
        listed = self._parsed(raw, shard, start_after)
        if not is_ascending(listed.page.objects, start_after):
            # One answer may be a slip, of a proxy say: what changes how every run lists from now on is seen twice.
            raw = await self.ask(shard, start_after=raw.start_after, token=raw.token, max_keys=max_keys)
            listed = self._parsed(raw, shard, start_after)
            if not is_ascending(listed.page.objects, start_after):
                raise self._demoted(shard)
            log().warning(
                "listing_slip", shard=str(shard), message="a page came out of order, and in order when asked again"
            )
        if not self._order_checked and (directory := first_directory(listed.page.objects, shard.prefix)) is not None:
            await self._check_order(shard, directory)
        if not self._order_checked and not listed.token and len(listed.page.objects) >= max_keys:
            await self._require_end(shard, listed.page.last_key)
        page = without_unstorable(listed.page)._replace(seen_before=seen)
        return Answer(page, listed.token, raw.body).cut_at(shard)

    def _parsed(self, raw: RawPage, shard: Shard, start_after: str) -> Listed:
        opaque = self.bucket.etags.opaque
        listed = parse_page(raw, bucket=self.source.bucket, shard=shard, start_after=start_after, opaque=opaque)
        if listed.weak:
            self.bucket.pins = False
        return listed

    async def _check_order(self, shard: Shard, directory: str) -> None:
        """Once a run, when a directory shows: until then there was no difference. Raises `OutOfOrder`."""
        async with self._proving:
            if not self._order_checked:
                shown = await order_at(self, shard.prefix, directory)
                if shown is ListingOrder.DIRECTORY:
                    shown = await order_at(self, shard.prefix, directory)
                self._order_checked = True
                if shown is ListingOrder.DIRECTORY:
                    raise self._demoted(shard)

    async def _require_end(self, shard: Shard, last_key: str) -> None:
        """A full page that is said to be the last: SeaweedFS ends early where its last key is a directory as well."""
        raw = await self.ask(shard, start_after=f"{last_key}/", max_keys=1)
        found = parse_page(raw, bucket=self.source.bucket, shard=shard, start_after=last_key).page.objects
        if found and found[0].key.startswith(f"{last_key}/"):
            raise self._demoted(shard)

    def _demoted(self, shard: Shard) -> OutOfOrder:
        error = OutOfOrder(f"listing {shard}: the server does not list in the order of the keys' bytes")
        self.order, self.order_reason = ListingOrder.DIRECTORY, error.message
        return error

    async def first_key(self, shard: Shard, above: str) -> Probe:
        """The first key of the range above `above`."""
        raw = await self.ask(shard, start_after=above, max_keys=1)
        answer = await self.read(raw, shard, above)
        return Probe(above, answer.page.objects[0].key if answer.page.objects else None)

    async def rows_of(self, answer: Answer) -> dict[str, CatalogRow]:
        """The catalog's rows of the range that an answer covers, by key."""
        failpoint("listing.shown")
        shard, page = answer.page.shard, answer.page
        upto = shard.end if answer.is_last else page.last_key
        rows = await self.catalog.rows_between(self.source.id, *key_range(Shard(shard.prefix, page.start_after, upto)))
        failpoint("listing.joined")
        return {row[0]: row for row in rows}

    def fail(self, shard: Shard, error: IngestError) -> None:
        """Notes that a shard could not be listed; the others go on, unless it is clear that they would fare no better.

        Raises:
            SourceError: `error`, when it would only come again. That the source stays away is said by the run, once.
        """
        if isinstance(error, SourceError) and error.away:
            raise error
        log().error("listing_failed", shard=str(shard), error=error.code, message=error.message)
        self.failures.append(error)
        hopeless = isinstance(error, OutOfOrder) or not (error.retryable or isinstance(error, ListingUntrusted))
        if hopeless or len(self.failures) >= _MOST_FAILURES:
            raise self.failures[0]
