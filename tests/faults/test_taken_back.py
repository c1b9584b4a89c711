"""An object changes between listing and download, and its new version is taken back: the next sync takes the old one.

What a listing showed of the version that was there before stands for nothing else: not in the page memory, and not beside
the row (`listed_etag`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from ingest.testing.memory_s3 import Answer, Asked, Deed, Stored, etag_of, quoted
from tests.faults.rig import MODIFIED, Rig, rigged

KEY = "a/statement.pdf"
FIRST, SECOND = b"first", b"other"
OBJECTS = {KEY: FIRST, "a/neighbour.pdf": b"n", "b.pdf": b"b"}


@pytest_asyncio.fixture
async def night(tmp_path: Path, each_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, each_url, OBJECTS) as made:
        yield made


def overwriting(rig: Rig, body: bytes, modified: datetime) -> Callable[[Asked, Answer], Deed | None]:
    """Another version is put when the object is asked for the first time: what was listed is of the one before."""
    done = False

    def spoil(asked: Asked, _: Answer) -> Deed | None:
        nonlocal done
        if done or asked.operation == "list" or asked.key != KEY:
            return None
        done = True
        rig.server.objects[KEY] = Stored(body, etag_of(body), modified)
        rig.server.versions[KEY].append(body)

        async def answer_anew(visit, _old) -> None:  # type: ignore[no-untyped-def]
            answer = rig.server.answer(asked)
            await visit.send(answer.head, answer.body)

        return answer_anew

    return spoil


def copy_of(rig: Rig) -> bytes:
    return (rig.settings.data_dir / rig.settings.bucket / KEY).read_bytes()


@pytest.mark.parametrize("memory", [True, False], ids=["with memory", "without"])
@pytest.mark.parametrize("apart", [timedelta(0), timedelta(hours=1)], ids=["the same second", "an hour later"])
@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=30)], ids=["young", "old"])
@pytest.mark.parametrize("pinned", [True, False], ids=["If-Match", "no conditions"])
async def test_the_old_version_comes_back(
    night: Rig, memory: bool, apart: timedelta, age: timedelta, pinned: bool
) -> None:
    if age and not apart:
        pytest.skip("two changes of one second are listed in that second")
    rig = night
    if not pinned:
        rig.server.own_etag = lambda stored: f'W/"{stored.etag}"'
    listed_at = datetime.now(UTC).replace(microsecond=0) - age
    rig.server.objects[KEY] = before = rig.server.objects[KEY]._replace(modified=listed_at)
    rig.server.faults.append(overwriting(rig, SECOND, listed_at + apart))
    await rig.run(0, page_memory=memory)
    assert copy_of(rig) == SECOND
    rig.server.faults.clear()
    rig.server.objects[KEY] = before
    for night_after in range(2):
        report = await rig.run(0, page_memory=memory)
        assert report.counts.changed == (1 if not night_after else 0)
        assert copy_of(rig) == FIRST


async def test_a_listing_that_shows_another_etag_of_the_same_version_is_remembered(night: Rig) -> None:
    """Of old objects at once: a change behind the listing would have another moment. Of young ones the night after."""
    rig = night
    rig.server.listed_etag = lambda stored: quoted(stored._replace(etag=etag_of(stored.etag.encode())))
    young = datetime.now(UTC).replace(microsecond=0)
    rig.server.objects[KEY] = rig.server.objects[KEY]._replace(modified=young)
    await rig.run(0)
    for key in rig.server.objects:
        rig.server.objects[key] = rig.server.objects[key]._replace(modified=MODIFIED if key != KEY else young)
    rows = await rig.rows()
    assert rows["b.pdf"]["listed_etag"]
