"""The MD5s of several messages at once: five times as fast as one after the other, where the library was built.

Without it (no compiler at installation) `AVAILABLE` is false, and `hashlib` does the same work one by one.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

WIDTH = 16
"""Messages that are hashed side by side."""
BLOCK = 64
"""Bytes that one step of MD5 takes (RFC 1321)."""
_ALONE = 3.0
"""How much longer one message takes in a lane than by `hashlib`: few, or very different ones, are not worth lanes."""
_START = struct.pack(
    f"<{4 * WIDTH}I", *(word for word in (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476) for _ in range(WIDTH))
)

_Addresses = ctypes.c_void_p * WIDTH
_States = ctypes.c_uint32 * (4 * WIDTH)


def _load() -> Callable[..., None] | None:
    try:
        found = ctypes.CDLL(str(Path(__file__).with_name("_md5_lanes.so"))).ingest_md5_advance
    except (OSError, AttributeError):
        return None
    found.argtypes = (_States, _Addresses, ctypes.c_size_t)
    found.restype = None
    return found


_advance = _load()
AVAILABLE = _advance is not None


class Md5Lanes:
    """MD5s of up to `WIDTH` messages, side by side. Only where `AVAILABLE`; calls release the interpreter's lock."""

    def __init__(self) -> None:
        if _advance is None:
            raise RuntimeError("the library of MD5 lanes was not built")
        self._advance = _advance
        self._states = _States.from_buffer_copy(_START)

    def update(self, addresses: Sequence[int], size: int) -> None:
        """Takes `size` bytes, a multiple of `BLOCK`, from each of the addresses; lane by lane, in their order.

        The memory behind them must stay as it is meanwhile. Lanes without an address hash something of no meaning.
        """
        self._advance(self._states, _filled(addresses), size // BLOCK)

    def digest(self, lane: int, rest: bytes | memoryview, length: int) -> bytes:
        """The MD5 of one lane's message of `length` bytes, whose last ones, fewer than `BLOCK`, are `rest`."""
        end = bytearray(rest)
        end += b"\x80" + bytes(-(len(rest) + 9) % BLOCK) + struct.pack("<Q", (8 * length) & (2**64 - 1))
        states = _States.from_buffer_copy(self._states)
        self._advance(states, _filled([address_of(end)]), len(end) // BLOCK)
        return struct.pack("<4I", *states[lane::WIDTH])


def md5_of_each(messages: Sequence[memoryview]) -> list[bytes]:
    """The MD5 of every message, in their order."""
    digests: dict[int, bytes] = {}
    left = sorted(range(len(messages)), key=lambda number: len(messages[number]))
    while left:
        group = left[-WIDTH:]
        longest = len(messages[group[-1]])
        if AVAILABLE and sum(len(messages[number]) for number in group) > _ALONE * longest:
            for number, digest in zip(group, _in_lanes([messages[number] for number in group]), strict=True):
                digests[number] = digest
        else:
            group = group[-1:]
            digests[group[0]] = hashlib.md5(messages[group[0]], usedforsecurity=False).digest()
        del left[-len(group) :]
    return [digests[number] for number in range(len(messages))]


def _in_lanes(messages: Sequence[memoryview]) -> list[bytes]:
    """The messages come by length, the shortest first. A lane whose message has ended reads on in the longest one."""
    lanes, digests, done = Md5Lanes(), [], 0
    addresses = [address_of(message) for message in messages]
    for lane, message in enumerate(messages):
        whole = len(message) // BLOCK * BLOCK
        if whole > done:
            lanes.update([address + done for address in addresses], whole - done)
            done = whole
        addresses[lane] = addresses[-1]
        digests.append(lanes.digest(lane, message[whole:], len(message)))
    return digests


def address_of(buffer: bytearray | memoryview) -> int:
    """Where its bytes lie, which must be writable; valid as long as `buffer` is kept, and keeps its length."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0


def _filled(addresses: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """For all lanes; those without a message read what the first one reads."""
    return _Addresses(*map(ctypes.c_void_p, (*addresses, *[addresses[0]] * (WIDTH - len(addresses)))))
