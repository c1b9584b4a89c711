"""A TCP proxy in front of a real server: latency, a throttle, connections that are reset after so many bytes, or are
forgotten, as firewalls do: nobody is told, and nothing comes through any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from ingest.testing.connections import listening

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
    unheard: int = 0
    """Bytes that came for connections that are forgotten."""
    _alive: set[object] = field(default_factory=set)
    _forgotten: set[object] = field(default_factory=set)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def forget(self) -> None:
        """The connections that there are; new ones are carried."""
        self._forgotten |= self._alive

    async def _carry(self, upstream: int | str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if isinstance(upstream, str):
            there, back = await asyncio.open_unix_connection(upstream)
        else:
            there, back = await asyncio.open_connection("127.0.0.1", upstream)
        connection = object()
        self._alive.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(connection, reader, back))
                group.create_task(self._answer(connection, there, writer, self.reset_after()))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._alive.discard(connection)
            for end in (writer, back):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _ask(self, connection: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            if connection in self._forgotten:
                self.unheard += len(piece)
                continue
            writer.write(piece)
            await writer.drain()
        if connection not in self._forgotten:
            writer.write_eof()

    async def _answer(
        self, connection: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        while piece := await reader.read(_PIECE):
            if connection in self._forgotten:
                continue
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


@asynccontextmanager
async def proxied(upstream: int | str) -> AsyncIterator[Proxy]:
    """Listens on a free loopback port for the server at port `upstream`, or at the socket of that name."""
    proxy = Proxy()
    async with listening(partial(proxy._carry, upstream)) as proxy.port:
        yield proxy
