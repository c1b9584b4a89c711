"""What an answer that is no success means, in the terms of the error tree.

Source of the codes: AWS, S3 API reference, "Error responses"; MinIO's own where it differs.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from ingest.errors import (
    AccessDenied,
    AccessKeyUnknown,
    ClientCertificateRefused,
    ClockSkewed,
    ConnectionTimedOut,
    CredentialsError,
    CredentialsExpired,
    NoSuchBucket,
    NoSuchKey,
    NotTls,
    ObjectArchived,
    ObjectChanged,
    RangeNotSatisfiable,
    RedirectRefused,
    ServerFault,
    SignatureMismatch,
    SlowDown,
    SourceError,
    UnexpectedResponse,
)
from ingest.http.dates import parse_http_date, parse_retry_after
from ingest.http.exchange import Headers
from ingest.http.tls import says_refused_certificate

_BY_CODE: dict[str, type[SourceError]] = {
    "AccessDenied": AccessDenied,
    "AccountProblem": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "AuthorizationHeaderMalformed": SignatureMismatch,
    "BandwidthLimitExceeded": SlowDown,
    "EC2ThrottledException": SlowDown,
    "ExpiredToken": CredentialsExpired,
    "IllegalLocationConstraintException": RedirectRefused,
    "InsufficientCapacity": SlowDown,
    "InternalError": ServerFault,
    "InvalidAccessKeyId": AccessKeyUnknown,
    "InvalidObjectState": ObjectArchived,
    "InvalidRange": RangeNotSatisfiable,
    "InvalidSecurity": CredentialsError,
    "InvalidToken": CredentialsExpired,
    "LimitExceededException": SlowDown,
    "NoSuchBucket": NoSuchBucket,
    "NoSuchKey": NoSuchKey,
    "NoSuchVersion": NoSuchKey,
    "NotSignedUp": AccessDenied,
    "OperationAborted": ServerFault,
    "PermanentRedirect": RedirectRefused,
    "PreconditionFailed": ObjectChanged,
    "PriorRequestNotComplete": SlowDown,
    "ProvisionedThroughputExceededException": SlowDown,
    "RequestExpired": ClockSkewed,
    "RequestLimitExceeded": SlowDown,
    "RequestThrottled": SlowDown,
    "RequestThrottledException": SlowDown,
    "RequestTimeTooSkewed": ClockSkewed,
    "RequestTimeout": ConnectionTimedOut,
    "ServerBusy": SlowDown,
    "ServiceUnavailable": SlowDown,
    "SignatureDoesNotMatch": SignatureMismatch,
    "SlowDown": SlowDown,
    "SlowDownRead": SlowDown,
    "SlowDownWrite": SlowDown,
    "TemporaryRedirect": RedirectRefused,
    "ThrottledException": SlowDown,
    "Throttling": SlowDown,
    "ThrottlingException": SlowDown,
    "TokenRefreshRequired": CredentialsExpired,
    "TooManyRequests": SlowDown,
    "TooManyRequestsException": SlowDown,
    "TransactionInProgressException": SlowDown,
    "XMinioServerNotInitialized": SlowDown,
}
_BY_STATUS: dict[int, type[SourceError]] = {
    401: CredentialsError,
    403: AccessDenied,
    404: NoSuchKey,
    408: ConnectionTimedOut,
    412: ObjectChanged,
    416: RangeNotSatisfiable,
}
"""For answers without an error document: to HEAD, or with an empty body."""
_BUSY = frozenset({429, 503, 509, 529})
"""Of the last two, "bandwidth limit exceeded" and "overloaded", no RFC knows; some servers and proxies send them."""
_SKEW_ALLOWED = timedelta(minutes=15)
_ELEMENT = re.compile(rb"<(Code|Message|Region|Endpoint)>([^<]{0,1000})</")
_EXPECTED_REGION = re.compile(r"region.* expecting '([a-z0-9-]{1,64})'")
_TAKEN_AWAY = "headers present in the request which were not signed"
"""MinIO's and rclone's words where a header that is signed did not arrive."""
_PASSES_ON = (
    "A proxy before the server takes headers away that are signed. It has to pass `Range` and `If-Match` on as they "
    "came (nginx does not where it caches: `proxy_cache off;`)."
)
_TLS_WANTED = re.compile(rb"HTTP request to an HTTPS|plain HTTP request was sent to HTTPS", re.IGNORECASE)


class ErrorDocument(NamedTuple):
    """S3's ``<Error>``; empty texts for what it does not say."""

    code: str = ""
    message: str = ""
    region: str = ""
    endpoint: str = ""


