"""What a HEAD says of an object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from ingest.errors import UnexpectedResponse
from ingest.http.dates import parse_http_date
from ingest.http.exchange import Headers
from ingest.plan.etags import Shape, named, plain

_CHECKSUM = b"x-amz-checksum-"
_MOST_DIGITS = 18


class ObjectHead(NamedTuple):
    """Sizes in bytes, `etag` without quotes, `last_modified` in UTC."""

    size: int
    """Of the whole object, also where one part was asked for."""
    etag: str
    last_modified: datetime
    storage_class: str
    parts_count: int | None
    """Told only where one part was asked for."""
    part_size: int | None
    """Of the part that was asked for; None where the whole object was."""
    checksums: Mapping[str, str]
    """Algorithm in lower case -> base64, as stored with the object; with ``-N`` behind it where it is of N parts."""
    checksum_type: str
    """``FULL_OBJECT``, ``COMPOSITE`` or empty."""
    sse: str
    """``AES256``, ``aws:kms``, ``aws:kms:dsse``, ``customer`` or empty."""
    version_id: str
    restore: str
    """``x-amz-restore``: whether a copy of an archived object can be read now; empty where it is not archived."""
    version: str = ""
    """The name of the version (see `plan.etags`)."""
    date: datetime | None = None
    """The server's clock, where it says."""

    @property
    def etag_is_opaque(self) -> bool:
        """With KMS or a customer's key the etag is not an MD5 (S3 API, "Common response headers")."""
        return self.sse.startswith("aws:kms") or self.sse == "customer"


def version_in(headers: Headers, size: int, opaque: Collection[Shape] = ()) -> str:
    """The name of the version that an answer is of; empty where it says neither an etag nor when it was changed.

    `opaque` are the shapes of etag that are no MD5s on this server.
    """
    return named(plain(_text(headers, b"etag")), size, parse_http_date(headers.get(b"last-modified", b"")), opaque)


def stored_in(headers: Headers) -> tuple[Mapping[str, str], str]:
    """The checksums that an answer says are stored with its object, as in `ObjectHead`, and their type."""
    stored = {
        name.removeprefix(_CHECKSUM).decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name.startswith(_CHECKSUM)
    }
    return stored, stored.pop("type", "")


def parse_head(headers: Headers, what: str, *, is_part: bool, opaque: Collection[Shape] = ()) -> ObjectHead:
    """
    Raises:
        UnexpectedResponse: size or date are missing.
    """
    sent = _number(headers.get(b"content-length", b""))
    total = _number(headers.get(b"content-range", b"").rpartition(b"/")[2])
    modified = parse_http_date(headers.get(b"last-modified", b""))
    size = total if total is not None else sent
    if size is None or modified is None:
        raise UnexpectedResponse(f"{what}: the answer lacks size or date")
    checksums, kind = stored_in(headers)
    customer = b"x-amz-server-side-encryption-customer-algorithm" in headers
    return ObjectHead(
        size=size,
        etag=plain(_text(headers, b"etag")),
        last_modified=modified,
        storage_class=_text(headers, b"x-amz-storage-class") or "STANDARD",
        parts_count=_number(headers.get(b"x-amz-mp-parts-count", b"")),
        part_size=sent if is_part else None,
        checksums=checksums,
        checksum_type=kind,
        sse="customer" if customer else _text(headers, b"x-amz-server-side-encryption"),
        version_id=_text(headers, b"x-amz-version-id"),
        version=version_in(headers, size, opaque),
        date=parse_http_date(headers.get(b"date", b"")),
        restore=_text(headers, b"x-amz-restore"),
    )


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) <= _MOST_DIGITS else None
