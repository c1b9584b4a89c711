"""A request on its way out: in pieces, as fast as its transport takes them, and no longer than anybody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from ingest.http.exchange import Body

_PIECE_BYTES = 256 << 10
"""What is handed to the transport at once of a body in memory, so that it is not copied as a whole."""


class Sending:
    """`choked` while the transport has enough for now; `whole` unless the last request was left unfinished.

    `woken` waits for news of the connection; `is_over` says that what is left of the request no longer matters.
    """

    def __init__(self, woken: Callable[[], Awaitable[None]], is_over: Callable[[], bool]) -> None:
        self._woken, self._is_over = woken, is_over
        self.choked = False
        self.whole = True
        self._handed = 0

    def start(self) -> None:
        """Forgets the request before."""
        self._handed = 0

    def moved(self, transport: asyncio.WriteTransport | None) -> int:
        """Bytes of a request with a body that have left this process."""
        if not self._handed or transport is None:
            return self._handed
        return max(0, self._handed - transport.get_write_buffer_size())

    async def send(self, head: bytes, body: Body, transport: asyncio.WriteTransport) -> None:
        """Hands the request over, until its end or until it is over."""
        self.whole = False
        async with aclosing(_pieces(head, body)) as pieces:
            async for piece in pieces:
                if self._is_over():
                    return
                transport.write(piece)
                self._handed += len(piece)
                while self.choked and not self._is_over():
                    await self._woken()
        self.whole = True


async def _pieces(head: bytes, body: Body) -> AsyncGenerator[bytes | memoryview, None]:
    if not isinstance(body, bytes):
        yield head
        async with aclosing(body()) as pieces:
            async for piece in pieces:
                yield piece
    elif len(body) <= _PIECE_BYTES:
        yield head + body
    else:
        yield head
        view = memoryview(body)
        for start in range(0, len(body), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]
