"""How an object's bytes are checked: from what the server says to a yes or no. Pure: the bytes are handed in."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

from ingest.model import Verified
from ingest.plan.etags import Shape, etag_of, is_void, shape_of


class Algorithm(StrEnum):
    """What bytes are checked by, in the words of the S3 API's headers and of a copy's digest."""

    MD5 = "md5"
    MD5_PARTS = "md5-parts"
    """The MD5 of the parts' MD5s: the etag of an upload in parts."""
    SHA256 = "sha256"
    SHA1 = "sha1"
    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    CRC32 = "crc32"


class Check(NamedTuple):
    """How an object's bytes can be checked: by `algorithm` over the whole, or over parts of `part_size` bytes.

    `expected` is lower-case hex, with ``-N`` behind it where it is of N parts. An `algorithm` of None means that the
    server says nothing checkable. Where the part size is not known, `guesses` holds likely ones: a match with any is a
    proof, a mismatch with all is none.
    """

    algorithm: Algorithm | None
    expected: str = ""
    part_size: int | None = None
    """Of ``md5-parts``, whose parts can be hashed side by side."""
    guesses: tuple[int, ...] = ()
    checksum_part_size: int | None = None
    """Of a stored checksum of the parts' checksums (``COMPOSITE``)."""


MIB = 1 << 20
COMMON_PART_SIZES = (
    *(count * MIB for count in (8, 5, 16, 64, 10, 15, 25, 32, 50, 100, 128, 256, 512, 1024)),
    *(5_000_000, 8_000_000, 10_000_000, 50_000_000, 100_000_000),
)
"""Bytes: the part sizes that S3 clients use by default, the usual ones first."""
MOST_GUESSES = 3
"""Part sizes that are tried at once: each costs one more MD5 over all bytes."""
_MOST_HASHED = 16 << 30
"""Bytes that finding out the part size of one object may hash, in all."""
HASH_BYTES = {
    Algorithm.SHA256: 32,
    Algorithm.SHA1: 20,
    Algorithm.CRC64NVME: 8,
    Algorithm.CRC32C: 4,
    Algorithm.CRC32: 4,
}
"""What `Hasher` knows besides MD5, strongest first, and how long each is."""


def check_for(etag: str, size: int, *, encrypted: bool = False, part_size: int | None = None) -> Check:
    """What can be checked for an etag, or the name of a version.

    `encrypted` says that the server encrypts with KMS or a customer's key: then the etag is no MD5 (S3 API, "ETag").
    `part_size` is the first part's size where it is known; otherwise those that fit the number of parts are guessed.
    """
    etag = etag_of(etag)
    shape = shape_of(etag)
    if encrypted or shape is None or is_void(etag, size):
        return Check(None)
    if shape is Shape.WHOLE:
        return Check(Algorithm.MD5, etag)
    parts = int(etag.partition("-")[2])
    if shape is Shape.ONE_PART:
        return Check(Algorithm.MD5_PARTS, etag, max(size, 1))
    if part_size is not None and part_size != size:  # a server that ignores partNumber answers with the whole object
        return Check(Algorithm.MD5_PARTS, etag, part_size) if _fits(size, part_size, parts) else Check(None)
    guesses = inferred_part_sizes(size, parts)
    return Check(Algorithm.MD5_PARTS, etag, guesses=tuple(guesses)) if guesses else Check(None)


def is_multipart(etag: str) -> bool:
    """Whether the object was uploaded in parts, as its etag has it (or the name of its version)."""
    return shape_of(etag_of(etag)) in (Shape.ONE_PART, Shape.PARTS)


def check_by_parts(algorithm: Algorithm, digest: bytes, parts: int, size: int, part_size: int | None = None) -> Check:
    """What can be checked for a stored checksum of the checksums of so many `parts` of an object of `size` bytes."""
    expected = f"{digest.hex()}-{parts}"
    if parts == 1:
        return Check(algorithm, expected, checksum_part_size=max(size, 1))
    if part_size is not None and part_size != size:  # as for an etag
        fits = _fits(size, part_size, parts)
        return Check(algorithm, expected, checksum_part_size=part_size) if fits else Check(None)
    # Where no common size fits, one that cannot match keeps what is expected, until the part size is asked for.
    return Check(algorithm, expected, guesses=tuple(inferred_part_sizes(size, parts)) or (max(size, 1),))


def inferred_part_sizes(size: int, parts: int) -> Sequence[int]:
    """The common part sizes that cut `size` bytes into `parts`; the likeliest first, and not many."""
    return [guess for guess in COMMON_PART_SIZES if _fits(size, guess, parts)][:MOST_GUESSES]


