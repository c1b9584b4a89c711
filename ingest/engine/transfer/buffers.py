"""How many bytes may be under way in memory at once, whatever is downloaded; and that memory, used again and again."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Buffers:
    """`free` bytes that downloads share; who finds too little waits, first come, first served.

    A request for more than there ever is gets everything: no object is too large to be downloaded.
    """

    free: int
    _total: int = field(init=False)
    _waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)
    _spare: dict[int, list[bytearray]] = field(default_factory=lambda: defaultdict(list))
    """Buffers to lend again, by their length, a power of two: fresh memory costs as much as what goes through it."""
    _kept: int = 0
    """Bytes of them."""

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

    @asynccontextmanager
    async def lent(self, size: int) -> AsyncIterator[memoryview]:
        """`taken`, with a buffer of `size` bytes, which holds what its last user left."""
        length = 1 << max(0, size - 1).bit_length()
        async with self.taken(length):
            if spare := self._spare[length]:
                self._kept -= length
            buffer = spare.pop() if spare else bytearray(length)
            try:
                yield memoryview(buffer)[:size]
            finally:
                if self._kept + length <= self._total:
                    self._kept += length
                    spare.append(buffer)

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
