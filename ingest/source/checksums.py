"""What a server's answer says about an object's bytes, as a `Check`. Pure: reads headers, hashes nothing.

Source: S3 API reference, "Common response headers"; S3 user guide, "Checking object integrity".
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping

from ingest.http.exchange import Headers
from ingest.plan import checks
from ingest.plan.checks import Algorithm, Check
from ingest.source.object_head import ObjectHead, stored_in

_WHOLE, _OF_PARTS = "FULL_OBJECT", "COMPOSITE"
_NUMBER = re.compile("[1-9][0-9]{0,4}")


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
    return _better(by_etag, _stored_check(*stored_in(headers), etag, size, part_size))


def stored_check(stored: Mapping[str, str], kind: str, etag: str, size: int) -> Check | None:
    """A check of the whole object by a checksum that is stored with it, whatever its etag is; None without one."""
    check = _stored_check(stored, kind, etag, size, None)
    return check if check is not None and not check.guesses else None


def check_for_head(head: ObjectHead, *, part_size: int | None = None) -> Check:
    """The same for a HEAD that was made already, of the whole object. `part_size` is as above."""
    by_etag = checks.check_for(head.etag, head.size, encrypted=head.etag_is_opaque, part_size=part_size)
    if _proves(by_etag):
        return by_etag
    return _better(by_etag, _stored_check(head.checksums, head.checksum_type, head.etag, head.size, part_size))


def check_for_part(check: Check, part: ObjectHead) -> Check:
    """A better check of the whole object, from what a HEAD of its first part says of the size of the parts.

    The checksums of such an answer are of that part, and prove nothing of the whole (S3 user guide, "Using part-level
    checksums"): it is the etag, or the checksum that `check` has of the whole, to which the size belongs.
    """
    by_etag = checks.check_for(part.etag, part.size, encrypted=part.etag_is_opaque, part_size=part.part_size)
    if _proves(by_etag) or check.algorithm in (None, Algorithm.MD5_PARTS):
        return by_etag if _proves(by_etag) else check
    digest, _, parts = check.expected.partition("-")
    found = checks.check_by_parts(check.algorithm, bytes.fromhex(digest), int(parts), part.size, part.part_size)
    return found if _proves(found) else check


def _proves(check: Check) -> bool:
    return check.algorithm is not None and not check.guesses


def _better(by_etag: Check, stored: Check | None) -> Check:
    """A stored checksum, unless it is a guess where the etag is something, too."""
    if stored is None or (stored.guesses and by_etag.algorithm is not None):
        return by_etag
    return stored


def _stored_check(stored: Mapping[str, str], kind: str, etag: str, size: int, part_size: int | None) -> Check | None:
    """By the strongest checksum of those that are stored; None where there is none. One of the checksums of the parts
    (``COMPOSITE``) ends in ``-N``. Where neither that nor a type is sent of an upload in parts, as moto does, nobody
    knows of what it is. A CRC64NVME is never of the parts.
    """
    untold = not kind and checks.is_multipart(etag)
    for algorithm, length in checks.HASH_BYTES.items():
        written, _, parts = stored.get(algorithm, "").partition("-")
        try:
            digest = b64decode(written, validate=True)
        except ValueError:  # no base64
            continue
        if len(digest) != length:
            continue
        if kind in ("", _WHOLE) and not parts and (not untold or algorithm is Algorithm.CRC64NVME):
            return Check(algorithm, digest.hex())
        if kind in ("", _OF_PARTS) and _NUMBER.fullmatch(parts):
            by_parts = checks.check_by_parts(algorithm, digest, int(parts), size, part_size)
            return by_parts if by_parts.algorithm is not None else None  # of another number of parts
    return None
