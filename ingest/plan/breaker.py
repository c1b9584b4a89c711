"""A circuit breaker: an endpoint that is down is asked by one probe now and then, not by everything that waits.

closed ──(`threshold` failures in a row, or one that concerns them all)──> open ──(pause over)──> half-open: one probe
half-open ──(it succeeds)──> closed; ──(it fails)──> open again, for twice as long, up to `longest_pause`.
open ──(nothing is there to probe with)──> closed on probation: the next failure opens it again
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """Pauses and times in seconds, of one monotonic clock that the caller reads."""

    threshold: int = 5
    first_pause: float = 1.0
    longest_pause: float = 60.0
    circuit: Circuit = Circuit.CLOSED
    _failures: int = 0
    _pause: float = 0.0
    _until: float = 0.0
    _held_until: float = 0.0

    def may_start(self, now: float) -> bool:
        """Whether one more request may be made; when it is the probe, the next one must wait for its result."""
        if now < self._held_until or self.circuit is Circuit.HALF_OPEN:
            return False
        if self.circuit is Circuit.OPEN:
            if now < self._until:
                return False
            self.circuit = Circuit.HALF_OPEN
        return True

    def wait(self, now: float) -> float:
        """Seconds until a request may be made: 0 if now, and while a probe is out."""
        until = self._until if self.circuit is Circuit.OPEN else 0.0
        return max(0.0, until - now, self._held_until - now)

    def unused(self) -> None:
        """The request that was allowed was not made: if it was the probe, another may be."""
        if self.circuit is Circuit.HALF_OPEN:
            self.circuit = Circuit.OPEN

    def nothing_to_probe_with(self) -> None:
        """A probe was allowed, and nothing waits that could be one: only what comes next can tell."""
        if self.circuit is Circuit.OPEN:
            self.circuit = Circuit.CLOSED
            self._failures = self.threshold - 1

    def succeeded(self) -> None:
        self.circuit = Circuit.CLOSED
        self._failures = 0
        self._pause = 0.0

    def failed(self, now: float) -> None:
        """One request failed; those that began before the circuit opened, and fail now, tell nothing new."""
        self._failures += 1
        if self.circuit is Circuit.HALF_OPEN or (self.circuit is Circuit.CLOSED and self._failures >= self.threshold):
            self.trip(now)

    def trip(self, now: float) -> None:
        """Opens at once: the failure would meet every request alike."""
        if self.circuit is Circuit.OPEN:
            return
        self._pause = min(self.longest_pause, self._pause * 2 or self.first_pause)
        self._until = now + self._pause
        self.circuit = Circuit.OPEN

    def hold(self, now: float, seconds: float) -> None:
        """The endpoint works, and asks for a pause of so many seconds."""
        self.succeeded()
        self._held_until = max(self._held_until, now + seconds)
