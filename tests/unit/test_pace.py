"""The pace finds what a limiter permits, on models of limiters and of those who ask."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest

from ingest.plan.pace import Pace


@dataclass
class LeakyBucket:
    """As nginx's ``limit_req … nodelay``: `burst` requests ahead of the rate are let through, the others refused."""

    rate: float
    burst: int
    _excess: float = 0.0
    _at: float = float("-inf")

    def takes(self, now: float) -> bool:
        excess = max(0.0, self._excess - self.rate * (now - self._at) + 1.0)
        if excess > self.burst + 1e-9:
            return False
        self._excess, self._at = excess, now
        return True


@dataclass
class Night:
    """`objects` to be fetched from behind a limiter, by as many as `level` at once, `round_trip` seconds away."""

    limiter: LeakyBucket
    objects: int
    level: int = 32
    round_trip: float = 0.002
    retry_after: float = 0.0
    pace: Pace = field(default_factory=Pace)
    refused: int = 0

    def seconds(self) -> float:
        now, held_until, waiting = 0.0, 0.0, self.objects
        under_way: list[tuple[float, float]] = []
        while waiting or under_way:
            start_at = max(now, held_until, now + self.pace.wait(now))
            if waiting and len(under_way) < self.level and (not under_way or start_at <= under_way[0][0]):
                now = start_at
                self.pace.start(now)
                waiting -= 1
                heapq.heappush(under_way, (now + self.round_trip, now))
                continue
            now, sent_at = heapq.heappop(under_way)
            if self.limiter.takes(now):
                self.pace.answered(now)
                continue
            self.refused += 1
            waiting += 1
            if self.pace.refused(sent_at, now, self.retry_after):
                held_until = now + self.retry_after
        return now


@pytest.mark.parametrize("round_trip", [0.001, 0.05])
@pytest.mark.parametrize(
    ("rate", "burst", "objects"), [(30, 5, 600), (30, 20, 600), (5, 5, 100), (2, 1, 60), (300, 50, 5_000)]
)
def test_nine_tenths_of_what_is_permitted(rate: int, burst: int, objects: int, round_trip: float) -> None:
    night = Night(LeakyBucket(rate, burst), objects, round_trip=round_trip)
    assert night.seconds() < objects / rate / 0.9
    assert night.refused < objects


def test_without_any_burst_most_of_it() -> None:
    assert Night(LeakyBucket(30, 0), 600).seconds() < 600 / 30 / 0.8


def test_pauses_that_are_asked_for_cost_time_and_few_are() -> None:
    night = Night(LeakyBucket(30, 5), 600, retry_after=1.0)
    assert night.seconds() < 40
    assert night.refused < 60


def test_there_is_none_until_the_server_asks() -> None:
    pace = Pace()
    for _ in range(1_000):
        pace.start(0.0)
        pace.answered(0.0)
    assert (pace.free, pace.wait(0.0), pace.rate(0.0)) == (True, 0.0, float("inf"))


def test_what_was_sent_before_a_cut_is_no_news() -> None:
    pace = Pace()
    assert pace.refused(sent_at=0.0, now=1.0)
    rate = pace.rate(1.0)
    assert not pace.refused(sent_at=0.9, now=1.1)
    assert pace.rate(1.0) == rate
    assert pace.refused(sent_at=1.0, now=1.2)
    assert pace.rate(1.2) < rate


@pytest.mark.parametrize("answered", [0, 4, 5, 1_000])
def test_the_first_cut_begins_with_what_was_answered(answered: int) -> None:
    """Too few answers tell nothing."""
    pace = Pace()
    for number in range(answered):
        pace.answered(number * 0.5 / answered)
    pace.refused(sent_at=0.5, now=0.5)
    most = 1.5 * (answered / 0.5 if answered >= 5 else 100)
    assert 0.8 * most < pace.rate(0.5) <= most


def test_it_never_stops() -> None:
    pace, now = Pace(), 0.0
    for _ in range(100):
        assert pace.refused(now, now)
        now += 0.001
    assert pace.rate(now) >= 0.4
    assert pace.wait(now) < 3


def test_a_limit_that_is_lifted_is_forgotten() -> None:
    pace, now = Pace(), 0.0
    pace.refused(now, now)
    while not pace.free:
        now += max(pace.wait(now), 0.0001)
        pace.start(now)
        pace.answered(now)
    assert 5 < now < 30
    assert pace.cuts == 0


def test_starts_are_spread_and_a_late_timer_loses_nothing() -> None:
    pace = Pace()
    pace.refused(0.0, 0.0)
    now = pace.wait(0.0)
    pace.start(now)
    step = pace.wait(now)
    assert step == pytest.approx(1 / pace.rate(now))
    pace.start(now + step + 0.005)
    assert pace.wait(now + step + 0.005) == pytest.approx(step - 0.005, rel=0.05)
