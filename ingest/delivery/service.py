"""One POST of one copy to the verification service. Nothing is retried here, and no redirect followed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import quote, urlsplit

from ingest.delivery.multipart import Envelope, wrap
from ingest.errors import (
    DeliveryError,
    EndpointAstray,
    EndpointBusy,
    EndpointFault,
    EndpointRedirects,
    EndpointRefused,
    EndpointTimedOut,
    EndpointUnreachable,
    EndpointUntrusted,
    NotTls,
    SourceError,
    TlsError,
    TooManyFiles,
)
from ingest.http.dates import parse_retry_after
from ingest.http.exchange import Body, Exchange, Response
from ingest.http.pool import Pool
from ingest.http.route import Route
from ingest.http.timeouts import Timeouts
from ingest.http.tls import says_refused_certificate
from ingest.plan.checks import Algorithm
from ingest.plan.etags import etag_of
from ingest.plan.rulings import LONGEST_RETRY_AFTER, Ruling, rule
from ingest.plan.storable import storable_text

if TYPE_CHECKING:
    from ingest.settings.service import ServiceSettings
    from ingest.settings.source import SourceSettings

CONNECT_SECONDS = 10.0
KEEP_SECONDS = 4.0
"""Of an idle connection: less than the five that uvicorn keeps one, so that none is used while it is being closed."""
SLOWEST = 256 << 10
"""Bytes a second that a large file must move at, above the deadline of the settings."""
MOST_ANSWER_BYTES = 64 << 10
_TIMES = Timeouts(connect=CONNECT_SECONDS, idle=inf, total=inf, keep_alive=KEEP_SECONDS)
"""One deadline holds for a delivery as a whole: a service may think for as long as it leaves."""
_KEPT_IN_PATHS = "/:@!$&'()*+,;=~%-._"
CHUNK = 256 << 10
"""Bytes read at once, and the most of a file that is ever in memory."""
INLINE = 64 << 10
"""Bytes up to which reading and hashing cost less than handing them to a thread."""
_OTHER_SCHEME = (
    "Write https:// in VERIFY_URL where the service speaks TLS, and http:// where not. It has taken nothing."
)


class WrongBytes(Exception):
    """The local copy is not what the catalog says; the service was not given a complete request."""


class Submission(NamedTuple):
    """What is to be posted: the copy's size and digest (``md5:…``, ``sha256:…``) are checked on the way."""

    key: str
    etag: str
    size: int
    digest: str | None
    fields: Mapping[str, str]


class Answer(NamedTuple):
    """What came of one POST. `body` is JSON, or text, of at most `MOST_ANSWER_BYTES`; `retry_after` in seconds."""

    ruling: Ruling
    status: int | None = None
    body: str | None = None
    error: DeliveryError | None = None
    retry_after: float | None = None


