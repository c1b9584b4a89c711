"""The read path of one bucket: list a page, get, head. Signed requests straight on aiohttp, nothing retried here.

Redirects are not followed, bodies are not decoded, every body has its stated length or is an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from ingest.errors import (
    ConnectionLost,
    ConnectionRefused,
    ConnectionTimedOut,
    CredentialsExpired,
    NameNotResolved,
    NotTls,
    ObjectChanged,
    SourceError,
    UnexpectedResponse,
)
from ingest.source.credentials import CredentialSource, credential_source
from ingest.source.endpoint import Endpoint, quote_key, quote_query
from ingest.source.responses import error_from_response
from ingest.source.signing import Signer
from ingest.source.tls import ssl_context, tls_error

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from ingest.settings import Settings

CONNECT_SECONDS, IDLE_SECONDS = 10.0, 60.0
MOST_LISTING_BYTES = 16 << 20
_MOST_ERROR_BYTES = 64 << 10


class RawPage(NamedTuple):
    """A listing as it came, and what was asked."""

    body: bytes
    server: str


class ObjectHead(NamedTuple):
    """What the server says of an object without sending it. `part_size` is set when part 1 was asked for."""

    size: int
    etag: str
    last_modified: datetime
    storage_class: str
    encrypted: bool
    part_size: int | None = None


@dataclass
class BucketReader:
    """An open connection pool to one bucket; use ``async with BucketReader(settings)``."""

    settings: Settings
    connections: int = 256

    def __post_init__(self) -> None:
        self.endpoint = Endpoint.from_settings(self.settings)
        self._credentials: CredentialSource = credential_source(self.settings)

    async def __aenter__(self) -> Self:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        tls = ssl_context(self.settings)
        await self._credentials.refresh()
        self._signer = Signer(self._credentials.current, region=self.settings.region, host=self.endpoint.host_header)
        connector = TCPConnector(limit=self.connections, ssl=tls if tls is not None else True, ttl_dns_cache=60)
        self._session: ClientSession = ClientSession(
            connector=connector,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS),
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            trust_env=True,
            read_bufsize=1 << 18,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def server_time(self) -> datetime | None:
        """The server's clock, from the ``Date`` of an answer; None when it does not say."""
        async with self._request("HEAD", self.endpoint.bucket_path, f"HEAD {self.endpoint.bucket}") as response:
            date = response.headers.get("Date")
            return parsedate_to_datetime(date).astimezone(UTC) if date else None

    async def list_page(
        self, prefix: str = "", *, start_after: str = "", token: str = "", delimiter: str = "", max_keys: int = 1000
    ) -> RawPage:
        """One ListObjectsV2 request. Raises `SourceError`."""
        asked = {"list-type": "2", "encoding-type": "url", "max-keys": str(max_keys), "prefix": prefix}
        optional = {"start-after": start_after, "continuation-token": token, "delimiter": delimiter}
        asked.update({name: value for name, value in optional.items() if value})
        what = f"listing {self.endpoint.bucket}/{prefix}"
        async with self._request("GET", self.endpoint.bucket_path, what, query=quote_query(asked)) as response:
            body = await response.content.read(MOST_LISTING_BYTES)
            while not response.content.at_eof() and len(body) < MOST_LISTING_BYTES:
                body += await response.content.read(MOST_LISTING_BYTES - len(body))
            return RawPage(body, response.headers.get("Server", ""))

    async def get(self, key: str, *, etag: str = "", size: int) -> bytes:
        """The whole of a small object of `size` bytes, of exactly this version.

        Raises:
            ObjectChanged: it is another version. NoSuchKey: it is gone. SourceError: anything else.
        """
        async with self._get(key, etag, size) as response:
            return await response.read()

    async def stream(self, key: str, *, etag: str = "", size: int | None = None) -> AsyncIterator[bytes]:
        """An object's bytes, chunk by chunk as they come. Raises as `get` does."""
        async with self._get(key, etag, size) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def head(self, key: str, *, part_number: int | None = None) -> ObjectHead:
        """Raises `NoSuchKey` when the object does not exist, `SourceError` for anything else."""
        query = quote_query({"partNumber": str(part_number)}) if part_number else ""
        async with self._request("HEAD", self._path(key), f"HEAD {key!r}", query=query) as response:
            headers = response.headers
            try:
                modified = parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC)
                size = int(headers["Content-Length"])
                whole = size if "Content-Range" not in headers else int(headers["Content-Range"].rpartition("/")[2])
            except (KeyError, ValueError) as error:
                raise UnexpectedResponse(f"HEAD {key!r}: the answer lacks size or date") from error
            storage_class = headers.get("x-amz-storage-class", "STANDARD")
            etag = headers.get("ETag", "").strip('"')
            part_size = size if part_number else None
            return ObjectHead(whole, etag, modified, storage_class, _is_encrypted(headers), part_size)

    @asynccontextmanager
    async def _get(self, key: str, etag: str, size: int | None) -> AsyncIterator[ClientResponse]:
        what = f"GET {key!r}"
        pinned = {"if-match": f'"{etag}"'} if etag else {}
        async with self._request("GET", self._path(key), what, headers=pinned) as response:
            found = response.headers.get("ETag", "").strip('"')
            length = response.headers.get("Content-Length")
            if etag and found and found != etag:
                raise ObjectChanged(f"{what}: it is {found} now, and was listed as {etag}")
            if size is not None and length is not None and int(length) != size:
                raise ObjectChanged(f"{what}: it has {length} bytes now, and was listed with {size}")
            yield response

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, what: str, *, query: str = "", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[ClientResponse]:
        if self._credentials.check_at != float("inf"):
            await self._renew()
        names = tuple(headers or ())
        head = self._signer.sign(method, path, query, names, tuple((headers or {}).values()))
        sent = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if line)
        with self._translated(what):
            async with self._session.request(
                method, self._url(path, query), headers=sent, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    body = await response.content.read(_MOST_ERROR_BYTES)
                    failure = error_from_response(response.status, response.headers, body, what)
                    if isinstance(failure, CredentialsExpired):
                        await self._reload()
                    raise failure
                yield response

    def _url(self, path: str, query: str):  # type: ignore[no-untyped-def]  # yarl comes with aiohttp, late
        from yarl import URL

        # "encoded" keeps dot segments, double slashes and escapes exactly as they were signed.
        root = f"{self.endpoint.scheme}://{self.endpoint.host_header}"
        return URL(f"{root}{path}?{query}" if query else f"{root}{path}", encoded=True)

    def _path(self, key: str) -> str:
        return self.endpoint.key_root + quote_key(key)

    async def _renew(self) -> None:
        if asyncio.get_running_loop().time() >= self._credentials.check_at:
            await self._credentials.refresh()
            self._signer.use(self._credentials.current)

    async def _reload(self) -> None:
        await self._credentials.reload(self._credentials.current)
        self._signer.use(self._credentials.current)

    def _translated(self, what: str) -> _Translated:
        return _Translated(str(self.endpoint), what)


class _Translated:
    """Turns what the network raises into the error tree."""

    def __init__(self, server: str, what: str) -> None:
        self.server, self.what = server, what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SourceError):
            return
        found = _network_error(error, self.server, self.what)
        if found is not None:
            raise found from error


