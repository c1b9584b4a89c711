"""Bytes under way stay below their bound, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ingest.engine.transfer.buffers import Buffers


async def test_the_bound_holds_and_all_get_their_turn() -> None:
    room, random = Buffers(1_000), Random(7)
    taken = most = 0

    async def one(size: int) -> None:
        nonlocal taken, most
        async with room.taken(size):
            taken += size
            most = max(most, taken)
            await asyncio.sleep(0)
            taken -= size

    await asyncio.gather(*(one(random.randrange(1, 900)) for _ in range(300)))
    assert most <= 1_000
    assert room.free == 1_000


async def test_more_than_there_is_gets_everything() -> None:
    room = Buffers(10)
    async with room.taken(50):
        assert room.free == 0
    assert room.free == 10


async def test_who_gives_up_gives_back() -> None:
    room = Buffers(10)
    async with room.taken(10):
        waiting = [asyncio.ensure_future(room.taken(6).__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
    await waiting[1]
    assert room.free == 4
