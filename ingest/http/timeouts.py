"""How long a request may take, and who is overdue. No timer for each request: one sweep looks at all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, and `slowest` in bytes a second.

    A request may take `total` seconds plus the time that its body takes at `slowest`: a server that sends a byte now
    and then is never idle, and must end all the same.
    """

    connect: float = 10.0
    idle: float = 60.0
    """Without a byte from the server; also the longest wait for the first one."""
    total: float = 120.0
    slowest: int = 16 << 10
    keep_alive: float = 20.0
    """How long an unused connection is kept. Common servers close theirs after 20 seconds or more."""

    @property
    def sweep_interval(self) -> float:
        return min(1.0, self.idle / 4, self.total / 4, self.keep_alive / 4)


@dataclass(slots=True)
class Watch:
    """The times of one request, on the event loop's clock."""

    started: float = 0.0
    _moved: float = 0.0
    _seen: int = 0

    def start(self, now: float) -> None:
        self.started = self._moved = now
        self._seen = 0

    def overdue(self, now: float, moved: int, *, held: bool, timeouts: Timeouts) -> str | None:
        """What to say of a request that takes too long; None while it may go on.

        `moved` counts its bytes so far, either way; `held` says that we ourselves do not read: that time is not the
        server's.
        """
        if held:
            self.started += now - self._moved
        if held or moved != self._seen:
            self._moved, self._seen = now, moved
        if now - self._moved > timeouts.idle:
            return f"no byte came for {timeouts.idle:g} s"
        if now - self.started > timeouts.total + moved / timeouts.slowest:
            return f"only {moved} bytes came in {now - self.started:.0f} s"
        return None