def shown(text: str) -> str:
    """A key or a server's words on one harmless line: what is not printable becomes an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_error_document(body: bytes) -> bool:
    """Whether the root element is S3's ``<Error>``."""
    start = body[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<?xml"):
        start = start[start.find(b"?>") + 2 :].lstrip()
    return start.startswith((b"<Error>", b"<Error "))


def parse_error(body: bytes) -> ErrorDocument:
    """The elements that matter, found without a parser: nothing that a server puts here can do harm, and the first of
    each name counts."""
    if not is_error_document(body):
        return ErrorDocument()
    found: dict[str, str] = {}
    for name, text in _ELEMENT.findall(body):
        plain = " ".join(text.decode("utf-8", "replace").split())
        found.setdefault(name.decode().lower(), shown(plain)[:200])
    return ErrorDocument(**found)


def error_from_response(
    status: int, headers: Headers, body: bytes, what: str, *, now: datetime | None = None
) -> SourceError:
    """The error behind an answer: a status outside 2xx, or a 200 that holds an ``<Error>``.

    `what` names the request for the message, as in ``GET loans/1.pdf``. `now` is this machine's time.
    """
    document = parse_error(body)
    if not document.code:
        document = document._replace(code=_code_in_headers(headers))
    kind = _kind(status, document.code, body)
    ours = now or datetime.now(UTC)
    theirs = parse_http_date(headers.get(b"date", b""))
    if kind in (AccessDenied, SignatureMismatch) and theirs is not None and abs(ours - theirs) > _SKEW_ALLOWED:
        kind = ClockSkewed
    message = f"{what}: the server answered {status}"
    message += f" {document.code}" if document.code else ""
    message += f" ({document.message})" if document.message else ""
    if kind is ClockSkewed:
        clock = f"{theirs:%Y-%m-%d %H:%M:%S} UTC" if theirs else "not told"
        return ClockSkewed(f"{message}; the server's clock: {clock}, ours: {ours:%Y-%m-%d %H:%M:%S} UTC")
    if kind is RedirectRefused:
        return RedirectRefused(f"{message}{_redirect_target(headers, document)}")
    if hint := _closer_hint(kind, document):
        return kind(message, hint=hint)
    if says_refused_certificate(status, body):
        return ClientCertificateRefused(
            f"{what}: the server answered 400: it wants a certificate of ours that it trusts"
        )
    if status == 407:
        return UnexpectedResponse(
            message, hint="The proxy wants a login: http://user:password@host:port in HTTP_PROXY."
        )
    if kind is NotTls:
        return NotTls(f"{what}: the server speaks TLS on this port", hint="Set S3_SECURE=true.")
    error = kind(message)
    if (asked := headers.get(b"retry-after")) is not None:
        error.retry_after = parse_retry_after(asked.decode("latin-1"), theirs or ours)
    return error


def _kind(status: int, code: str, body: bytes) -> type[SourceError]:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code.startswith("KMS."):
        return AccessDenied
    if 300 <= status < 400 and status != 304:
        return RedirectRefused
    if status == 400 and _TLS_WANTED.search(body[:4096]):
        return NotTls
    if status in _BUSY:
        return SlowDown
    if status >= 500:
        return UnexpectedResponse if status == 501 else ServerFault
    if 200 <= status < 300:
        return ServerFault if code else UnexpectedResponse
    # A 404 that is a web page says nothing of the object: taking it for "gone" would be a lie.
    return _BY_STATUS.get(status, UnexpectedResponse) if code or not body.strip() else UnexpectedResponse


def _closer_hint(kind: type[SourceError], document: ErrorDocument) -> str:
    """What to do where the server's own words tell more than the kind of its error; empty where they do not."""
    if kind is SignatureMismatch and (region := document.region or _expected_region(document.message)):
        return f"Set S3_REGION={region}: the bucket is there."
    return _PASSES_ON if kind is AccessDenied and _TAKEN_AWAY in document.message else ""


def _code_in_headers(headers: Headers) -> str:
    """MinIO names the code of an answer to HEAD, which can have no body, in a header."""
    code = headers.get(b"x-minio-error-code", b"").decode("ascii", "replace")
    return code if code.isalnum() else ""


def _expected_region(message: str) -> str:
    """Where only the words say it: ``the region 'x' is wrong; expecting 'y'`` (AWS, MinIO)."""
    found = _EXPECTED_REGION.search(message)
    return found[1] if found is not None else ""


def _redirect_target(headers: Headers, document: ErrorDocument) -> str:
    region = headers.get(b"x-amz-bucket-region", b"").decode("ascii", "replace") or document.region
    location = urlsplit(headers.get(b"location", b"").decode("latin-1")).netloc or document.endpoint
    target = f"; it points to {shown(location.rpartition('@')[2])[:200]}" if location else ""
    return target + (f"; the bucket's region is {shown(region)[:64]}" if region else "")
