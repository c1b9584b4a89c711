"""What a service shows over HTTP: /healthz, /readyz and /metrics. Nothing of it changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from ingest.errors import SettingsError
from ingest.observe.logs import log
from ingest.observe.metrics import Snapshot, render


class Endpoints(NamedTuple):
    """What is asked for each request. `trouble` and `unready` say in words what is wrong; empty: nothing."""

    trouble: Callable[[], str]
    unready: Callable[[], str]
    snapshot: Callable[[], Snapshot]


@asynccontextmanager
async def serving(listen: str, endpoints: Endpoints) -> AsyncIterator[int]:
    """Answers at `listen` (host:port, port 0 for a free one); gives the port.

    Raises:
        SettingsError: that cannot be listened at, or prometheus-client is not installed.
    """
    from aiohttp import web

    async def health(_: web.Request) -> web.Response:
        return _answer(endpoints.trouble())

    async def readiness(_: web.Request) -> web.Response:
        return _answer(endpoints.trouble() or endpoints.unready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(endpoints.snapshot()), headers={"Content-Type": "text/plain; version=0.0.4"})

    def _answer(wrong: str) -> web.Response:
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    _require_client()
    application = web.Application()
    application.add_routes([web.get("/healthz", health), web.get("/readyz", readiness), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, _, port = listen.rpartition(":")
        try:
            site = web.TCPSite(runner, host.strip("[]") or "127.0.0.1", _port(port))
            await site.start()
        except (OSError, ValueError) as error:
            raise SettingsError(f"--listen {listen}: {error}; it wants HOST:PORT that is free") from error
        bound = int(runner.addresses[0][1])
        log().info("listening", address=f"{host}:{bound}")
        yield bound
    finally:
        await runner.cleanup()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:  # the event loop would take the rest of its division
        raise ValueError(f"{port} is no port")
    return port


def _require_client() -> None:
    try:
        import prometheus_client  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise SettingsError("--listen needs prometheus-client", hint="pip install 'ingest[kafka]'") from error
