"""The control plane by aioboto3: buckets, put, delete. Its TLS, redirects and errors are those of the read path."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from xml.sax.saxutils import escape

from ingest.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectionTimedOut,
    NameNotResolved,
    RedirectRefused,
    SourceError,
    UnexpectedResponse,
)
from ingest.http.tls import tls_error
from ingest.redaction import redact_causes
from ingest.source.errors import error_from_response

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientResponse

    from ingest.settings import Settings

_CONNECT_SECONDS = 10
_READ_SECONDS = 60


class ControlPlane:
    """Use ``async with ControlPlane(settings) as control``. Nothing is imported or connected before the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def call(self, operation: str, **parameters: object) -> Any:
        """One request, by the name and with the parameters that botocore has for it. Never retried here.

        Raises:
            SourceError: it failed. The cause of one that the server named is botocore's ``ClientError``.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        async with self._opening:
            if self._client is None:
                self._client = await self._stack.enter_async_context(self._new_client())
        try:
            return await getattr(self._client, operation)(**parameters)
        except ClientError as error:
            redact_causes(error)
            raise _refusal(error.response, operation) from error
        except BotoCoreError as error:
            raise self._failure(error, operation) from None

    def _new_client(self) -> Any:
        import aioboto3
        from aiobotocore.config import AioConfig

        settings = self._settings
        keys: dict[str, str] = {}
        if settings.access_key is not None and settings.secret_key is not None:  # else botocore walks its chain itself
            keys["aws_access_key_id"] = settings.access_key.get_secret_value()
            keys["aws_secret_access_key"] = settings.secret_key.get_secret_value()
            if settings.session_token is not None:
                keys["aws_session_token"] = settings.session_token.get_secret_value()
        config = AioConfig(
            http_session_cls=partial(_session_class(), settings.trust.context() if settings.secure else None),
            retries={"total_max_attempts": 1},  # ours are the only ones
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            s3={"addressing_style": settings.addressing_style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return aioboto3.Session().client(
            "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config, **keys
        )

    def _failure(self, error: BaseException, operation: str) -> SourceError:
        server = self._settings.endpoint
        for cause in _causes(error):
            match cause:
                case SourceError():
                    return cause
                case ssl.SSLError() if type(cause).__module__ == ssl.__name__:  # aiohttp's wrappers of it are ones too
                    return tls_error(cause, server)
                case ConnectionRefusedError():
                    return ConnectionRefused(f"{server} refused the connection")
                case TimeoutError():
                    return ConnectionTimedOut(f"{operation}: {server} did not answer in time")
        name = type(error).__name__
        if name in ("ConnectTimeoutError", "ReadTimeoutError"):
            return ConnectionTimedOut(f"{operation}: {server} did not answer in time")
        if any(type(cause).__name__ in ("gaierror", "ClientConnectorDNSError") for cause in _causes(error)):
            return NameNotResolved(f"the name of {server} cannot be resolved")
        if name in ("EndpointConnectionError", "ConnectionClosedError", "HTTPClientError", "ProxyConnectionError"):
            return ConnectionLost(f"{operation}: the connection to {server} broke")
        return UnexpectedResponse(f"{operation}: {name}")


def _session_class() -> type:
    """aiobotocore's HTTP session with two of its habits taken away (aiobotocore 2.25).

    Behind a proxy it does not verify certificates, and redirects are followed to any host with the session token.
    """
    import aiohttp
    from aiobotocore.httpsession import AIOHTTPSession

    class Session(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
        def __init__(self, tls: ssl.SSLContext | None, **arguments: Any) -> None:
            super().__init__(**arguments)
            self._tls = tls

        async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
            if proxy_url not in self._sessions:
                self._sessions[proxy_url] = await self._exit_stack.enter_async_context(
                    aiohttp.ClientSession(
                        connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True),
                        timeout=self._timeout,
                        skip_auto_headers={"CONTENT-TYPE"},
                        auto_decompress=False,
                        cookie_jar=aiohttp.DummyCookieJar(),
                        middlewares=(_refuse_redirects,),
                    )
                )
            found: aiohttp.ClientSession = self._sessions[proxy_url]
            return found

    return Session


async def _refuse_redirects(request: ClientRequest, send: Any) -> ClientResponse:
    response: ClientResponse = await send(request)
    if 300 <= response.status < 400 and response.status != 304:
        target = str(response.headers.get("Location", ""))
        response.close()
        host = target.split("://", 1)[-1].split("/", 1)[0].rpartition("@")[2]
        raise RedirectRefused(f"the server answered {response.status}" + (f"; it points to {host!a}" if host else ""))
    return response


def _refusal(answer: Any, operation: str) -> SourceError:
    """What the server's refusal means, in the same terms as on the read path."""
    said, about = answer.get("Error", {}), answer["ResponseMetadata"]
    code = str(said.get("Code", ""))
    code = "" if code.isdigit() else code  # to HEAD, botocore gives the status for a code
    text = f"<Error><Code>{escape(code)}</Code><Message>{escape(str(said.get('Message', '')))}</Message></Error>"
    headers = {name.lower().encode(): str(value).encode() for name, value in about.get("HTTPHeaders", {}).items()}
    return error_from_response(int(about["HTTPStatusCode"]), headers, text.encode() if code else b"", operation)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors inside botocore's and aiohttp's wrappers, outermost first."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        wrapped = getattr(found, "kwargs", None)
        waiting.append(wrapped.get("error") if isinstance(wrapped, dict) else None)
        waiting += [
            getattr(found, name, None) for name in ("certificate_error", "os_error", "__cause__", "__context__")
        ]