def possible_part_sizes(size: int, parts: int, known: Iterable[int] = ()) -> list[int]:
    """The part sizes that may have cut `size` bytes into `parts`, the likeliest first: those that are `known` of other
    uploads, the common ones, every whole MiB, even parts, every million bytes. As many as are worth hashing."""
    if parts < 2 or size <= 0:
        return []
    least, most = -(-size // parts), (size - 1) // (parts - 1)
    every_mib, every_million = (range(-(-least // unit) * unit, most + 1, unit) for unit in (MIB, 10**6))
    enough, found = max(MOST_GUESSES, _MOST_HASHED // size), dict[int, None]()
    for guess in chain(known, COMMON_PART_SIZES, every_mib, (least,), every_million):
        if _fits(size, guess, parts):
            found[guess] = None
        if len(found) == enough:
            break
    return list(found)


def _fits(size: int, part_size: int, parts: int) -> bool:
    return part_size > 0 and -(-size // part_size) == parts


def etag_of_parts(digests: Sequence[bytes]) -> str:
    """What S3 servers give a multipart upload for an etag: the MD5 of its parts' MD5s, and their number."""
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


class Hashed(NamedTuple):
    """What an object's bytes turned out to be: their digest, and the verdict on them; None: they are wrong."""

    digest: str
    verdict: Verified | None


def compared(digest: str, check: Check) -> Hashed:
    """The whole object's digest, as ``algorithm:hex``, against a check by that same algorithm."""
    matches = digest == f"{check.algorithm}:{check.expected}"
    return Hashed(digest, Verified.VERIFIED if matches else None)


def hashed(chunks: Sequence[bytes | memoryview], check: Check) -> Hashed:
    """The chunks, one behind the other, against `check`."""
    hasher = Hasher(check)
    for chunk in chunks:
        hasher.update(chunk)
    return Hashed(hasher.digest(), hasher.verdict())


class _Digest(Protocol):
    def update(self, chunk: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...

    def hexdigest(self) -> str: ...


@dataclass(slots=True)
class Hasher:
    """Takes an object's bytes in order, and tells whether they are what `check` expects."""

    check: Check
    _own: hashlib._Hash = field(init=False)
    _others: list[_Digest] = field(init=False)

    def __post_init__(self) -> None:
        # SHA-256 is the faster of the two where the processor has it, so it names all but what MD5 checks anyway.
        self._own = hashlib.md5(usedforsecurity=False) if self.check.algorithm is Algorithm.MD5 else hashlib.sha256()
        self._others = _other_digests(self.check)

    def update(self, chunk: bytes | memoryview) -> None:
        self._own.update(chunk)
        for other in self._others:
            other.update(chunk)

    def verdict(self) -> Verified | None:
        """None when the bytes are wrong. Where the part size is a guess, a mismatch proves nothing."""
        if self.check.algorithm is None:
            return Verified.UNVERIFIABLE
        expected = self.check.expected
        if any(digest.hexdigest() == expected for digest in self._others or (self._own,)):
            return Verified.VERIFIED
        return Verified.UNVERIFIABLE if self.check.guesses else None

    def digest(self) -> str:
        """The local bytes' own digest, for the catalog: ``md5:…`` or ``sha256:…``."""
        return f"{self._own.name}:{self._own.hexdigest()}"


def _other_digests(check: Check) -> list[_Digest]:
    if check.algorithm is None:
        return []
    new = partial(_new_digest, check.algorithm)
    sizes = check.guesses or tuple(size for size in (check.part_size, check.checksum_part_size) if size is not None)
    if sizes:
        return [_ByParts(new, size) for size in sizes]
    return [] if check.algorithm in (Algorithm.MD5, Algorithm.SHA256) else [new()]


def _new_digest(algorithm: Algorithm) -> _Digest:
    match algorithm:
        case Algorithm.MD5 | Algorithm.MD5_PARTS:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.SHA1 | Algorithm.SHA256:
            return hashlib.new(algorithm.value, usedforsecurity=False)
        case Algorithm.CRC32:
            return _Crc(zlib.crc32, HASH_BYTES[algorithm])
        case Algorithm.CRC32C | Algorithm.CRC64NVME:
            import anycrc  # only where a server says such a thing; Python itself cannot compute it

            model = "CRC32-ISCSI" if algorithm is Algorithm.CRC32C else "CRC64-NVME"
            return _Crc(anycrc.Model(model).calc, HASH_BYTES[algorithm])


class _Crc:
    """`compute` takes bytes and the value of those before them; a digest of `size` bytes, the highest first."""

    def __init__(self, compute: Callable[[bytes | memoryview, int], int], size: int) -> None:
        self._compute = compute
        self._size = size
        self._value = 0

    def update(self, chunk: bytes | memoryview, /) -> None:
        self._value = self._compute(chunk, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")

    def hexdigest(self) -> str:
        return self.digest().hex()


class _ByParts:
    """The digest of the parts' digests, and their number: what S3 servers give a multipart upload as its etag, and as
    its checksum where that is ``COMPOSITE``.
    """

    def __init__(self, new: Callable[[], _Digest], part_size: int) -> None:
        self._new = new
        self._part_size = part_size
        self._part = new()
        self._room = part_size
        self._finished: list[bytes] = []

    def update(self, chunk: bytes | memoryview, /) -> None:
        view = memoryview(chunk)
        while view:
            if self._room == 0:
                self._finished.append(self._part.digest())
                self._part = self._new()
                self._room = self._part_size
            taken = view[: self._room]
            self._part.update(taken)
            self._room -= len(taken)
            view = view[len(taken) :]

    def digest(self) -> bytes:
        whole = self._new()
        whole.update(b"".join([*self._finished, self._part.digest()]))
        return whole.digest()

    def hexdigest(self) -> str:
        return f"{self.digest().hex()}-{len(self._finished) + 1}"
