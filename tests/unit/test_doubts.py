"""Bytes that do not match their etag: damaged, or is the etag no MD5? One match among others that are under way tells."""

from __future__ import annotations

import asyncio

import pytest

from ingest.engine.transfer.doubts import Doubts
from ingest.errors import DamagedTransfer
from ingest.model import Verified
from ingest.plan.checks import Algorithm, Check, Hashed
from ingest.plan.etags import Etags, Shape

MD5 = "5d41402abc4b2a76b9719d911017c592"
BY_ETAG, BY_STORED = Check(Algorithm.MD5, MD5), Check(Algorithm.CRC32, "3610a686")
FOUND = Hashed("md5:0", None)
UNVERIFIABLE = Hashed("md5:0", Verified.UNVERIFIABLE)


async def verdict(doubts: Doubts, *earlier: str, check: Check = BY_ETAG) -> Hashed:
    with doubts:
        return await doubts.verdict(FOUND, check, earlier, "key")


async def test_the_first_download_proves_nothing() -> None:
    doubts = Doubts(Etags())
    with pytest.raises(DamagedTransfer) as raised:
        await verdict(doubts, "md5:1")
    assert raised.value.digest == FOUND.digest
    assert doubts.etags == Etags()


async def test_two_that_agree_show_that_etags_are_no_md5s_here() -> None:
    doubts = Doubts(Etags())
    assert await verdict(doubts, "md5:1", FOUND.digest) == UNVERIFIABLE
    assert doubts.etags.opaque == {Shape.WHOLE}
    assert await verdict(doubts) == UNVERIFIABLE, "what is known is not asked again"


async def test_not_where_they_are_md5s() -> None:
    doubts = Doubts(Etags({Shape.WHOLE}))
    with pytest.raises(DamagedTransfer):
        await verdict(doubts, FOUND.digest)
    made_up = Check(Algorithm.MD5, "0188a7c2f1b34c5d8e9f0a1b2c3d4e5f")
    assert await verdict(doubts, FOUND.digest, check=made_up) == UNVERIFIABLE
    assert doubts.etags.opaque == set()


async def test_another_shape_proves_nothing_of_this_one() -> None:
    doubts = Doubts(Etags({Shape.PARTS}))
    assert await verdict(doubts, FOUND.digest) == UNVERIFIABLE


async def test_one_that_is_under_way_may_still_match() -> None:
    doubts = Doubts(Etags())
    with doubts:
        doubtful = asyncio.create_task(verdict(doubts, FOUND.digest))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not doubtful.done()
        doubts.matched(BY_ETAG, 5)
        with pytest.raises(DamagedTransfer):
            await doubtful


@pytest.mark.parametrize("is_large", [True, False])
async def test_all_that_are_under_way_may_be_in_doubt(is_large: bool) -> None:
    doubts = Doubts(Etags())
    large = doubts.verdict(FOUND, BY_ETAG, [FOUND.digest], "large", is_large=True)
    small = [verdict(doubts, FOUND.digest) for _ in range(3)]
    assert await asyncio.gather(*small, *([large] if is_large else [])) == [UNVERIFIABLE] * (4 if is_large else 3)
    large.close()


async def test_no_bytes_prove_nothing() -> None:
    """Their MD5 is what some servers write for everything."""
    doubts = Doubts(Etags())
    doubts.matched(BY_ETAG, 0)
    doubts.matched(BY_STORED, 5)
    assert doubts.etags == Etags()


def test_a_stored_checksum_decides() -> None:
    doubts = Doubts(Etags())
    right = Hashed("sha256:0", Verified.VERIFIED)
    assert doubts.by_stored(right, BY_ETAG, "key") == right
    assert doubts.etags.opaque == {Shape.WHOLE}
    with pytest.raises(DamagedTransfer, match="checksum"):
        doubts.by_stored(Hashed("sha256:0", None), BY_ETAG, "key")


async def test_what_a_stored_checksum_alone_contradicts_is_damaged_however_often_it_comes() -> None:
    with pytest.raises(DamagedTransfer):
        await verdict(Doubts(Etags()), FOUND.digest, check=BY_STORED)
