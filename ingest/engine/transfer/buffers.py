"""How many bytes may be under way in memory at once, whatever is downloaded; and that memory, used again and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from ingest.tasks.turns import Turns


class Buffers:
    """`total` bytes that downloads share; who finds too little waits, first come, first served.

    A request for more than there ever is gets everything: no object is too large to be downloaded.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._turns = Turns(lambda: total)
        self._spare: dict[int, list[bytearray]] = defaultdict(list)
        """To lend again, by their length, a power of two: fresh memory costs as much as what goes through it."""
        self._kept = 0
        """Bytes of them."""

    @property
    def free(self) -> int:
        return self._total - self._turns.taken

    def taken(self, size: int) -> AbstractAsyncContextManager[None]:
        """Holds room for `size` bytes while inside."""
        return self._turns.holding(min(size, self._total))

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
