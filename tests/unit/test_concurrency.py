"""The level finds itself, on a model of a server: so many workers, each answer so long on its way."""

from __future__ import annotations

import heapq

from ingest.plan.concurrency import Concurrency, RetryBudget


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


def test_the_average_takes_a_tenth_of_each_answer_and_all_of_the_first() -> None:
    concurrency = Concurrency()
    averages = []
    for latency in (1.0, 2.0, 2.0, 1.0):
        concurrency.succeeded(latency, 0.0)
        averages.append(round(concurrency.average, 6))
    assert averages == [1.0, 1.1, 1.19, 1.171]


def at(average: float, *, current: int = 40) -> int:
    """The level after one answer that leaves the average of a server, whose best is 1 s, at so many seconds."""
    concurrency = Concurrency(current=current, best=1.0, average=average)
    concurrency.succeeded(average, 0.0)
    return concurrency.current


def test_one_slow_answer_neither_stops_growth_nor_shrinks_the_level() -> None:
    concurrency = Concurrency()
    concurrency.succeeded(1.0, 0.0)
    before = concurrency.current
    concurrency.succeeded(6.0, 0.0)  # a tenth of it, and the average is 1.5
    assert concurrency.current == before + 1


def test_the_level_grows_below_one_bound_shrinks_above_the_other_and_rests_between() -> None:
    assert [at(average) for average in (1.59, 1.6, 3.0, 6.0, 6.01)] == [41, 40, 40, 40, 39]
    assert [at(9.0, current=current) for current in (33, 32)] == [32, 32]  # not below the floor
    assert [at(1.0, current=current) for current in (255, 256)] == [256, 256]


def test_overload_is_over_after_two_seconds() -> None:
    for now, level in ((2.9, 20), (3.0, 21)):
        concurrency = Concurrency(current=40)
        concurrency.overloaded(1.0)
        concurrency.succeeded(1.0, now)
        assert concurrency.current == level


def test_a_second_overload_halves_again_once_the_first_is_over() -> None:
    concurrency = Concurrency(current=40)
    levels = []
    for now in (1.0, 2.9, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0):
        concurrency.overloaded(now)
        levels.append(concurrency.current)
    assert levels == [20, 20, 10, 5, 2, 1, 1, 1]


def test_the_first_answer_is_the_average() -> None:
    concurrency = Concurrency()
    concurrency.succeeded(3.0, 0.0)
    assert concurrency.average == 3.0


def test_the_best_latency_is_forgotten_in_time() -> None:
    concurrency = Concurrency()
    concurrency.succeeded(1.0, 0.0)
    concurrency.succeeded(9.0, 450.0)
    assert concurrency.best == 1.5
    concurrency.succeeded(9.0, 1350.0)
    assert concurrency.best == 3.0


def test_retries_are_a_few_and_a_tenth_of_the_work() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(65)] == [True] * 64 + [False]
    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    budget.earn()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_the_last_retry_is_a_whole_one() -> None:
    budget = RetryBudget(allowance=1.0)
    assert [budget.spend(), budget.spend()] == [True, False]
