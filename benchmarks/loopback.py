"""How a server of the benchmarks lives: as long as the process that started it, which it tells its port."""

from __future__ import annotations

import asyncio
import sys


async def until_input_ends(server: asyncio.Server) -> None:
    """Prints the port, and waits for the end of the input."""
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