def _network_error(error: BaseException, server: str, what: str) -> SourceError | None:
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NameNotResolved(f"{server}: the name cannot be resolved")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return tls_error(cause, server) if isinstance(cause, ssl.SSLError) else None
    if isinstance(error, aiohttp.ClientSSLError) and isinstance(error.os_error, ssl.SSLError):
        return tls_error(error.os_error, server)
    if isinstance(error, TimeoutError):  # aiohttp's own time-outs are TimeoutErrors as well
        return ConnectionTimedOut(f"{what}: {server} did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectionRefused(f"{server}: {error.os_error.strerror or error.os_error}")
    if isinstance(error, aiohttp.ClientResponseError):
        if "\\x15\\x03" in str(error):
            return NotTls(f"{server} speaks TLS on this port, and was asked without")
        return UnexpectedResponse(f"{what}: {server} does not answer in HTTP")
    if isinstance(error, aiohttp.ClientError | ConnectionError | ssl.SSLError):
        return ConnectionLost(f"{what}: the connection to {server} broke ({type(error).__name__})")
    return None


def _is_encrypted(headers: Mapping[str, str]) -> bool:
    """With KMS or a customer's key the etag is not an MD5 (S3 API, "Common response headers")."""
    return (
        "aws:kms" in headers.get("x-amz-server-side-encryption", "")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )
