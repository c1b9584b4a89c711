"""ListObjectsV2 answers, page after page: believed only when they prove themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ingest.errors import KeysAstray, ListingUntrusted
from ingest.http.dates import parse_http_date
from ingest.http.exchange import Headers
from ingest.model import MOST_KEYS, ListingOrder, Page, Shard
from ingest.plan.etags import Shape
from ingest.plan.shards import is_ascending, order_of_server
from ingest.source.entries import Entries, decode_key, quoted, read_entries, whole_number
from ingest.source.errors import parse_error

MOST_EMPTY_PAGES = 1_000
"""Truncated pages without an entry, one after the other: a server that filters may send some, but not for ever."""


class RawPage(Protocol):
    """What `parse_page` needs of an answer: its bytes, its headers, and the server's name."""

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> Headers: ...

    @property
    def server(self) -> str: ...


class Listed(NamedTuple):
    """One answer: its page, the token of the next one (empty at the end), and the server's name.

    `weak` says that some of its etags are weak ones.
    """

    page: Page
    token: str
    server: str
    weak: bool = False


class Ask(Protocol):
    """Sends one request: for what follows a continuation token or, without one, for what follows a key."""

    def __call__(self, *, token: str, start_after: str) -> Awaitable[RawPage]: ...


async def pages(ask: Ask, bucket: str, shard: Shard, opaque: Collection[Shape] = ()) -> AsyncGenerator[Listed, None]:
    """Every page of a shard, from its `start_after`. `opaque` as in `read_entries`.

    While a page is worked on, the next one is on its way, and never more than that one. Close the iterator (`aclosing`)
    when leaving it early, so that the request under way ends at once.

    Raises:
        ListingUntrusted: an answer does not prove itself; nothing may be concluded from its absence of keys.
        SourceError: the request failed.
    """
    progress = _Progress(shard)
    token, start_after = "", shard.start_after
    raw = await ask(token=token, start_after=start_after)
    while True:
        listed = cut_at_end(parse_page(raw, bucket=bucket, shard=shard, start_after=start_after, opaque=opaque))
        progress.check(listed)
        token, start_after = listed.token, listed.page.last_key
        if not token:
            if not _may_end_early(listed):
                yield listed
                return
            start_after = _behind(listed.page)
            listed = listed._replace(page=listed.page._replace(complete=False))
        upcoming = asyncio.ensure_future(ask(token=token, start_after=start_after))
        try:
            yield listed
            raw = await upcoming
        finally:
            if not upcoming.done():
                upcoming.cancel()
            # Left early, its end must still be awaited and its error, whatever it is, taken note of: whoever left may
            # have closed the client already. Otherwise both have been.
            with suppress(asyncio.CancelledError, Exception):
                await upcoming


def _may_end_early(listed: Listed) -> bool:
    """SeaweedFS ends a full page early when its last key is a directory as well (docs/decisions/0005)."""
    held = len(listed.page.objects) + len(listed.page.prefixes)
    return held >= MOST_KEYS and order_of_server(listed.server) is not ListingOrder.BYTES


def _behind(page: Page) -> str:
    """What to go on from where a key may be a directory as well: below it."""
    last = max([*(remote.key for remote in page.objects[-1:]), *page.prefixes[-1:]], key=lambda key: key.split("/"))
    return last if last.endswith("/") else f"{last}/"


def parse_page(raw: RawPage, *, bucket: str, shard: Shard, start_after: str, opaque: Collection[Shape] = ()) -> Listed:
    """Parses one answer. `opaque` as in `read_entries`.

    Raises:
        ListingUntrusted: it is not a complete, well-formed listing of this bucket and prefix.
        KeysAstray: it holds keys of another prefix.
    """
    try:
        entries = read_entries(raw.body, opaque)
        token = _proven_token(entries, bucket)
        _prove_scope(entries, shard)
    except ValueError as error:
        kind = KeysAstray if isinstance(error, _AstrayError) else ListingUntrusted
        raise kind(f"listing {shard}: {_reason(raw.body, error)}") from error
    at = parse_http_date(raw.headers.get(b"date", b""))
    page = Page(shard, start_after, entries.objects, not token, entries.prefixes, entries.undecodable, at)
    return Listed(page, token, raw.server, entries.weak)


