"""How an object's bytes are checked: from what the server says to a yes or no. Pure; hashing happens where bytes are."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.model import Check, Verified

if TYPE_CHECKING:
    from hashlib import _Hash

_MD5 = re.compile(r"[0-9a-f]{32}")
_MULTIPART = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")
MIB = 1 << 20
_COMMON_PARTS = (5 * MIB, 8 * MIB, 10 * MIB, 15 * MIB, 16 * MIB, 25 * MIB, 32 * MIB, 50 * MIB, 64 * MIB, 100 * MIB,
                 128 * MIB, 256 * MIB, 512 * MIB, 1024 * MIB, 5_000_000, 8_000_000, 10_000_000, 50_000_000, 100_000_000)  # fmt: skip
"""Part sizes that S3 clients use by default."""


def check_for(etag: str, size: int, *, encrypted: bool = False, part_size: int | None = None) -> Check:
    """What can be checked for an etag (without quotes).

    `encrypted` says that the server encrypts with KMS or a customer's key: then the etag is no MD5 (S3 API, "ETag").
    `part_size` is the first part's size where it is known; otherwise a common one that fits the number of parts.
    """
    if encrypted:
        return Check(None)
    if _MD5.fullmatch(etag):
        return Check("md5", etag)
    multipart = _MULTIPART.fullmatch(etag)
    if multipart is None:
        return Check(None)
    parts = int(multipart[1])
    fitting = [part_size] if part_size else [guess for guess in (size, *_COMMON_PARTS) if _fits(size, guess, parts)]
    return Check("md5-parts", etag, fitting[0]) if len(fitting) == 1 or (fitting and part_size) else Check(None)


def _fits(size: int, part_size: int, parts: int) -> bool:
    return part_size > 0 and -(-size // part_size) == parts


@dataclass(slots=True)
class Hasher:
    """Takes an object's bytes in order, and tells whether they are what `check` expects."""

    check: Check
    _whole: _Hash = field(init=False)
    _part: _Hash = field(init=False)
    _in_part: int = 0
    _parts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._whole = hashlib.sha256() if self.check.algorithm is None else hashlib.md5(usedforsecurity=False)
        self._part = hashlib.md5(usedforsecurity=False)

    def update(self, chunk: bytes | memoryview) -> None:
        self._whole.update(chunk)
        part_size = self.check.part_size
        if self.check.algorithm != "md5-parts" or part_size is None:
            return
        view = memoryview(chunk)
        while view:
            room = part_size - self._in_part
            self._part.update(view[:room])
            self._in_part += len(view[:room])
            view = view[room:]
            if self._in_part == part_size:
                self._end_part()

    def verdict(self) -> Verified | None:
        """None when the bytes are wrong."""
        if self.check.algorithm is None:
            return Verified.UNVERIFIABLE
        if self.check.algorithm == "md5":
            return Verified.VERIFIED if self._whole.hexdigest() == self.check.expected else None
        if self._in_part:
            self._end_part()
        combined = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return Verified.VERIFIED if f"{combined}-{len(self._parts)}" == self.check.expected else None

    def digest(self) -> str:
        """The local bytes' own digest, for the catalog: ``md5:…`` or ``sha256:…``."""
        return f"{self._whole.name}:{self._whole.hexdigest()}"

    def _end_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._in_part = 0
