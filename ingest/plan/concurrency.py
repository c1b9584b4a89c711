"""How many transfers at once: a number that finds itself.

While answers come as fast as they ever did, one more request costs nothing, so each success adds one: it doubles
in each round trip. When answers take longer, requests only wait in a queue somewhere, so growing ends. An overloaded
server halves the number at once. The idea is that of TCP Vegas: compare the latency with the best one seen.
"""

from __future__ import annotations

from dataclasses import dataclass

_GROW_BELOW = 1.6
"""Of the best latency: below it nothing queues yet."""
_SHRINK_ABOVE = 6.0
_SMOOTHING = 0.1
_FORGOTTEN_AFTER = 900.0
"""Seconds in which the best latency counts for e times as much: the network of an hour ago is not today's. Not sooner,
for where requests always queue it is never seen again."""
_PAUSE_AFTER_OVERLOAD = 2.0
"""Seconds without growth, and without a second halving, after the server asked for less."""


@dataclass(slots=True)
class Concurrency:
    """The level between `floor` and `ceiling`; equal bounds fix it. Latencies and times in seconds."""

    floor: int = 32
    ceiling: int = 256
    current: int = 0
    best: float = float("inf")
    average: float = 0.0
    _learnt: float = 0.0
    _quiet_until: float = 0.0

    def __post_init__(self) -> None:
        self.current = self.current or self.floor

    @classmethod
    def fixed(cls, level: int) -> Concurrency:
        return cls(floor=level, ceiling=level)

    def succeeded(self, latency: float, now: float) -> None:
        """Learns from one answer that came in `latency` seconds."""
        self.best = min(self.best * (1 + (now - self._learnt) / _FORGOTTEN_AFTER), latency)
        self._learnt = now
        self.average += (latency - self.average) * (_SMOOTHING if self.average else 1.0)
        if now < self._quiet_until:
            return
        if self.average < self.best * _GROW_BELOW:
            self.current = min(self.ceiling, self.current + 1)
        elif self.average > self.best * _SHRINK_ABOVE and self.current > self.floor:
            self.current -= 1

    def overloaded(self, now: float) -> None:
        """The server asked for less, or did not answer in time: halve, and do not grow for a while."""
        if now >= self._quiet_until:
            self.current = max(1, self.current // 2) if self.floor < self.ceiling else self.current
            self._quiet_until = now + _PAUSE_AFTER_OVERLOAD


@dataclass(slots=True)
class RetryBudget:
    """Caps the *total* of a run's retries, so that a dying server is not hammered: a few, and a tenth of the work."""

    allowance: float = 64.0
    share: float = 0.1

    def earn(self) -> None:
        """One request succeeded."""
        self.allowance += self.share

    def spend(self) -> bool:
        """Whether one more retry may be made; counts it if so."""
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True
