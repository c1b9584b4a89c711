"""How a large object is cut: into pieces that are fetched by themselves, and parts that are hashed by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PIECE = 16 << 20
"""Bytes at most that one request fetches, and that a killed download loses of each request under way."""


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


def parts(pieces: Sequence[Piece], part_size: int) -> list[list[int]]:
    """The numbers of the pieces that make up each part; nothing for a `part_size` of 0."""
    found: list[list[int]] = []
    for number, piece in enumerate(pieces if part_size else ()):
        if piece.start % part_size == 0:
            found.append([])
        found[-1].append(number)
    return found
