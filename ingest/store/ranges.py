"""Ranges of one file, read to be hashed: one after the other, or several side by side."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

from ingest.hashing.lanes import AVAILABLE, BLOCK, WIDTH, Md5Lanes, address_of

_SLICE = 128 << 10
"""Bytes read of each range at once: sixteen of them stay in the processor's cache."""
_ALONE = 1 << 20
"""Bytes read at once of a range by itself."""

Range = tuple[int, int]
"""The bytes from the first up to, and without, the second offset."""


def feed(descriptor: int, span: Range, update: Callable[[memoryview], None]) -> None:
    """Hands a range to `update`, in order; less, where the file ends before it. Raises `OSError`."""
    buffer, (start, end) = memoryview(bytearray(_ALONE)), span
    while start < end and (count := os.preadv(descriptor, [buffer[: end - start]], start)):
        update(buffer[:count])
        start += count


def md5_of_ranges(descriptor: int, ranges: Sequence[Range]) -> list[bytes]:
    """The MD5 of each range, in their order. Blocks; holds a few megabytes.

    A range that reaches beyond the end of the file has the MD5 of what there is, and so not the one expected.

    Raises:
        OSError: the file cannot be read.
    """
    length = max(end - start for start, end in ranges)
    alike = [(start, end) for start, end in ranges if end - start == length]
    if not AVAILABLE or len(alike) <= WIDTH // 4:
        return [_md5_of(descriptor, each) for each in ranges]
    digests = dict(zip(alike, _in_lanes(descriptor, [start for start, _ in alike], length), strict=True))
    return [digests.get(each) or _md5_of(descriptor, each) for each in ranges]


def _in_lanes(descriptor: int, starts: Sequence[int], length: int) -> list[bytes]:
    lanes, buffer = Md5Lanes(), bytearray(len(starts) * _SLICE)
    slices = [memoryview(buffer)[at : at + _SLICE] for at in range(0, len(buffer), _SLICE)]
    base = address_of(buffer)
    addresses = [base + at for at in range(0, len(buffer), _SLICE)]
    whole, done = length // BLOCK * BLOCK, 0
    while done < whole:
        size = min(_SLICE, whole - done)
        for start, part in zip(starts, slices, strict=True):
            _read(descriptor, part[:size], start + done)
        lanes.update(addresses, size)
        done += size
    rests = [os.pread(descriptor, length - whole, start + whole) for start in starts]
    return [lanes.digest(lane, rest, length) for lane, rest in enumerate(rests)]


def _read(descriptor: int, buffer: memoryview, offset: int) -> None:
    """Fills the buffer; with zeros where the file ends early, which no digest will match."""
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            buffer[:] = bytes(len(buffer))
            return
        buffer, offset = buffer[count:], offset + count


def _md5_of(descriptor: int, span: Range) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    feed(descriptor, span, digest.update)
    return digest.digest()
