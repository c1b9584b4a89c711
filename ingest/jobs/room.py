"""How many bytes may be under way in memory at once, whatever is downloaded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Room:
    """`free` bytes that downloads share; who finds too little waits, first come, first served.

    A request for more than there ever is gets everything: no object is too large to be downloaded.
    """

    free: int
    _total: int = field(init=False)
    _waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._total = self.free

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Holds room for `size` bytes while inside."""
        size = min(size, self._total)
        if self._waiting or self.free < size:
            await self._wait(size)
        else:
            self.free -= size
        try:
            yield
        finally:
            self.free += size
            self._admit()

    async def _wait(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.free += size  # it had been given to us already
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self.free):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= size
                turn.set_result(None)
