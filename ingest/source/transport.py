"""What botocore's requests travel by: the connections of the read path, in the shape that aiobotocore wants."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from ingest.errors import RedirectRefused
from ingest.http.exchange import Exchange
from ingest.http.pool import Pool
from ingest.http.route import DEFAULT_PORTS, Route
from ingest.http.timeouts import Timeouts
from ingest.http.tls import says_refused_certificate
from ingest.source.errors import error_from_response

if TYPE_CHECKING:
    from aiobotocore.awsrequest import AioAWSResponse

    from ingest.settings.source import SourceSettings

_CONNECTIONS = 10
_MOST_ANSWER_BYTES = 16 << 20
_OURS = frozenset({"host", "expect", "accept-encoding", "connection", "transfer-encoding"})
"""Headers that the way decides, none of which is signed but ``host``, and that one is the same."""


class Transport:
    """Sends to the endpoint's own hosts only, and follows no redirect: credentials go nowhere else.

    aiobotocore makes one for each client, with arguments (proxies, certificates, time-outs) that do not count here.
    """

    def __init__(self, settings: SourceSettings, **_: object) -> None:
        self._settings = settings
        self._pools: dict[str, tuple[Route, Pool]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        pools, self._pools = self._pools, {}
        for _, pool in pools.values():
            await pool.aclose()

    async def send(self, request: Any) -> AioAWSResponse:
        """An ``AWSPreparedRequest`` and its answer. Raises `SourceError`."""
        from aiobotocore.awsrequest import AioAWSResponse

        parts = urlsplit(request.url)
        route, pool = self._way_to(parts.hostname or "")
        headers = {name: _text(value) for name, value in request.headers.items() if name.lower() not in _OURS}
        body = _bytes(request.body)
        if body is not None:
            headers["Content-Length"] = str(len(body))
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        head = route.head(request.method, target, {**headers, "Accept-Encoding": "identity"})
        exchange = Exchange(head, _MOST_ANSWER_BYTES, bodyless=request.method == "HEAD", body=body)
        response = await pool.fetch(exchange)
        redirected = 300 <= response.status < 400 and response.status != 304
        if redirected or says_refused_certificate(response.status, response.body):
            raise error_from_response(response.status, response.headers, response.body, f"{request.method} {target}")
        found = {name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in response.headers.items()}
        return AioAWSResponse(request.url, response.status, found, _Raw(response.body))

    def _way_to(self, host: str) -> tuple[Route, Pool]:
        own = urlsplit(self._settings.endpoint_url)
        names = own.hostname or ""
        if host != names and not (self._settings.addressing_style == "virtual" and host.endswith(f".{names}")):
            raise RedirectRefused(f"a request for {host!a} was not sent: the settings do not name it")
        if host not in self._pools:
            route = Route.to(own.scheme, host, own.port or DEFAULT_PORTS[own.scheme], self._settings.trust)
            times = Timeouts()
            self._pools[host] = route, Pool(route.dialer(times.connect), limit=_CONNECTIONS, timeouts=times)
        return self._pools[host]


class _Raw:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(body: Any) -> bytes | None:
    """As botocore hands them over: bytes that it has wrapped in a file, at the place where they begin."""
    found: bytes | None = body.read() if hasattr(body, "read") else body
    return found
