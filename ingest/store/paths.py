"""Key <-> path below the bucket's directory: pure, injective, and the key itself wherever a file system can hold it.

What it cannot hold is percent-encoded, in upper-case hex: the slash that would make an empty segment, the dots of ``.``
and ``..``, control characters, and ``%`` itself. A segment over 255 bytes is cut and ends in ``%~`` and half of its
SHA-256: the only form that cannot be decoded, so there the catalog alone knows the key.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote_to_bytes

from ingest.errors import UnsafePath

MOST_BYTES = 255
"""Of one path segment, on every common file system (POSIX NAME_MAX)."""
DIGEST_MARK = "%~"
"""What a path that cannot be decoded holds, and no other."""
_DIGEST_LENGTH = 32
_UNSAFE = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no name holds that is made here: `_UNSAFE` without the sign of its escapes, and halves of letters."""
_CUT_ESCAPE = re.compile(r"(%[0-9A-F]?)$")


def encode_key(key: str) -> str:
    """The relative path of a key, with ``/`` between its segments."""
    segments = [""]
    for position, part in enumerate(key.split("/")):
        if position == 0:
            segments[-1] = _escape(part)
        elif segments[-1] == "" or part == "":
            # A real slash here would make an empty segment: it stays in the name, escaped.
            segments[-1] += "%2F" + _escape(part)
        else:
            segments.append(_escape(part))
    return "/".join(_shorten(_undot(segment)) for segment in segments)


def decode_path(path: str) -> str | None:
    """The key of a path; None when a segment was shortened, so that only the catalog knows.

    It also reads the conflict forms of `beside_directory` and `below_file`.
    """
    if DIGEST_MARK in path:
        return None
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")


def beside_directory(path: str) -> str:
    """Another path of the same key, for a file whose own name is taken by a directory: its last segment's first
    character is escaped (``a`` -> ``%61``)."""
    head, slash, name = path.rpartition("/")
    return head + slash + _shorten(_escape_all(name[0]) + name[1:] if name[0] != "%" else _reescape(name))


def below_file(path: str, depth: int) -> str:
    """Another path of the same key, where segment number `depth` (from 0) is taken by a file: the slash behind it is
    escaped (``a/b`` -> ``a%2Fb``)."""
    segments = path.split("/")
    joined = segments[depth] + "%2F" + segments[depth + 1]
    return "/".join([*segments[:depth], _shorten(joined), *segments[depth + 2 :]])


def is_place(local_path: str, bucket: str) -> bool:
    """Whether a copy of `bucket` may lie at `local_path`, relative to the data directory: below the bucket's own, each
    segment a name that `encode_key` can make. A catalog that somebody altered may say anything."""
    own, slash, path = local_path.partition("/")
    return bool(slash) and own == bucket and all(map(_is_name, path.split("/")))


def require_place(local_path: str, bucket: str) -> None:
    """
    Raises:
        UnsafePath: no copy of `bucket` may lie there, so nothing there is read, written or removed.
    """
    if not is_place(local_path, bucket):
        raise UnsafePath(
            f"the recorded path {local_path!r} is no place below {bucket!r}, and is not used; "
            "`ingest verify --repair` takes the object again",
            hint="Somebody altered the catalog: `ingest verify` names every such row, and `ingest db check` asks the "
            "audit trail.",
        )


def _is_name(segment: str) -> bool:
    if segment in ("", ".", "..") or _NO_NAME.search(segment):
        return False
    return len(segment.encode("utf-8")) <= MOST_BYTES


def _escape(part: str) -> str:
    return _UNSAFE.sub(lambda match: _escape_all(match[0]), part)


def _escape_all(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8"))


def _reescape(name: str) -> str:
    # The first character is escaped already; the next plain one takes its place. All-escaped names end in lower case.
    for position, letter in enumerate(name):
        if (
            letter != "%"
            and (position < 1 or name[position - 1] != "%")
            and (position < 2 or name[position - 2] != "%")
        ):
            return name[:position] + _escape_all(letter) + name[position + 1 :]
    return name.lower() if name != name.lower() else name + DIGEST_MARK


def _undot(segment: str) -> str:
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


def _shorten(segment: str) -> str:
    raw = segment.encode("utf-8")
    if len(raw) <= MOST_BYTES:
        return segment
    digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_LENGTH]
    room = MOST_BYTES - len(DIGEST_MARK) - _DIGEST_LENGTH
    head = raw[:room].decode("utf-8", "ignore")
    return _CUT_ESCAPE.sub("", head) + DIGEST_MARK + digest
