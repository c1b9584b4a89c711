"""The request to stop: made by a signal or by whoever else has a reason, obeyed at the next safe place."""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ingest.errors import InterruptedRun, TerminatedRun

T = TypeVar("T")
_SWALLOWED_SECONDS = 5.0
"""What has not ended by then has not heard of its cancellation: `asyncio.wait_for` loses one now and then."""


class StopReason(NamedTuple):
    """Why a run is to end before its end: by the error that it then ends with, whose exit code it has, and what that
    says."""

    error: type[InterruptedRun]
    message: str


INTERRUPTED = StopReason(InterruptedRun, "interrupted; what was finished is recorded")
TERMINATED = StopReason(TerminatedRun, "terminated; what was finished is recorded")
NOTHING_LEFT = StopReason(InterruptedRun, "nothing more will come")
"""To a part of a run whose other parts have ended."""


@dataclass
class Stop:
    """Whether, and why, the run was asked to end."""

    reason: StopReason | None = None
    """The first one: what ends a run says why, whatever else comes while it ends."""
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _hooks: list[Callable[[], None]] = field(default_factory=list)

    def request(self, reason: StopReason | signals.Signals) -> None:
        """Asks for the end; a signal is a reason, too."""
        if isinstance(reason, signals.Signals):
            reason = TERMINATED if reason is signals.SIGTERM else INTERRUPTED
        self.reason = self.reason or reason
        if not self.requested:
            self._asked.set()
            for hook in self._hooks:
                hook()

    @contextmanager
    def calling(self, hook: Callable[[], None]) -> Iterator[None]:
        """Calls `hook` when a stop is requested; at once, if it was."""
        self._hooks.append(hook)
        if self.requested:
            hook()
        try:
            yield
        finally:
            self._hooks.remove(hook)

    @property
    def requested(self) -> bool:
        return self._asked.is_set()

    async def wait(self) -> None:
        await self._asked.wait()

    @property
    def error(self) -> InterruptedRun:
        error, message = self.reason or INTERRUPTED
        return error(message)

    async def during(self, work: Awaitable[T]) -> T:
        """The result of `work`, which is cancelled and awaited when a stop is requested.

        Raises:
            InterruptedRun: a stop was requested.
        """
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            while not working.done():
                working.cancel()
                await asyncio.wait({working}, timeout=_SWALLOWED_SECONDS)
        if working.cancelled():
            raise self.error
        return working.result()

    def raise_if_requested(self) -> None:
        """Raises the `InterruptedRun` that the reason names."""
        if self.requested:
            raise self.error
