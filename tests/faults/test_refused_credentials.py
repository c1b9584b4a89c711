"""Credentials refused in mid-run. One further try for each object, and a cap on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.plan.concurrency import Concurrency, RetryBudget
from ingest.testing import faults
from ingest.testing.memory_s3 import Fault
from tests.faults.rig import Rig, rigged

OBJECTS = {f"k{number:04}": b"%d" % number for number in range(400)}
MOST_RETRIES = int(RetryBudget().allowance)
REFUSED = faults.saying("400 Bad Request", "ExpiredToken")


@pytest.mark.parametrize("works", [0, 100])
async def test_the_retries_of_a_run_are_bounded_however_many_are_refused(
    tmp_path: Path, sqlite_url: str, swift: None, works: int
) -> None:
    """Not only those of each object: a server that refuses everything gets no second request for everything."""
    async with rigged(tmp_path, sqlite_url, OBJECTS, page=200) as rig:
        rig.server.faults.append(Fault("get", REFUSED, after=works))
        report = await rig.run(3 if works else 4)
        assert report.counts.failed == len(OBJECTS) - works
        retried = rig.server.count("get") - len(OBJECTS)
        assert 0 < retried <= MOST_RETRIES + works // 10
        await rig.heal()


async def test_what_was_under_way_when_the_credentials_were_renewed_is_tried_again(rig: Rig) -> None:
    """A whole flight is refused at once, and the budget has room for it."""
    rig.server.fill(OBJECTS)
    rig.server.page = 200
    rig.server.faults.append(Fault("get", REFUSED, times=Concurrency().floor))
    report = await rig.run(0)
    assert (report.counts.downloaded, report.counts.failed) == (len(rig.server.objects), 0)
