"""Faulty answers for a large object that comes in ranges: two versions are never mixed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Deed, Fault, etag_of
from ingest.testing.raw_server import Visit
from tests.faults.rig import OBJECTS, Rig

pytest.importorskip("ingest.engine.transfer.large", reason="large objects come whole")

LARGE = "large.bin"
OLD, NEW = (random.Random(seed).randbytes(20 << 20) for seed in (1, 2))


def ignoring_the_range(rig: Rig) -> Deed:
    """A 200 with everything, as some servers and proxies answer."""

    def change(answer: Answer) -> Answer:
        kept = {name: value for name, value in answer.headers.items() if name != "Content-Range"}
        return Answer("200 OK", kept, rig.server.objects[LARGE].body)

    return faults.answering(change)


def another_range(_: Rig) -> Deed:
    """Bytes of elsewhere, and honest about it."""
    return ranges_only(lambda answer: answer.plus(Content_Range=f"bytes 1-{len(answer.body)}/{len(OLD)}"))


def less_than_asked(_: Rig) -> Deed:
    return ranges_only(lambda answer: answer.plus(answer.body[:-1]))


def refused(_: Rig) -> Deed:
    return faults.saying("416 Range Not Satisfiable", "InvalidRange")


def damaged(_: Rig) -> Deed:
    """Under the right headers, and a lie."""
    return faults.answering(lambda answer: answer.plus(answer.body[:-1] + bytes([answer.body[-1] ^ 1])))


def mixed(_: Rig) -> Deed:
    """The bytes of another version under its own etag, by a server that does not know If-Match."""

    def change(answer: Answer) -> Answer:
        first = int(answer.headers.get("Content-Range", "bytes 0-").split()[1].split("-")[0])
        return answer.plus(NEW[first : first + len(answer.body)], ETag=f'"{etag_of(NEW)}"')

    return faults.answering(change)


def mixed_in_silence(_: Rig) -> Deed:
    """The same, under the etag that was asked for."""

    def change(answer: Answer) -> Answer:
        first = int(answer.headers.get("Content-Range", "bytes 0-").split()[1].split("-")[0])
        return answer.plus(NEW[first : first + len(answer.body)])

    return faults.answering(change)


def ranges_only(change: Callable[[Answer], Answer]) -> Deed:
    """Answers to the whole stay right."""
    return faults.answering(lambda answer: change(answer) if answer.status.startswith("206") else answer)


class Case(NamedTuple):
    """A fault of every GET from the second on; `error` is what becomes of the object, "" when it comes all the same."""

    row: str
    fault: Callable[[Rig], Deed]
    error: str = ""


CASES = [
    Case("Range ignored", ignoring_the_range),
    Case("wrong Content-Range", another_range),
    Case("a range shorter than asked", less_than_asked),
    Case("416", refused, "range_not_satisfiable"),
    Case("wrong bytes", damaged, "damaged_transfer"),
    Case("ETag changes between ranges", mixed, "object_changed"),
    Case("the version changes under the same ETag", mixed_in_silence, "damaged_transfer"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row)
async def test_a_large_object(rig: Rig, case: Case) -> None:
    rig.server.put(LARGE, OLD)
    rig.server.faults = [Fault("get", case.fault(rig), LARGE, after=1)]
    report = await rig.run(3 if case.error else 0)
    assert any("range" in asked.headers for asked in rig.server.asked)
    await rig.check_all(report)
    rows = await rig.rows()
    if case.error:
        assert not (rig.settings.data_dir / rig.settings.bucket / LARGE).exists()
        assert rows[LARGE]["last_error"].startswith(f"{case.error}: ")
        assert report.counts.downloaded == len(OBJECTS)
    else:
        assert (rig.settings.data_dir / rig.settings.bucket / LARGE).read_bytes() == OLD
    await rig.heal()


async def test_it_is_overwritten_between_two_ranges(rig_on_each: Rig) -> None:
    """412 from then on: the run looks again, and takes the new version whole."""
    rig = rig_on_each
    rig.server.put(LARGE, OLD)
    await rig.run(0)
    rig.server.put(LARGE, OLD[::-1])

    async def overwrite(visit: Visit, answer: Answer) -> None:
        rig.server.put(LARGE, NEW)
        await faults.sane(visit, answer)

    rig.server.faults = [Fault("get", overwrite, LARGE, times=1)]
    report = await rig.run(0)
    assert report.counts.changed == 1
    assert (rig.settings.data_dir / rig.settings.bucket / LARGE).read_bytes() == NEW
    await rig.check_all(report)
    await rig.heal()


@pytest.mark.parametrize(
    "fault", [faults.cut(-1), faults.reset, faults.chunked_cut], ids=["cut", "reset", "chunked cut"]
)
async def test_a_range_that_breaks_is_fetched_again(rig: Rig, fault: Deed) -> None:
    rig.server.put(LARGE, OLD)
    rig.server.faults = [Fault("get", fault, LARGE, after=1, times=2)]
    report = await rig.run(0)
    await rig.check_all(report)
    assert (rig.settings.data_dir / rig.settings.bucket / LARGE).read_bytes() == OLD
    await rig.heal()
