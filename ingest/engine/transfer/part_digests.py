"""The MD5s of a multipart upload's parts, by which its etag is checked: taken from the file, several at a time."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ingest.hashing.lanes import AVAILABLE, WIDTH
from ingest.plan.checks import etag_of_parts
from ingest.plan.pieces import Pieces, pieces_of_parts
from ingest.tasks.threads import in_thread, together

if TYPE_CHECKING:
    from ingest.store.partials import Partial

MOST_SIDE_BY_SIDE = 64 << 20
"""Bytes of a part up to which parts wait for others to be hashed side by side: more might have left memory by then."""


class PartDigests:
    """Told which pieces are written; hashes a part when all of its pieces are."""

    def __init__(self, partial: Partial, pieces: Pieces, threads: ThreadPoolExecutor) -> None:
        self._partial = partial
        self._threads = threads
        numbers = pieces_of_parts(pieces)
        self._spans = [(pieces[part[0]].start, pieces[part[-1]].end) for part in numbers]
        self._part_of = [number for number, part in enumerate(numbers) for _ in part]
        self._missing = [len(part) for part in numbers]
        self._digests = [b""] * len(numbers)
        self._ready: deque[int] = deque()
        self._unready = len(numbers)
        self._at_once = WIDTH if AVAILABLE and pieces.part_size <= MOST_SIDE_BY_SIDE else 1
        self._news = asyncio.Event()

    def written(self, number: int) -> None:
        """This piece is on the disk."""
        part = self._part_of[number]
        self._missing[part] -= 1
        if not self._missing[part]:
            self._unready -= 1
            self._ready.append(part)
            self._news.set()

    def all_written(self) -> None:
        """Every piece is."""
        for number in range(len(self._part_of)):
            self.written(number)

    async def run(self) -> None:
        """Hashes every part. Raises `DiskError`."""
        await together(*(self._hash() for _ in range(1 if self._at_once > 1 else os.cpu_count() or 1)))

    def etag(self) -> str:
        """What the upload's etag is, if all bytes are right."""
        return etag_of_parts(self._digests)

    async def _hash(self) -> None:
        while parts := await self._next():
            spans = [self._spans[part] for part in parts]
            digests = await in_thread(self._threads, self._partial.md5_of, spans)
            for part, digest in zip(parts, digests, strict=True):
                self._digests[part] = digest

    async def _next(self) -> list[int]:
        """As many parts as are hashed at once; fewer only where no more will come."""
        while self._unready and len(self._ready) < self._at_once:
            self._news.clear()
            await self._news.wait()
        return [self._ready.popleft() for _ in range(min(self._at_once, len(self._ready)))]
