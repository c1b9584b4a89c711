"""Key <-> path below the bucket's directory: pure, injective, and the key itself wherever a file system can hold it.

A path that a disk refuses, or takes for another key's, has further forms, each of which still is that of one key.

What it cannot hold is percent-encoded, in upper-case hex: the slash that would make an empty segment, the dots of ``.``
and ``..``, control characters, and ``%`` itself. A segment over 255 bytes is cut and ends in ``%~`` and half of its
SHA-256: the only form that cannot be decoded, so there the catalog alone knows the key.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from functools import partial
from urllib.parse import unquote_to_bytes

from ingest.errors import UnsafePath

MOST_NAME_BYTES = 255
"""Of one path segment, on every common file system (POSIX NAME_MAX)."""
DIGEST_MARK = "%~"
"""What a path that cannot be decoded holds, and no other."""
_DIGEST_LENGTH = 32
_UNSAFE = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no name holds that is made here: `_UNSAFE` without the sign of its escapes, and halves of letters."""
_CUT_ESCAPE = re.compile(r"(%[0-9A-F]?)$")
_FIRST_PLAIN = re.compile(r"((?:%[0-9A-Fa-f]{2})*)([^%])")
_DEVICE = r"(?:con|prn|aux|nul|(?:com|lpt)[0-9\xb9\xb2\xb3])(?:\.|$)"
_WINDOWS = re.compile(rf'["*:<>?\\|]|[. ]+$|^(?={_DEVICE}).', re.IGNORECASE)
"""Signs, endings and names of devices that Windows, and file systems made for it, have no files of."""
_SHORT_NAME = re.compile(r"~(?=[0-9])")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]+")
_SMALLER = (143, 60)
"""Bytes that a name may have on file systems that encrypt names (eCryptfs), and on the oldest ones."""
_UNSEEN = re.compile("[\u0307\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
"""What file systems take for nothing (Unicode, Default_Ignorable_Code_Point) besides the formatting characters (Cf),
and the dot that is left of a dotted capital I."""


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


def beside_namesake(path: str) -> str:
    """Another path of the same key, below the bucket's own directory, for a file whose place is taken by another key's
    on a disk that folds names: one more character is escaped, of the last segment that has any left."""
    segments = path.split("/")
    for depth in range(len(segments) - 1, 0, -1):
        found = _FIRST_PLAIN.match(segments[depth])
        if found is not None:
            changed = _shorten(found[1] + _escape_all(found[2]) + segments[depth][found.end() :])
            return "/".join([*segments[:depth], changed, *segments[depth + 1 :]])
    return beside_directory(path)


def other_form(path: str, depth: int, *, too_long: bool) -> str | None:
    """Another path of the same key, where the disk refuses the name of segment number `depth`, because it is `too_long`
    or for what is in it; None when there is none left."""
    segments = path.split("/")
    for change in _SHORTER if too_long else (*_PLAINER, *_SHORTER):
        changed = change(segments[depth])
        if changed != segments[depth]:
            return "/".join([*segments[:depth], changed, *segments[depth + 1 :]])
    return None


def without_short_names(path: str) -> str:
    """Another path of the same key, which is no short name (``PROGRA~1``) of any other."""
    return "/".join(_shorten(_SHORT_NAME.sub("%7E", segment)) for segment in path.split("/"))


def folded(path: str) -> str:
    """The same for all paths that any file system takes for one: whatever the case, however letters are composed, with
    or without what is not seen and what ends a name in dots and spaces. Some that are two files fold alike as well."""
    if path.isascii():
        return "/".join(segment.rstrip(". ") for segment in path.lower().split("/"))
    return "/".join(map(_fold, path.split("/")))


def is_place(local_path: str, directory: str) -> bool:
    """Whether a copy may lie at `local_path`, relative to the data directory: below the bucket's own `directory`, each
    segment a name that `encode_key` can make. A catalog that somebody altered may say anything."""
    own, slash, path = local_path.partition("/")
    return bool(slash) and own == directory and all(map(_is_name, path.split("/")))


def require_place(local_path: str, directory: str) -> None:
    """
    Raises:
        UnsafePath: no copy may lie there, so nothing there is read, written or removed.
    """
    if not is_place(local_path, directory):
        raise UnsafePath(
            f"the recorded path {local_path!r} is no place below {directory!r}, and is not used; "
            "`ingest verify --repair` takes the object again",
            hint="Somebody altered the catalog: `ingest verify` names every such row, and `ingest db check` asks the "
            "audit trail.",
        )


def _is_name(segment: str) -> bool:
    if segment in ("", ".", "..") or _NO_NAME.search(segment):
        return False
    return len(segment.encode("utf-8")) <= MOST_NAME_BYTES


def _plain_for_windows(segment: str) -> str:
    return _shorten(_WINDOWS.sub(lambda match: _escape_all(match[0]), segment))


def _plain_ascii(segment: str) -> str:
    return _shorten(_BEYOND_ASCII.sub(lambda match: _escape_all(match[0]), segment))


def _fold(segment: str) -> str:
    text = unicodedata.normalize("NFKD", segment).upper().casefold()
    text = _UNSEEN.sub("", unicodedata.normalize("NFKD", text))
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return text.rstrip(". ").replace("/", "\N{FULLWIDTH SOLIDUS}")  # which NFKD made of it


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


def _shorten(segment: str, most: int = MOST_NAME_BYTES) -> str:
    raw = segment.encode("utf-8")
    if len(raw) <= most:
        return segment
    digest = hashlib.sha256(raw).hexdigest()[:_DIGEST_LENGTH]
    room = most - len(DIGEST_MARK) - _DIGEST_LENGTH
    head = raw[:room].decode("utf-8", "ignore")
    return _CUT_ESCAPE.sub("", head) + DIGEST_MARK + digest


_PLAINER: tuple[Callable[[str], str], ...] = (_plain_for_windows, _plain_ascii)
_SHORTER: tuple[Callable[[str], str], ...] = tuple(partial(_shorten, most=most) for most in _SMALLER)
