"""The note beside a partial file: which object it belongs to, and which of its pieces are written.

A line of JSON, then one sign for each piece. A piece that is finished costs one byte written in place: a new file and
a rename for each, as other notes are written, took longer than the piece itself.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self

from ingest.store.regular import open_regular

NOTE, DRAFT = ".note", ".draft"
_MOST_BYTES = 8 << 20
_MISSING, _WRITTEN = b".", b"#"


class Identity(NamedTuple):
    """Which bytes a partial holds, and how they are cut: only the same may go on with it."""

    bucket: str
    """The directory of its copies; notes on disk have it by this name."""
    key: str
    etag: str
    size: int
    part_size: int | None
    piece_size: int


@dataclass
class Note:
    """An open note. It is no proof: what it names is hashed again before the file is published."""

    _descriptor: int
    _marks_at: int

    @classmethod
    def create(cls, directory: int, stem: str, identity: Identity, marks: bytes) -> Self:
        """Writes the note `stem` in `directory`, in the place of an older one. Raises `OSError`."""
        head = json.dumps(identity._asdict()).encode() + b"\n"
        descriptor = open_regular(stem + DRAFT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, dir_fd=directory)
        try:
            os.pwrite(descriptor, head + marks, 0)
            os.replace(stem + DRAFT, stem + NOTE, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(stem + DRAFT, dir_fd=directory)
            raise
        return cls(descriptor, len(head))

    def mark(self, number: int) -> None:
        """The piece is written."""
        with suppress(OSError):  # without the mark, the next run fetches the piece again
            os.pwrite(self._descriptor, _WRITTEN, self._marks_at + number)

    def close(self) -> None:
        os.close(self._descriptor)


def read(directory: int, stem: str) -> tuple[Identity, set[int]] | None:
    """What a note says; None where there is none, or none that can be read."""
    try:
        descriptor = open_regular(stem + NOTE, os.O_RDONLY, dir_fd=directory)
        with os.fdopen(descriptor, "rb") as file:
            head, _, marks = file.read(_MOST_BYTES).partition(b"\n")
        said = json.loads(head)
        identity = Identity(*(said[field] for field in Identity._fields))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return identity, {number for number, mark in enumerate(marks) if mark == _WRITTEN[0]}


def marks_of(finished: set[int], pieces: int) -> bytes:
    """The signs of so many pieces."""
    return b"".join(_WRITTEN if number in finished else _MISSING for number in range(pieces))
