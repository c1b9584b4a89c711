"""The questions by which a range is split: many at once, and none that goes on when nobody wants its answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingest.engine.scan.by_range import ByRange
from ingest.errors import ServerFault
from ingest.model import Shard
from ingest.plan.splits import MOST_PROBES, Probe

POINTS = [f"{number:02}" for number in range(MOST_PROBES)]


class Asked:
    """A listing whose questions wait until all have been asked."""

    def __init__(self, refused: str | None = None) -> None:
        self.under_way, self.all_asked, self.refused = 0, asyncio.Event(), refused

    async def first_key(self, _: Shard, above: str) -> Probe:
        self.under_way += 1
        try:
            if self.under_way == len(POINTS):
                self.all_asked.set()
            await self.all_asked.wait()
            if above == self.refused:
                raise ServerFault("by order")
            if self.refused is not None:
                await asyncio.Event().wait()
            return Probe(above, f"{above}/key")
        finally:
            self.under_way -= 1


def prober(listing: Asked) -> ByRange:
    return ByRange(cast("Any", SimpleNamespace(first_key=listing.first_key)), b"")


async def test_answers_come_in_the_order_of_the_questions() -> None:
    found = await prober(Asked())._probe(Shard(), POINTS)
    assert [probe.at for probe in found] == POINTS


async def test_one_that_fails_ends_the_others() -> None:
    listing = Asked(refused=POINTS[7])
    with pytest.raises(ServerFault, match="by order"):
        await prober(listing)._probe(Shard(), POINTS)
    assert listing.under_way == 0
