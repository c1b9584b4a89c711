"""Keeps all connections together below a rate, by not reading for a while: TCP then slows the server down."""

from __future__ import annotations

import time
from collections.abc import Callable

_BURST_SECONDS = 0.05
RECEIVE_BUFFER = 128 << 10
"""Bytes that the kernel may take in ahead of us for each connection; more would come in bursts."""


class Throttle:
    """A token bucket of `rate` bytes a second. It may go into debt, which whoever made it sleeps off."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._most = rate * _BURST_SECONDS
        self._tokens = self._most
        self._filled = clock()

    def pause_after(self, received: int) -> float:
        """Takes note of so many bytes (0 only asks); returns for how many seconds not to read on."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._rate) - received
        self._filled = now
        return max(0.0, -self._tokens / self._rate)
