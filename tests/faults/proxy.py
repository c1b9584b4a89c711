"""A TCP proxy in front of a real server: latency, a throttle, and connections that are reset after so many bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from tests.fixtures.connections import listening

_PIECE = 16 << 10


@dataclass
class Proxy:
    """All may be changed at any time. `latency` in seconds for each piece; `rate` in bytes a second, for all together.

    `reset_after` gives, for each new connection, the bytes of answers after which it is reset (None: never).
    """

    port: int = 0
    latency: float = 0.0
    rate: float = float("inf")
    reset_after: Callable[[], int | None] = lambda: None
    connections: int = 0
    resets: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def _carry(self, upstream: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", upstream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back))
                group.create_task(self._answer(there, writer, self.reset_after()))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, back):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        while piece := await reader.read(_PIECE):
            await asyncio.sleep(self.latency)
            if self.rate != float("inf"):
                async with self._turn:
                    await asyncio.sleep(len(piece) / self.rate)
            if left is not None and len(piece) > left:
                writer.write(piece[:left])
                self.resets += 1
                writer.transport.abort()
                raise ConnectionResetError
            left = left - len(piece) if left is not None else None
            writer.write(piece)
            await writer.drain()
        writer.write_eof()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def proxied(upstream: int) -> AsyncIterator[Proxy]:
    """Listens on a free loopback port for the server at port `upstream`."""
    proxy = Proxy()
    async with listening(partial(proxy._carry, upstream)) as proxy.port:
        yield proxy
