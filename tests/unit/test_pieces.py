"""Pieces cover an object once, in order, and respect its parts."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.plan.pieces import PIECE, cut, pieces_of_parts


@given(st.integers(1, 40 * PIECE), st.none() | st.integers(PIECE // 3, 50 * PIECE))
def test_pieces_cover_everything_once(size: int, part_size: int | None) -> None:
    pieces = cut(size, part_size)
    assert (pieces[0].start, pieces[-1].end) == (0, size)
    assert all(before.end == after.start for before, after in pairwise(pieces))
    assert all(0 < piece.end - piece.start <= PIECE for piece in pieces)
    if part_size:
        assert all(piece.start // part_size == (piece.end - 1) // part_size for piece in pieces)
        grouped = pieces_of_parts(pieces, part_size)
        assert [number for numbers in grouped for number in numbers] == list(range(len(pieces)))
        assert len(grouped) == -(-size // part_size)


def test_nothing_has_no_pieces() -> None:
    assert (cut(0), pieces_of_parts([], 5)) == ([], [])
