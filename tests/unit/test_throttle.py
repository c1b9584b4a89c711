"""The token bucket keeps its rate, whoever takes from it and however much at once."""

from __future__ import annotations

from ingest.http.throttle import Throttle


def test_the_rate_holds_over_many_takers() -> None:
    """Twenty connections that each sleep off what they are told receive, together, the rate."""
    now = 0.0
    throttle = Throttle(1_000_000, lambda: now)
    wakes = [0.0] * 20
    received = 0
    while now < 60:
        taker = wakes.index(min(wakes))
        now = max(now, wakes[taker])
        received += 100_000
        wakes[taker] = now + throttle.pause_after(100_000)
    assert 59_000_000 <= received <= 63_000_000


def test_an_idle_hour_saves_up_next_to_nothing() -> None:
    now = 0.0
    throttle = Throttle(1_000_000, lambda: now)
    now = 3600.0
    assert throttle.pause_after(50_000) == 0
    assert throttle.pause_after(1_000_000) == 1.0
    assert throttle.pause_after(0) == 1.0
    now += 1.5
    assert throttle.pause_after(0) == 0
