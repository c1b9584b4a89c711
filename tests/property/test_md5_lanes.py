"""Hashed side by side or one by one, the digests are those of `hashlib`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.hashing import lanes
from ingest.hashing.lanes import BLOCK, WIDTH, Md5Lanes, address_of, md5_of_each

needs_library = pytest.mark.skipif(not lanes.AVAILABLE, reason="installed without a C compiler")
# Lengths around the ends of blocks, and around where the padding takes one more (RFC 1321, section 3.1).
lengths = st.one_of(st.integers(0, 300), st.sampled_from([BLOCK * 50 + rest for rest in (-1, 0, 1, 55, 56, 63)]))


def messages_of(sizes: Sequence[int]) -> list[memoryview]:
    bodies = (hashlib.shake_128(b"%d" % number).digest(size) for number, size in enumerate(sizes))
    return [memoryview(bytearray(body)) for body in bodies]


@given(st.lists(lengths, max_size=3 * WIDTH))
@example([])
@example([0])
@example([0] * WIDTH)
@example([64] * (WIDTH + 1))
@example([100_000, *([70] * 20), 5_000])
def test_each_message_has_its_own_md5(sizes: list[int]) -> None:
    messages = messages_of(sizes)
    assert md5_of_each(messages) == [hashlib.md5(message).digest() for message in messages]


def test_without_the_library_they_are_hashed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "AVAILABLE", False)
    monkeypatch.setattr(lanes, "_advance", None)
    messages = messages_of([1000] * WIDTH)
    assert md5_of_each(messages) == [hashlib.md5(message).digest() for message in messages]
    with pytest.raises(RuntimeError, match="not built"):
        Md5Lanes()


@needs_library
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(1, WIDTH), st.integers(0, BLOCK - 1))
def test_messages_of_one_length_are_taken_piece_by_piece(steps: list[int], count: int, rest: int) -> None:
    length = BLOCK * sum(steps) + rest
    messages = messages_of([length] * count)
    side_by_side, done = Md5Lanes(), 0
    for step in steps:
        side_by_side.update([address_of(message) + done for message in messages], BLOCK * step)
        done += BLOCK * step
    found = [side_by_side.digest(lane, message[done:], length) for lane, message in enumerate(messages)]
    assert found == [hashlib.md5(message).digest() for message in messages]


@needs_library
def test_the_length_is_counted_beyond_four_gibibits() -> None:
    """A message of 600 MiB has more bits than 32 of them can count (RFC 1321, section 3.2)."""
    chunk = bytearray(1 << 20)
    side_by_side, alone = Md5Lanes(), hashlib.md5()
    for _ in range(600):
        side_by_side.update([address_of(chunk)], len(chunk))
        alone.update(chunk)
    assert side_by_side.digest(0, b"", 600 << 20) == alone.digest()
