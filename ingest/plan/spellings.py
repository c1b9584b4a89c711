"""Which keys a written key may stand for, and which of the objects that exist an event is about."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from urllib.parse import unquote_plus

from ingest.model import RemoteObject
from ingest.plan.etags import etag_of

_NEVER_ENCODED = re.compile(r"[^\x21-\x7e]|%(?![0-9A-Fa-f]{2})")
"""What no form-encoding leaves standing: a space, a letter beyond ASCII, a ``%`` that begins no escape."""
_SLACK = timedelta(minutes=1)
"""Between the clock that dates events and the one that dates objects."""


def of_record(written: str, source: str) -> tuple[str, ...]:
    """The keys that a notification's key may stand for, the likeliest first.

    S3 and MinIO form-encode it, Ceph RGW does not, and both are followed by others; `source` is the record's own word
    for who sent it (``aws:s3``, ``minio:s3``, ``ceph:s3``).

    Raises:
        UnicodeDecodeError: by all signs it is encoded, and what it encodes is not UTF-8.
    """
    literal = source.lower().startswith("ceph") or _NEVER_ENCODED.search(written) is not None
    try:
        decoded = unquote_plus(written, errors="strict")
    except UnicodeDecodeError:
        if literal:
            return (written,)
        raise
    return _unlike(written, decoded) if literal else _unlike(decoded, written)


def is_known(source: str) -> bool:
    """Whether how these keys are written is known: the first of `of_record` is then meant, should several exist."""
    return source.lower().startswith(("aws:", "minio:", "ceph:"))


def of_literal(written: str) -> tuple[str, ...]:
    """The same where a key is written as it is (EventBridge)."""
    try:
        return _unlike(written, unquote_plus(written, errors="strict"))
    except UnicodeDecodeError:
        return (written,)


def is_meant(found: RemoteObject, etag: str | None, said_at: datetime | None) -> bool:
    """Whether an object under another spelling may be the one that an event is about.

    It has the event's etag, or changed since. One that is older than the event and has another etag is another object,
    and the one that was meant is still to come.
    """
    if etag is None or etag == etag_of(found.etag):
        return True
    return said_at is None or found.last_modified >= said_at - _SLACK


def _unlike(*keys: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(keys))
