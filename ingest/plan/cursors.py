"""Which parts of a listing are finished: the bookkeeping behind the shard cursors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from ingest.model import KnownPage, Page, Shard
from ingest.plan.resuming import Cursor


@dataclass(slots=True, eq=False)
class Part:
    """One part of a shard on its way to being recorded. Its results are announced (`expect`), and each is `recorded`;
    when all were announced it is sealed."""

    shard: Shard
    last_key: str
    complete: bool
    relists: tuple[str, str, str | None] | None = None
    """The range (see `PageNotes`) whose remembered pages no longer hold, whatever comes of it."""
    pages: list[KnownPage] = field(default_factory=list)
    """What to remember of it, if everything in it is settled."""
    unsettled: bool = False
    listed_at: datetime | None = None
    """Of its first answer, as is `seen_before` (see `Page`)."""
    seen_before: int = 0
    _remaining: int = 0
    _sealed: bool = False
    _answers: int = 0

    def shows(self, page: Page) -> None:
        """The part shows what is on this page, one answer after the other."""
        if not self._answers:
            self.listed_at, self.seen_before = page.listed_at, page.seen_before
        self._answers += 1

    def expect(self, results: int = 1) -> None:
        """So many more of its results will be recorded."""
        self._remaining += results

    def recorded(self, *, settled: bool) -> None:
        """One result is; not `settled` if something is left to do about its object."""
        self._remaining -= 1
        self.unsettled = self.unsettled or not settled

    def seal(self) -> None:
        """All results have been announced."""
        self._sealed = True

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be recorded of it."""
        return self._sealed and self._remaining == 0


@dataclass(slots=True)
class Cursors:
    """Orders the parts of each shard, so that a cursor never passes one that is still at work, or in which something is
    left to do: who goes on from there tries again what failed."""

    finished: list[Part] = field(default_factory=list)
    """Parts whose end is not recorded yet."""
    _parts: dict[Shard, deque[Part]] = field(default_factory=dict)
    _stuck: set[Shard] = field(default_factory=set)

    def open(self, part: Part) -> None:
        # A shard that is split gets another end, and stays the same shard.
        shard = part.shard._replace(end=None)
        if shard not in self._stuck:
            self._parts.setdefault(shard, deque()).append(part)

    def advance(self) -> Iterator[Cursor]:
        """How far each shard is done, where that is further than before."""
        for shard, parts in list(self._parts.items()):
            passed: Part | None = None
            while parts and parts[0].is_finished and not parts[0].unsettled:
                passed = parts.popleft()
            if parts and parts[0].is_finished:
                self._stuck.add(shard)
                parts.clear()
            if not parts:
                del self._parts[shard]
            if passed is not None:
                yield Cursor(passed.shard, passed.last_key, passed.complete)