@dataclass
class Service:
    """The verification service; use ``async with Service(settings, source)``. `connections` bounds requests at once."""

    settings: ServiceSettings
    source: SourceSettings
    """Where the copies are from."""
    connections: int = 16

    def __post_init__(self) -> None:
        self.target = self.settings.url
        self.shown = urlsplit(self.target).netloc
        self._source = (self.source.required("endpoint"), self.source.required("bucket"))
        authorization = self.settings.authorization
        secret = authorization.get_secret_value() if authorization is not None else ""
        self._headers = {"Authorization": secret} if secret else {}
        self._secrets = sorted({part for part in (secret, secret.rpartition(" ")[2]) if part}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Service({self.target!r})"

    async def __aenter__(self) -> Self:
        parts = urlsplit(self.target)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        self._path = quote(parts.path or "/", safe=_KEPT_IN_PATHS)
        self._path += f"?{quote(parts.query, safe=_KEPT_IN_PATHS + '?')}" if parts.query else ""
        self._route = Route.to(parts.scheme, host, parts.port, self.settings.trust)
        self._pool = Pool(self._route.dialer(CONNECT_SECONDS), limit=self.connections, timeouts=_TIMES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    def idempotency_key(self, key: str, etag: str) -> str:
        """The same for every attempt at this version of this object, on every machine."""
        return hashlib.sha256(json.dumps([*self._source, key, etag]).encode()).hexdigest()

    def deadline(self, size: int) -> float:
        """Seconds that one delivery of `size` bytes may take."""
        return self.settings.timeout.total_seconds() + size / SLOWEST

    async def post(self, submission: Submission, descriptor: int) -> Answer:
        """Posts the copy that `descriptor` reads. The endpoint's faults are the answer, never an exception.

        Raises:
            WrongBytes: the copy is not what `submission` says. OSError: it cannot be read.
        """
        fields = {"s3_path": f"s3://{self._source[1]}/{submission.key}", "etag": etag_of(submission.etag)}
        # An event's own field never speaks for ours.
        fields |= {name: value for name, value in submission.fields.items() if name not in (*fields, "file")}
        envelope = wrap(secrets.token_hex(16), submission.key, fields)
        first = await _read(descriptor, min(submission.size, CHUNK) + 1, 0)
        if submission.size <= CHUNK:
            _check(submission, len(first), _digest(submission, first))
            return await self._send(submission, envelope, b"".join((envelope.head, first, envelope.tail)))
        return await self._send(submission, envelope, _Stream(submission, descriptor, envelope, first).pieces)

    async def _send(self, submission: Submission, envelope: Envelope, body: Body) -> Answer:
        head = self._route.head(
            "POST",
            self._path,
            {
                **self._headers,
                "Accept": "application/json",
                "Content-Type": envelope.content_type,
                "Content-Length": str(len(envelope.head) + submission.size + len(envelope.tail)),
                "Idempotency-Key": self.idempotency_key(submission.key, submission.etag),
            },
        )
        try:
            async with asyncio.timeout(self.deadline(submission.size)):
                response = await self._pool.fetch(Exchange(head, MOST_ANSWER_BYTES, body=body, lenient=True))
        except TimeoutError:
            return self._failed(EndpointTimedOut(f"{self.shown}: no answer in time"))
        except (SourceError, TooManyFiles) as error:
            return self._failed(_explained(error))
        return self._judge(response, self._text(response))

    def _failed(self, error: DeliveryError) -> Answer:
        about_all = isinstance(error, EndpointUnreachable | EndpointUntrusted)
        return Answer(Ruling.ENDPOINT if about_all else Ruling.FAULT, error=error)

    def _judge(self, response: Response, body: str) -> Answer:
        status, ruling = response.status, rule(response.status, body)
        said = f"{self.shown} answered {status}"
        error: DeliveryError | None = None
        if says_refused_certificate(status, response.body):
            return self._failed(EndpointUntrusted(f"{said}: it wants a certificate of ours, or does not accept it"))
        if ruling is Ruling.BUSY:
            error = EndpointBusy(f"{said}: too many requests")
        elif ruling is Ruling.FAULT:
            error = EndpointFault(said)
        elif ruling is Ruling.ENDPOINT and status < 300:
            error = EndpointAstray(f"{said} with a web page: a login, or a proxy, and not the service")
        elif ruling is Ruling.ENDPOINT and status < 400:
            location = response.headers.get(b"location", b"").decode("latin-1")
            error = EndpointRedirects(f"{said}: a redirect to {_host(location)}")
        elif ruling is Ruling.ENDPOINT:
            error = EndpointRefused(f"{said}: it does not take our credentials, or nothing at this address")
        asked = response.headers.get(b"retry-after")
        pause = retry_after(asked.decode("latin-1") if asked is not None else None, datetime.now(UTC))
        return Answer(ruling, status, body, error, pause)

    def _text(self, response: Response) -> str:
        """The body, cut at its bound: JSON as it came, anything else as text that every database can hold."""
        text = storable_text(response.body[:MOST_ANSWER_BYTES].decode("utf-8", "replace"))
        for secret in self._secrets:  # some services echo what they were sent
            text = text.replace(secret, "***")
        return text


def _explained(error: SourceError | TooManyFiles) -> DeliveryError:
    """What broke on the way, in the terms of a delivery; a hint that was made for this very case comes along."""
    own = vars(error).get("hint")
    hint = f"{own} Nothing is lost: run `ingest deliver` again." if own else None
    if isinstance(error, TlsError):
        return EndpointUntrusted(error.message, hint=_OTHER_SCHEME if isinstance(error, NotTls) else hint)
    if isinstance(error, TooManyFiles) or not error.sent:
        return EndpointUnreachable(error.message, hint=hint)
    return EndpointFault(error.message, hint=hint)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that ``Retry-After`` asks for, at most an hour; None where it says nothing that can be understood."""
    asked = None if header is None else parse_retry_after(header, now)
    return None if asked is None else min(LONGEST_RETRY_AFTER, asked)


@dataclass
class _Stream:
    """A large form in pieces. The last piece leaves only when every byte was right: a damaged copy is never taken."""

    submission: Submission
    descriptor: int
    envelope: Envelope
    first: bytes

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """From the start, as often as it is called. Raises `WrongBytes` and `OSError`."""
        yield self.envelope.head
        hasher, sent, chunk = _hasher(self.submission), 0, self.first
        while chunk and sent + len(chunk) <= self.submission.size:
            sent += len(chunk)
            if hasher is not None:
                await asyncio.to_thread(hasher.update, chunk)
            following = await _read(self.descriptor, CHUNK, sent)
            if not following:
                _check(self.submission, sent, hasher.hexdigest() if hasher is not None else None)
            yield chunk
            chunk = following
        _check(self.submission, sent + len(chunk), None)
        yield self.envelope.tail


async def _read(descriptor: int, size: int, offset: int) -> bytes:
    # At its offset: a thread that comes too late, behind a deadline, must not move on in what has the number by then.
    if size <= INLINE:
        return os.pread(descriptor, size, offset)
    return await asyncio.to_thread(os.pread, descriptor, size, offset)


def _hasher(submission: Submission) -> hashlib._Hash | None:
    algorithm = (submission.digest or "").partition(":")[0]
    return hashlib.new(algorithm, usedforsecurity=False) if algorithm in (Algorithm.MD5, Algorithm.SHA256) else None


def _digest(submission: Submission, content: bytes) -> str | None:
    hasher = _hasher(submission)
    if hasher is None:
        return None
    hasher.update(content)
    return hasher.hexdigest()


def _check(submission: Submission, size: int, digest: str | None) -> None:
    if size != submission.size:
        raise WrongBytes(f"the copy has {size} bytes and not {submission.size}")
    if digest is not None and digest != (submission.digest or "").partition(":")[2]:
        raise WrongBytes("the copy's bytes are not those that were downloaded")


def _host(location: str) -> str:
    try:
        host = urlsplit(location).netloc.rpartition("@")[2]  # what stands before may be a login
    except ValueError:
        return "an address that is none"
    return ascii(host[:200])[1:-1] or "another path"
