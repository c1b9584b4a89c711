"""One object as ``multipart/form-data`` (RFC 7578), in the bytes that browsers send (WHATWG HTML, 4.10.21.8).

The fields come first and the file last, so that a service can decide before the bytes arrive.
"""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_UNQUOTABLE = re.compile('[\x00-\x1f\x7f"\\\\]')
"""Browsers escape CR, LF and the quote. Parsers disagree on what a backslash or a control character means: so they go,
too."""
_ANY_TYPE = "application/octet-stream"


class Envelope(NamedTuple):
    """What stands before and behind the file's own bytes."""

    content_type: str
    head: bytes
    tail: bytes


def wrap(boundary: str, key: str, fields: Mapping[str, str]) -> Envelope:
    """The form of one object; `boundary` must not occur in any part, so let it be random."""
    head = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{quote(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    name = file_name(key)
    head.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quote(name)}"\r\n'
        f"Content-Type: {content_type(name)}\r\n\r\n"
    )
    return Envelope(
        f"multipart/form-data; boundary={boundary}",
        "".join(head).encode("utf-8", "replace"),
        f"\r\n--{boundary}--\r\n".encode(),
    )


def quote(name: str) -> str:
    """A name between quotes: what would end it, or split the line, is percent-encoded."""
    return _UNQUOTABLE.sub(lambda match: f"%{ord(match[0]):02X}", name)


def file_name(key: str) -> str:
    """The last segment of the key."""
    return key.rstrip("/").rpartition("/")[2] or key


def content_type(name: str) -> str:
    """By the name's extension alone: `mimetypes.guess_type` would read ``data:…`` as a URL that states its own type."""
    return _types().get(os.path.splitext(name)[1].lower(), _ANY_TYPE)


@lru_cache(maxsize=1)
def _types() -> dict[str, str]:
    return mimetypes.MimeTypes().types_map[True]  # Python's own table: no machine adds to it, newer Pythons do
