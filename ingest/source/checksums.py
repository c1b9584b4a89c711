"""What a server's answer says about an object's bytes, as a `Check`. Pure: reads headers, hashes nothing.

Source: S3 API reference, "Common response headers"; S3 user guide, "Checking object integrity".
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping

from ingest.model import Check
from ingest.plan import checks
from ingest.source.heads import ObjectHead
from ingest.source.wire import Headers

_CHECKSUM = b"x-amz-checksum-"
_WHOLE = "FULL_OBJECT"


def check_for_headers(headers: Headers, etag: str, size: int, *, part_size: int | None = None) -> Check:
    """How the body of this answer to GET or HEAD can be checked; `etag` without quotes, `size` of the whole object.

    `part_size` is the first part's size where a HEAD for it was made.
    """
    opaque = (
        headers.get(b"x-amz-server-side-encryption", b"").startswith(b"aws:kms")
        or b"x-amz-server-side-encryption-customer-algorithm" in headers
    )
    by_etag = checks.check_for(etag, size, encrypted=opaque, part_size=part_size)
    if _proves(by_etag):  # nearly always: nothing else needs a look
        return by_etag
    stored = {
        name.removeprefix(_CHECKSUM).decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name.startswith(_CHECKSUM)
    }
    return _stored_check(stored, stored.pop("type", "")) or by_etag


def check_for_head(head: ObjectHead, *, part_size: int | None = None) -> Check:
    """The same for a HEAD that was made already. `part_size` defaults to that of the part it asked for."""
    known = part_size if part_size is not None else head.part_size
    by_etag = checks.check_for(head.etag, head.size, encrypted=head.etag_is_opaque, part_size=known)
    if _proves(by_etag):
        return by_etag
    return _stored_check(head.checksums, head.checksum_type) or by_etag


def _proves(check: Check) -> bool:
    return check.algorithm is not None and not check.guesses


def _stored_check(stored: Mapping[str, str], checksum_type: str) -> Check | None:
    """The strongest checksum over the whole object that can be computed here (not CRC32C and CRC64NVME, without a C
    library for them); None where there is none. One over parts (``COMPOSITE``) ends in ``-N``."""
    if checksum_type not in ("", _WHOLE):
        return None
    for algorithm, length in checks.HASH_BYTES.items():
        try:
            digest = b64decode(stored.get(algorithm, ""), validate=True)
        except ValueError:  # no base64
            continue
        if len(digest) == length:
            return Check(algorithm, digest.hex())
    return None
