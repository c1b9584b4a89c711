"""One answer out of order does not decide how a source is listed for ever: it is seen again, said, and undone by evidence."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.catalog.catalog import Catalog
from ingest.jobs.show import status
from ingest.model import ListingOrder
from ingest.plan.shards import is_proven
from ingest.testing.memory_s3 import Answer, Fault
from ingest.testing.raw_server import Visit
from tests.faults.rig import Rig, rigged
from tests.fixtures.catalogs import source_of
from tests.fixtures.lines import lines_said

OBJECTS = {f"{place}/{number}": b"x" for place in ("a", "a-b", "c") for number in range(6)}
_ENTRY = re.compile(rb"<Contents>.*?</Contents>")


@pytest_asyncio.fixture
async def night(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, each_url, OBJECTS, page=1000, name="unknown") as rig:
        await rig.run(0)
        rig.server.put("a-b/new", b"so that its page is read")
        yield rig


async def backwards(visit: Visit, answer: Answer) -> None:
    entries = _ENTRY.findall(answer.body)
    start, end = answer.body.index(entries[0]), answer.body.rindex(entries[-1]) + len(entries[-1])
    spoilt = answer.plus(answer.body[:start] + b"".join(reversed(entries)) + answer.body[end:])
    await visit.send(spoilt.head, spoilt.body)


async def order(rig: Rig) -> ListingOrder:
    async with Catalog.open(rig.settings.database_url.get_secret_value()) as catalog:
        return (await source_of(catalog, rig.settings.endpoint, rig.settings.bucket)).order


async def test_one_answer_is_asked_for_again(night: Rig) -> None:
    night.server.faults.append(Fault("list", backwards, "a-b/new", times=1))
    with lines_said() as lines:
        assert (await night.run(0)).counts.downloaded == 1
    assert [line["event"] for line in lines].count("listing_slip") == 1
    assert await order(night) is ListingOrder.BYTES


async def test_what_was_seen_twice_is_said_and_undone_by_a_listing_in_order(night: Rig) -> None:
    night.server.faults.append(Fault("list", backwards, "a-b/new", times=2))
    report = await night.run(4)
    assert report.error is not None
    said = await status(night.settings)
    assert (said["listing_order"], said["listing_order_reason"]) == ("directory", report.error.message)
    assert said["listing_order_since"] is not None
    printed = await night.cli("status")
    assert printed.document["listing_order"] == "directory"
    night.server.faults.clear()
    assert (await night.run(0)).counts.downloaded == 1
    assert await order(night) is ListingOrder.BYTES
    await night.run(0)
    night.server.asked.clear()
    await night.run(0)
    assert {asked.query["max-keys"] for asked in night.server.asked} <= {str(len(OBJECTS) + 1), "1000"}


async def test_a_server_that_lists_by_directory_is_listed_so(night: Rig) -> None:
    night.server.by_directory = True
    await night.run(4)
    for _ in range(2):
        assert (await night.run(0)).counts.gone == 0
        assert await order(night) is ListingOrder.DIRECTORY


async def test_a_first_page_of_keys_alone_is_no_proof_of_a_server_that_lists_by_directory(
    tmp_path: Path, sqlite_url: str, swift: None
) -> None:
    objects = {"A": b"1", "a": b"1", "a/b": b"1", "a-b/x": b"1"}
    async with rigged(tmp_path, sqlite_url, objects, page=2, name="unknown") as rig:
        rig.server.by_directory = True
        await rig.run(4)
        for _ in range(3):
            await rig.run(0)
            assert await order(rig) is ListingOrder.DIRECTORY


@pytest.mark.parametrize(("lapses", "nights"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (7, 64), (8, 64), (1_000, 64)])
def test_each_relapse_takes_twice_the_nights(lapses: int, nights: int) -> None:
    assert [is_proven(proofs, lapses) for proofs in (nights - 1, nights, nights + 1)] == [False, True, True]
