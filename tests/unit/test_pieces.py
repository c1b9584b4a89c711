"""Pieces cover an object once, in order, and respect its parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.plan.pieces import LARGEST_OBJECT, PIECE, cut, pieces_of_parts


@given(st.integers(1, 40 * PIECE), st.none() | st.integers(PIECE // 3, 50 * PIECE))
def test_pieces_cover_everything_once(size: int, part_size: int | None) -> None:
    pieces = cut(size, part_size)
    assert (pieces[0].start, pieces[-1].end) == (0, size)
    assert all(before.end == after.start for before, after in pairwise(pieces))
    assert all(0 < piece.end - piece.start <= PIECE for piece in pieces)
    if part_size:
        assert all(piece.start // part_size == (piece.end - 1) // part_size for piece in pieces)
        grouped = pieces_of_parts(pieces)
        assert [number for numbers in grouped for number in numbers] == list(range(len(pieces)))
        assert len(grouped) == -(-size // part_size)


def test_nothing_has_no_pieces() -> None:
    assert (list(cut(0)), pieces_of_parts(cut(0))) == ([], [])


def test_what_the_other_side_says_takes_no_memory() -> None:
    """Whatever the size and the parts: nothing is listed before it is asked for."""
    pieces = cut(8 * 10**15, 1)
    assert len(pieces) == 8 * 10**15
    assert pieces[-1] == (8 * 10**15 - 1, 8 * 10**15)
    assert pieces[3:5] == [(3, 4), (4, 5)]
    with pytest.raises(IndexError):
        pieces[len(pieces)]


def test_a_piece_is_eight_mebibytes_and_the_largest_object_five_tebibytes() -> None:
    assert (PIECE, LARGEST_OBJECT) == (8 * 1024**2, 5 * 1024**4)
