"""How a large object is cut: into pieces that are fetched by themselves, and the parts that they make up.

Pieces are computed when they are asked for: how many there are follows from a size that the other side names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

PIECE = 8 << 20
"""Bytes at most that one request fetches: it is held in memory until it is written and hashed, and what a killed
download loses of each request under way."""
LARGEST_OBJECT = 5 << 40
"""Of one object (S3 user guide, "Uploading objects"): what is said to be larger is not begun."""


class Piece(NamedTuple):
    """The bytes from `start` up to, and without, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Pieces(Sequence[Piece]):
    """Pieces that cover `size` bytes in order; none reaches over the end of a part of `part_size` bytes."""

    size: int
    part_size: int

    @property
    def of_a_part(self) -> int:
        """How many make up a part, but for the last."""
        return -(-self.part_size // PIECE)

    def __len__(self) -> int:
        whole_parts, rest = divmod(self.size, self.part_size)
        return whole_parts * self.of_a_part + -(-rest // PIECE)

    @overload
    def __getitem__(self, number: int) -> Piece: ...
    @overload
    def __getitem__(self, number: slice) -> list[Piece]: ...
    def __getitem__(self, number: int | slice) -> Piece | list[Piece]:
        numbers = range(len(self))[number]
        return self._at(numbers) if isinstance(numbers, int) else [self._at(each) for each in numbers]

    def _at(self, number: int) -> Piece:
        part, within = divmod(number, self.of_a_part)
        start = part * self.part_size + within * PIECE
        return Piece(start, min(start + PIECE, (part + 1) * self.part_size, self.size))


def cut(size: int, part_size: int | None = None) -> Pieces:
    """The pieces of an object; the whole is one part where `part_size` is None."""
    return Pieces(size, part_size or max(size, 1))


def pieces_of_parts(pieces: Pieces) -> list[range]:
    """The numbers of the pieces that make up each part."""
    step, end = pieces.of_a_part, len(pieces)
    return [range(first, min(first + step, end)) for first in range(0, end, step)]
