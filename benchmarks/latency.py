"""A TCP proxy that makes every byte wait: ``python -m benchmarks.latency --to PORT --delay 0.025``.

Each direction is delayed by as much, whatever passes, and nothing is limited: a long line, not a narrow one. The TCP
handshake is not delayed. It prints its port, and ends when its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import deque

import uvloop

from benchmarks.loopback import until_input_ends


class End(asyncio.Protocol):
    """One end of a connection: what arrives here leaves at the `other` end, `delay` seconds later, in its order."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[bytes | None] = deque()
        """None is the end of the stream."""
        self._transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's protocol gets a stream

    def data_received(self, data: bytes) -> None:
        self._later(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._later(None)

    def _later(self, data: bytes | None) -> None:
        self._under_way.append(data)
        self._loop.call_later(self._delay, self._hand_over)

    def _hand_over(self) -> None:
        data = self._under_way.popleft()
        transport = self.other._transport if self.other else None
        if transport is None:
            return
        if data is None:
            transport.close()
        else:
            transport.write(data)


class Entrance(End):
    """The client's end, which connects to the server; what is due before that is made waits for it."""

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(delay)
        self._port = port
        self._due = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, end = await self._loop.create_connection(lambda: End(self._delay), "127.0.0.1", self._port)
        except OSError:
            if self._transport is not None:
                self._transport.abort()
            return
        self.other, end.other = end, self
        for _ in range(self._due):
            super()._hand_over()

    def _hand_over(self) -> None:
        if self.other is None:
            self._due += 1
        else:
            super()._hand_over()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=int, required=True, help="the server's port on loopback")
    parser.add_argument("--delay", type=float, default=0.025, help="seconds, in each direction")
    options = parser.parse_args()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Entrance(options.to, options.delay), "127.0.0.1", 0, backlog=1_024)
    await until_input_ends(server)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
