"""What may stand in a request as it is: endpoint, bucket, region and credentials go into the bytes that are sent.

Anything else could end a line or a path early, and make another request of it. No message shows the value, which may
be a secret.
"""

from __future__ import annotations

import re

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])(?::([0-9]{1,5}))?")
_BUCKET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_REGION = re.compile(r"[A-Za-z0-9._-]+")


def scheme_of(address: str) -> str:
    """``http`` or whatever else is written before ``://``; empty without one."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else ""


def host_and_port(address: str) -> str:
    """``host``, ``host:port`` or ``[::1]:port`` of an address with or without its scheme; empty for an empty one.

    Raises:
        ValueError: it is more or less than that. A name with other letters is written in its ``xn--`` form.
    """
    scheme = scheme_of(address)
    found = address.partition("://")[2].removesuffix("/") if scheme else address.removesuffix("/")
    match = _HOST.fullmatch(found)
    if address and (scheme not in ("", "http", "https") or match is None or not _is_port(match[1])):
        raise ValueError("not a host and port")
    return found


def _is_port(digits: str | None) -> bool:
    return digits is None or 0 < int(digits) < 1 << 16


def bucket_name(name: str) -> str:
    """The name as it is: 3 to 63 letters, digits, ``.``, ``-``, ``_``; upper case is what older buckets on AWS have.

    None starts with a dot: it becomes a directory beside our own ``.ingest``. Ceph's ``tenant:bucket`` is none of them:
    botocore, which carries the control plane, knows no such name, and a user of the tenant needs only the bucket's.

    Raises:
        ValueError: it is not one.
    """
    if name and _BUCKET.fullmatch(name) is None:
        raise ValueError("not a bucket name: letters, digits, `.`, `-` and `_`, and no dot at the start")
    if name and not 3 <= len(name) <= 63:
        raise ValueError("bucket names have 3 to 63 characters")
    return name


def region_name(name: str) -> str:
    """The name as it is. Raises `ValueError`."""
    if _REGION.fullmatch(name) is None:
        raise ValueError("not a region: letters, digits, `.`, `-` and `_`")
    return name


def is_header(text: str) -> bool:
    """Whether it may be the value of one header, as a session token is: visible ASCII and blanks."""
    return text.isascii() and text.isprintable()


def is_access_key(text: str) -> bool:
    """As `is_header`, without blanks: it stands among other things in the Authorization header."""
    return is_header(text) and " " not in text
