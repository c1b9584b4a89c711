"""What an answer that is not a success means, in the terms of the error tree.

Source of the codes: AWS, S3 API reference, "Error responses".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingest.errors import (
    AccessDenied,
    AccessKeyUnknown,
    ClockSkewed,
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

_BY_CODE: dict[str, type[SourceError]] = {
    "NoSuchBucket": NoSuchBucket,
    "NoSuchKey": NoSuchKey,
    "AccessDenied": AccessDenied,
    "AllAccessDisabled": AccessDenied,
    "InvalidAccessKeyId": AccessKeyUnknown,
    "SignatureDoesNotMatch": SignatureMismatch,
    "ExpiredToken": CredentialsExpired,
    "InvalidToken": CredentialsExpired,
    "TokenRefreshRequired": CredentialsExpired,
    "RequestTimeTooSkewed": ClockSkewed,
    "RequestExpired": ClockSkewed,
    "InvalidObjectState": ObjectArchived,
    "PreconditionFailed": ObjectChanged,
    "InvalidRange": RangeNotSatisfiable,
    "SlowDown": SlowDown,
    "SlowDownRead": SlowDown,
    "ServiceUnavailable": SlowDown,
    "RequestTimeout": SlowDown,
    "TooManyRequests": SlowDown,
    "InternalError": ServerFault,
    "PermanentRedirect": RedirectRefused,
    "TemporaryRedirect": RedirectRefused,
}
_BY_STATUS: dict[int, type[SourceError]] = {
    403: AccessDenied,
    404: NoSuchKey,
    412: ObjectChanged,
    416: RangeNotSatisfiable,
    429: SlowDown,
    503: SlowDown,
}
_SKEW_SECONDS = 15 * 60


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, what: str) -> SourceError:
    """The error behind a status outside 2xx. `what` names the request for the message, for example ``GET 'key'``."""
    code, message = parse_error(body)
    skew = _clock_skew(headers)
    if code in _BY_CODE:
        kind = _BY_CODE[code]
    elif 300 <= status < 400:
        kind = RedirectRefused
    elif status in _BY_STATUS:
        kind = _BY_STATUS[status]
    else:
        kind = ServerFault if status >= 500 else UnexpectedResponse
    if status == 400 and b"HTTP request to an HTTPS server" in body:
        return NotTls(f"{what}: the server speaks TLS on this port, and was asked without")
    if kind in (AccessDenied, SignatureMismatch) and skew is not None:
        kind = ClockSkewed
    said = f"{status} {code}" if code else str(status)
    line = f"{what}: the server answered {said}" + (f" ({message})" if message else "")
    if kind is ClockSkewed:
        line += f"; server's clock {headers.get('Date', 'unknown')}, ours {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT"
    if kind is RedirectRefused:
        line += f"; it points to {headers.get('Location', 'another place')[:200]}"
    return kind(line)


def parse_error(body: bytes) -> tuple[str, str]:
    """Code and message of an S3 ``<Error>`` document; two empty strings for anything else."""
    if b"<Error" not in body[:512] or b"<!DOCTYPE" in body:
        return "", ""
    from lxml import etree

    try:
        root = etree.fromstring(body, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        return "", ""
    found = {etree.QName(child).localname: " ".join((child.text or "").split()) for child in root}
    return found.get("Code", "")[:64], found.get("Message", "")[:200]


def _clock_skew(headers: Mapping[str, str]) -> float | None:
    try:
        theirs = parsedate_to_datetime(headers["Date"])
    except (KeyError, ValueError, TypeError):
        return None
    seconds = (datetime.now(UTC) - theirs.astimezone(UTC)).total_seconds()
    return seconds if abs(seconds) > _SKEW_SECONDS else None
