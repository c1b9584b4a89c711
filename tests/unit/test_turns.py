"""Turns go round in the order of asking, and none is lost or given twice, whoever is cancelled and when."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ingest.tasks.turns import Turns


async def asked(turns: Turns, *sizes: int) -> list[asyncio.Task[None]]:
    """Waits for so much each, in this order."""
    waiting = [asyncio.create_task(turns.wait(size)) for size in sizes]
    await asyncio.sleep(0)
    return waiting


def given(waiting: list[asyncio.Task[None]]) -> list[bool]:
    return [one.done() and not one.cancelled() for one in waiting]


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_nobody_overtakes_who_waits() -> None:
    """Also not with less, where there would be enough for it."""
    turns = Turns(lambda: 3)
    assert turns.take(2)
    waiting = await asked(turns, 2, 1)
    assert not turns.take(1)
    turns.leave(2)
    await settled()
    assert given(waiting) == [True, True]
    assert turns.taken == 3


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_who_gives_up_waiting_lets_the_others_go_on(cancelled: int) -> None:
    turns = Turns(lambda: 1)
    assert turns.take()
    waiting = await asked(turns, 1, 1, 1)
    waiting.pop(cancelled).cancel()
    for done in range(2):
        turns.leave()
        await settled()
        assert given(waiting) == [True, done > 0]
    assert turns.taken == 1


async def test_who_stood_in_the_way_of_less_and_gives_up_makes_room() -> None:
    turns = Turns(lambda: 3)
    assert turns.take(2)
    much, little = await asked(turns, 3, 1)
    much.cancel()
    await settled()
    assert given([little]) == [True]
    assert turns.taken == 3


async def test_a_turn_that_is_given_to_one_who_is_just_cancelled_goes_to_the_next() -> None:
    turns = Turns(lambda: 1)
    assert turns.take()
    waiting = await asked(turns, 1, 1)
    turns.leave()  # the first one's now
    waiting[0].cancel()
    await settled()
    assert waiting[0].cancelled()
    assert given(waiting) == [False, True]
    assert turns.taken == 1


async def test_one_who_is_just_cancelled_is_given_none() -> None:
    turns = Turns(lambda: 1)
    assert turns.take()
    waiting = await asked(turns, 1, 1)
    waiting[0].cancel()
    turns.leave()
    await settled()
    assert given(waiting) == [False, True]
    assert turns.taken == 1


async def test_a_limit_that_moves() -> None:
    limit = 1
    turns = Turns(lambda: limit)
    assert turns.take()
    waiting = await asked(turns, 1, 1)
    limit = 2
    turns.serve()
    await settled()
    assert given(waiting) == [True, False]
    limit = 0
    turns.leave()
    assert not turns.take()


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_the_limit_holds_and_all_who_stay_come(seed: int) -> None:
    random, turns = Random(seed), Turns(lambda: 10)
    inside = 0
    came: list[int] = []

    async def one(number: int) -> None:
        nonlocal inside
        size = random.randint(1, 10)
        async with turns.holding(size):
            inside += size
            try:
                came.append(number)
                assert inside <= 10
                for _ in range(random.randint(0, 3)):
                    await asyncio.sleep(0)
            finally:
                inside -= size

    tasks = [asyncio.ensure_future(one(number)) for number in range(200)]
    while not all(task.done() for task in tasks):
        if random.random() < 0.5:
            random.choice(tasks).cancel()
        await asyncio.sleep(0)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error for error in done if error is not None and not isinstance(error, asyncio.CancelledError)] == []
    assert came == sorted(came)
    assert (turns.taken, inside) == (0, 0)
    assert turns.take(10)
