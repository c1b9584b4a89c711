"""The request to stop: set by the first signal, obeyed at the next safe place."""

from __future__ import annotations

import asyncio
import signal as signals
from dataclasses import dataclass, field

from ingest.errors import InterruptedRun, TerminatedRun


@dataclass
class Stop:
    """Whether, and by which signal, the run was asked to end."""

    signal: signals.Signals | None = None
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self, received: signals.Signals) -> None:
        self.signal = self.signal or received
        self._asked.set()

    @property
    def requested(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()

    @property
    def error(self) -> InterruptedRun:
        if self.signal is signals.SIGTERM:
            return TerminatedRun("terminated; what was finished is recorded")
        return InterruptedRun("interrupted; what was finished is recorded")

    def raise_if_requested(self) -> None:
        """Raises `InterruptedRun` or `TerminatedRun`."""
        if self.requested:
            raise self.error
