"""The level finds itself, on a model of a server: so many workers, each answer so long on its way."""

from __future__ import annotations

import heapq

from ingest.plan.concurrency import Concurrency


def simulate(concurrency: Concurrency, *, round_trip: float, rate: float, seconds: float) -> list[tuple[float, int]]:
    """Keeps the level's number of requests under way at a server that answers `rate` a second, and `round_trip` seconds
    away; returns the level over time."""
    now, free_at, levels = 0.0, 0.0, []
    under_way: list[tuple[float, float]] = []
    while now < seconds:
        while len(under_way) < concurrency.current:
            free_at = max(free_at, now + round_trip / 2) + 1 / rate
            heapq.heappush(under_way, (free_at + round_trip / 2, now))
        now, asked = heapq.heappop(under_way)
        concurrency.succeeded(now - asked, now)
        levels.append((now, concurrency.current))
    return levels


def test_far_away_it_reaches_128_within_a_second() -> None:
    levels = simulate(Concurrency(), round_trip=0.05, rate=20_000, seconds=1)
    assert next(now for now, level in levels if level >= 128) < 0.4


def test_nearby_it_stays_low() -> None:
    levels = simulate(Concurrency(), round_trip=0.0002, rate=4_000, seconds=5)
    assert max(level for _, level in levels) <= 64
    assert levels[-1][1] == Concurrency().floor


def test_it_stays_within_its_bounds() -> None:
    levels = simulate(Concurrency(ceiling=48), round_trip=0.5, rate=20_000, seconds=10)
    assert levels[-1][1] == 48


def test_overload_halves_it_once_and_it_grows_again() -> None:
    concurrency = Concurrency()
    simulate(concurrency, round_trip=0.05, rate=20_000, seconds=1)
    before = concurrency.current
    concurrency.overloaded(1.0)
    concurrency.overloaded(1.1)
    assert concurrency.current == before // 2
    for _ in range(100):
        concurrency.succeeded(0.05, 1.5)
    assert concurrency.current == before // 2
    for _ in range(100):
        concurrency.succeeded(0.05, 4.0)
    assert concurrency.current > before // 2


def test_a_fixed_level_stays() -> None:
    concurrency = Concurrency.fixed(7)
    simulate(concurrency, round_trip=0.05, rate=20_000, seconds=1)
    concurrency.overloaded(2.0)
    assert concurrency.current == 7