def _proven_token(entries: Entries, bucket: str) -> str:
    """The token of the next page, empty at the end. Raises `ValueError` when the answer does not prove itself."""
    fields = entries.fields
    if fields.get("Name") != bucket:
        raise ValueError(f"the answer is for bucket {fields.get('Name')!a}")
    if fields.get("EncodingType", "url") != "url":
        raise ValueError(f"the keys are encoded by {fields['EncodingType']!a}, which nobody asked for")
    truncated, token = fields.get("IsTruncated", "").strip().lower(), fields.get("NextContinuationToken", "")
    if truncated not in ("true", "false"):
        raise ValueError("the answer does not say whether it is complete")
    if truncated == "true" and not token:
        raise ValueError("the answer is cut short without a token to go on")
    held = len(entries.objects) + len(entries.prefixes) + len(entries.undecodable)
    stated = fields.get("KeyCount", "")
    counted = whole_number(stated or "0")
    if counted is None:
        raise ValueError(f"the answer counts {quoted(stated)} keys")
    # One-sided: fewer entries than counted are lost ones; some servers do not count the common prefixes.
    if counted > held:
        raise ValueError(f"the answer counts {counted} keys and holds {held}")
    return token if truncated == "true" else ""


class _AstrayError(ValueError):
    """A key that does not begin with the prefix."""


def _prove_scope(entries: Entries, shard: Shard) -> None:
    """Raises `ValueError` when the answer is to another question than the shard's."""
    prefix, echoed = shard.prefix, entries.fields.get("Prefix")
    if echoed is not None and echoed != prefix and _decoded_or_none(echoed) != prefix:
        raise ValueError(f"the answer is for prefix {echoed!a}")
    if entries.prefixes and not shard.level:
        raise ValueError("the answer folds keys into common prefixes, which nobody asked for")
    if prefix or shard.level:
        for key in (*(remote.key for remote in entries.objects), *entries.prefixes):
            if not key.startswith(prefix):
                raise _AstrayError(f"the answer holds {key!a}, which was not asked for")
    if shard.level and any("/" in remote.key[len(prefix) :] for remote in entries.objects if remote.key != prefix):
        raise ValueError("the answer goes below the one level that was asked for")


def _decoded_or_none(written: str) -> str | None:
    try:
        return decode_key(written)
    except ValueError:
        return None


def _reason(body: bytes, error: ValueError) -> str:
    document = parse_error(body)
    if document.code:
        return f"the answer is an error: {document.code} {document.message}".rstrip()
    start = body[:512].lstrip().lower()
    if not start:
        return "the answer is empty"
    return "the answer is HTML" if start.startswith((b"<!doctype html", b"<html")) else str(error)[:300]


def cut_at_end(listed: Listed) -> Listed:
    """Drops what lies behind the shard's end, and ends there.

    A page out of order stays whole: it shows that the server may not be split by range, and where it ends is open.
    """
    page, end = listed.page, listed.page.shard.end
    if end is None or page.last_key < end or not is_ascending(page.objects, page.start_after):
        return listed
    inside = [remote for remote in page.objects if remote.key <= end]
    return listed._replace(page=page._replace(objects=inside, complete=True), token="")


@dataclass(slots=True)
class _Progress:
    """Sees that a listing goes on: neither a token nor a page comes again.

    Remembers one page and replaces it after 1, 2, 4, 8 … pages (Brent), so that a cycle of any length is found without
    keeping every token of a listing of millions.
    """

    shard: Shard
    _token: str = ""
    _first: str = ""
    _since: int = 0
    _limit: int = 1
    _empty: int = 0

    def check(self, listed: Listed) -> None:
        """Raises `ListingUntrusted` when the page shows that the listing goes in circles."""
        page, token = listed.page, listed.token
        empty = not (page.objects or page.prefixes or page.undecodable)
        self._empty = self._empty + 1 if empty else 0
        if self._empty > MOST_EMPTY_PAGES:
            raise ListingUntrusted(f"listing {self.shard}: {self._empty} pages without a key, and no end")
        if token and token == self._token:
            raise ListingUntrusted(f"listing {self.shard}: the server repeats a continuation token")
        if page.objects and page.objects[0].key == self._first:
            raise ListingUntrusted(f"listing {self.shard}: the server repeats a page")
        self._since += 1
        if self._since == self._limit:
            self._token, self._first = token, page.objects[0].key if page.objects else ""
            self._since, self._limit = 0, self._limit * 2
