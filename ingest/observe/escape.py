"""Keys on one line: whatever a key holds, a log line or a terminal shows it harmlessly and reversibly."""

from __future__ import annotations

import encodings.unicode_escape  # noqa: F401 - at first use no file may be left that Python could open
import re

_UNSHOWABLE = re.compile(
    "[\\\\\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]"
)


def escape_key(key: str) -> str:
    """Control, invisible and direction-changing characters become Python's escapes; so does the backslash."""
    return _UNSHOWABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), key)
