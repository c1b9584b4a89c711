"""How many requests a second a server may be sent: a number that finds itself, once the server has asked for fewer.

Until then there is no pace at all. A refusal lowers the rate to a little below what the server had answered lately, and
from there it grows along the curve of TCP CUBIC (RFC 9438): fast at first, slowly about where it was refused, then ever
faster, for a limit may have been lifted. What a limiter in front of the server permits is so met within a few percent,
whatever number of connections asks; nobody has to be told it.
"""

from __future__ import annotations

from dataclasses import dataclass

_CUT = 0.9
"""What a refusal leaves of the rate. Half, where nothing at all was answered since the last one."""
_OVERSHOOT = 1.5
"""Of what was answered lately: more than this was never tried, whatever the curve allows."""
_CURVE = 1.0 - _CUT
_RECOVERY = 1.0
_LONGEST_RECOVERY = 4.0
"""Seconds from a cut back to the rate that was refused: longer each time, for the limit is known better and better; and
longer where a refusal costs a pause."""
_FREE_AFTER = 12.0
"""Recoveries without a refusal, after which there is no pace any more: it would be some hundred times as fast."""
_WINDOW = 1.0
_SHORTEST_WINDOW = 0.1
_FEW, _FIRST = 5, 100.0
"""So few answers tell nothing of the rate: this is tried first then."""
_SLOWEST = 0.5
"""Requests a second. Below that the server is waited for, not paced."""
_LATE = 0.01
"""Seconds that a start may be late by without its place being lost: timers are no better than that."""


@dataclass(slots=True)
class Pace:
    """Times in seconds of one monotonic clock that the caller reads."""

    cuts: int = 0
    """How often the rate was lowered since it was free."""
    _peak: float = 0.0
    """Requests a second at the last cut; 0 while there is no pace."""
    _cut_at: float = float("-inf")
    _recovery: float = _RECOVERY
    _next_at: float = 0.0
    _answered: int = 0
    _answered_since_cut: int = 0
    _window_at: float = float("-inf")
    _lately: float = 0.0

    @property
    def free(self) -> bool:
        """No limit is known."""
        return not self._peak

    def rate(self, now: float) -> float:
        """Requests a second; infinite while there is no pace."""
        if not self._peak:
            return float("inf")
        since = (now - self._cut_at) / self._recovery
        return max(_SLOWEST, self._peak * (1.0 + _CURVE * (since - 1.0) ** 3))

    def wait(self, now: float) -> float:
        """Seconds until the next request may start: 0 if it may now."""
        return max(0.0, self._next_at - now) if self._peak else 0.0

    def start(self, now: float) -> None:
        """One request starts."""
        if self._peak:
            self._next_at = max(self._next_at, now - _LATE) + 1.0 / self.rate(now)

    def answered(self, now: float) -> None:
        """One request was answered, whatever the answer was, as long as it was no refusal."""
        self._answered += 1
        if now - self._window_at >= 2 * _WINDOW:  # no window, but a time in which nothing was asked
            self._window_at, self._answered, self._lately = now, 1, 0.0
        elif now - self._window_at >= _WINDOW:
            self._lately = self._answered / (now - self._window_at)
            self._window_at, self._answered = now, 0
        if self._peak:
            self._answered_since_cut += 1
            if now - self._cut_at > _FREE_AFTER * self._recovery:
                self._peak, self.cuts = 0.0, 0

    def refused(self, sent_at: float, now: float, pause: float = 0.0) -> bool:
        """The server asked for fewer requests, and for a pause of so many seconds. Returns whether that is news: what
        was sent before the last cut only says again what led to it."""
        if sent_at < self._cut_at:
            return False
        rate = min(self.rate(now), _OVERSHOOT * self._goodput(now))
        if now - self._cut_at < self._recovery:
            rate *= _CUT if self._answered_since_cut else 0.5
        self._peak = max(_SLOWEST, rate)
        self._recovery = max(min(_LONGEST_RECOVERY, _RECOVERY * 1.25 ** min(self.cuts, 9)), 4.0 * pause)
        self._cut_at, self._answered_since_cut = now, 0
        self._next_at = now + 1.0 / self.rate(now)
        self.cuts += 1
        return True

    def _goodput(self, now: float) -> float:
        """Answers a second of late."""
        if self._answered < _FEW and not self._lately:
            return _FIRST
        return max(self._lately, self._answered / max(_SHORTEST_WINDOW, now - self._window_at))
