"""Finds out in which order a server lists, by what it does: its name may take trust away, and gives none.

A common prefix ``P/`` is enough. Keys below it come behind ``P!`` in the order of their bytes; a server that lists
directory by directory has shown them by then (docs/decisions/0026).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ingest.errors import ListingUntrusted, SourceError
from ingest.model import ListingOrder, Page, Shard
from ingest.plan.shards import is_ascending, order_of_server, order_shown, start_of_directory
from ingest.source.listing import parse_page

if TYPE_CHECKING:
    from ingest.catalog.catalog import Source
    from ingest.source.bucket import RawPage

_QUESTIONS = 4
"""For one directory: each answer may be a key between ``P!`` and ``P/``, behind which is asked next."""


class Asked(Protocol):
    """Who is asked: a `lister.Lister`."""

    @property
    def source(self) -> Source: ...

    async def ask(self, shard: Shard, *, start_after: str = "", max_keys: int = 1000) -> RawPage: ...


async def order_of(lister: Asked, top: Shard, first: RawPage, *, proof: bool = False) -> ListingOrder:
    """The order that a server's behaviour shows. `first` is its answer to the first question for the level `top`.

    A level that begins with a page of keys alone may have directories further on. It is taken for one in byte order,
    which is noticed where that is wrong; but it is no `proof`.
    """
    if order_of_server(first.server) is ListingOrder.DIRECTORY:
        return ListingOrder.DIRECTORY  # a name may take trust away, and gives none
    try:
        page, following, *_ = parse_page(first, bucket=lister.source.bucket, shard=top, start_after="")
    except ListingUntrusted:
        return ListingOrder.UNKNOWN  # whoever lists says it
    if not is_ascending(page.objects, ""):
        return ListingOrder.DIRECTORY
    if page.prefixes:
        return await order_at(lister, top.prefix, page.prefixes[0])
    if proof and following:
        return ListingOrder.UNKNOWN
    return await _order_of_flat(lister, top.prefix, page)


async def order_at(lister: Asked, prefix: str, directory: str) -> ListingOrder:
    """What the place of a directory (with its ``/``) shows, of which there are keys; UNKNOWN: nothing."""
    at = start_of_directory(directory)
    with suppress(SourceError):
        for _ in range(_QUESTIONS):
            found = await _first_behind(lister, Shard(prefix), at)
            shown = order_shown(directory, at, found)
            if shown is ListingOrder.DIRECTORY and await _first_behind(lister, Shard(directory), "") is None:
                return ListingOrder.UNKNOWN  # it is gone meanwhile
            if shown is not None:
                return shown
            at = str(found)
    return ListingOrder.UNKNOWN


async def _order_of_flat(lister: Asked, prefix: str, page: Page) -> ListingOrder:
    """Without directories both orders are one; all that counts is that the server begins where it is asked to."""
    keys = [remote.key for remote in page.objects if remote.key != prefix]
    if len(keys) >= 2:
        with suppress(SourceError):
            if await _first_behind(lister, Shard(prefix), keys[0]) == keys[1]:
                return ListingOrder.BYTES
    return ListingOrder.UNKNOWN


async def _first_behind(lister: Asked, shard: Shard, at: str) -> str | None:
    raw = await lister.ask(shard, start_after=at, max_keys=1)
    page = parse_page(raw, bucket=lister.source.bucket, shard=shard, start_after=at).page
    return page.objects[0].key if page.objects else None
