"""How a large object is cut: into pieces that are fetched by themselves, and the parts that they make up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

PIECE = 8 << 20
"""Bytes at most that one request fetches: it is held in memory until it is written and hashed, and what a killed
download loses of each request under way."""


class Piece(NamedTuple):
    """The bytes from `start` up to, and without, `end`."""

    start: int
    end: int


def cut(size: int, part_size: int | None = None) -> list[Piece]:
    """Pieces that cover `size` bytes in order; none reaches over the end of a part of `part_size` bytes."""
    part = part_size or max(size, 1)
    return [
        Piece(start, min(start + PIECE, part_end))
        for part_start in range(0, size, part)
        for part_end in (min(part_start + part, size),)
        for start in range(part_start, part_end, PIECE)
    ]


def pieces_of_parts(pieces: Sequence[Piece], part_size: int) -> list[range]:
    """The numbers of the pieces that make up each part."""
    starts = [number for number, piece in enumerate(pieces) if piece.start % part_size == 0]
    return [range(first, behind) for first, behind in pairwise([*starts, *[len(pieces)] * bool(pieces)])]
