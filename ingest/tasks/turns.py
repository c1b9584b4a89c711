"""Turns: what not all can have at once goes to whoever asked first, and no turn is lost or given twice, whoever is
cancelled in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Line:
    """Those who wait. `take` says whether there is so much for the first of them, and takes it; `give_back` gets what
    was taken for one who was cancelled in the same moment."""

    def __init__(self, take: Callable[[int], bool], give_back: Callable[[int], None]) -> None:
        self._take, self._give_back = take, give_back
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, size: int = 1) -> None:
        """Waits for a turn behind all others."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back(size)
            self.serve()
            raise

    def serve(self) -> None:
        """Gives turns until there is too little for the first one who waits. Call it when there may be more."""
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if not self._take(size):
                    return
                turn.set_result(None)
            self._waiting.popleft()


class Turns:
    """As much at once as `limit` says, which may move: call `serve` where it grows while nobody leaves."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit, self.taken = limit, 0
        self._line = Line(self._fits, self.leave)
        self.wait, self.serve = self._line.wait, self._line.serve

    def take(self, size: int = 1) -> bool:
        """Takes so much at once, where there is so much and nobody waits. `leave` it, or `wait` for it where not."""
        return not self._line and self._fits(size)

    def leave(self, size: int = 1) -> None:
        self.taken -= size
        if self._line:
            self.serve()

    @asynccontextmanager
    async def holding(self, size: int = 1) -> AsyncIterator[None]:
        """Inside, so much is taken."""
        if not self.take(size):
            await self.wait(size)
        try:
            yield
        finally:
            self.leave(size)

    def _fits(self, size: int) -> bool:
        if self.taken + size > self._limit():
            return False
        self.taken += size
        return True
