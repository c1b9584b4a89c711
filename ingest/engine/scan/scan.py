"""Lists the bucket in the way its server allows, and learns which way that is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ingest.engine.scan.by_prefix import ByPrefix
from ingest.engine.scan.by_range import ByRange
from ingest.engine.scan.lister import Lister
from ingest.engine.scan.order import order_of
from ingest.errors import SourceError
from ingest.model import ListingOrder, Shard
from ingest.observe.logs import log
from ingest.plan.resuming import Cursor
from ingest.plan.shards import is_proven
from ingest.system.failpoints import failpoint

LISTERS = 32
"""Requests for pages that are under way at once, at most: a page is 0.3 MB, and waits to be taken."""


async def scan(
    lister: Lister, roots: Sequence[str], plan: Sequence[Cursor], filters: bytes, *, remembers: bool
) -> None:
    """Lists what starts with `roots`, or goes on with the `plan` of another run. The order that
    the server turns out to have is recorded.

    Raises:
        SourceError: a shard could not be listed to its end; the others were, as far as that made sense.
    """
    lister.order = lister.source.order
    seen = await lister.seen()  # before anything is asked for
    top, first = Shard(roots[0], level=True), None
    resumed = [shard for shard, _, done in plan if not done]
    try:
        if lister.order is ListingOrder.UNKNOWN:
            # Where the first answer shows nothing, pages may show the order, for the next run.
            first = await lister.ask(top)
            lister.order = await order_of(lister, top, first)
        by_range = lister.order is ListingOrder.BYTES and not any(shard.level for shard in resumed)
        if by_range:
            shards = resumed or [Shard(root) for root in roots]
            await ByRange(lister, filters, remembers).run(shards)
        else:
            shards = resumed or [Shard(root, level=True) for root in roots]
            answers = {} if first is None else {top: first}
            behind_cursors = frozenset(shard for shard in resumed if shard.start_after)
            planned = {shard.prefix for shard, _, _ in plan if not shard.level}
            await ByPrefix(lister, behind_cursors, planned, answers, seen).run(shards)
            whole = not resumed and list(roots) == [""]
            if whole and lister.source.order is ListingOrder.DIRECTORY and not lister.by_directory:
                with suppress(SourceError):  # the listing itself is done
                    await _reconsider(lister, top)
    except SourceError:
        # What failed is in the list, or is the listing's own end: the first of all is what the run ends with.
        if not lister.failures:
            raise
    finally:
        if lister.order is not lister.source.order:
            await lister.catalog.learn_order(lister.source.id, lister.order, lister.order_reason)
            failpoint("order.learnt")
    if lister.failures:
        raise lister.failures[0]


async def _reconsider(lister: Lister, top: Shard) -> None:
    """Every page of tonight was in byte order. Where the place of a directory shows it as well, the next run lists by
    ranges again, unless that was found wrong before (`is_proven`)."""
    if await order_of(lister, top, await lister.ask(top), proof=True) is not ListingOrder.BYTES:
        return
    if is_proven(*await lister.catalog.prove_order(lister.source.id)):
        lister.order, lister.order_reason = ListingOrder.BYTES, "a whole listing was in byte order"
        log().info("order_proven", message="it lists in byte order: the next run remembers pages again")
