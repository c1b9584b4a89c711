"""Which pages are finished: the bookkeeping behind the shard cursors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest.model import Shard


@dataclass(slots=True, eq=False)
class Ticket:
    """One page on its way to being recorded: `remaining` outcomes are still to be committed."""

    shard: Shard
    last_key: str
    complete: bool
    remaining: int = 0
    closed: bool = False
    """All outcomes of the page have been announced, so `remaining` can reach its end."""


@dataclass(slots=True)
class CursorBook:
    """Orders the pages of each shard, so that a cursor never passes a page that is still at work."""

    _pages: dict[Shard, deque[Ticket]] = field(default_factory=dict)

    def open(self, ticket: Ticket) -> None:
        self._pages.setdefault(ticket.shard, deque()).append(ticket)

    def advance(self) -> Iterator[tuple[Shard, str, bool]]:
        """For each shard whose first pages are finished: the last key recorded, and whether that is all of it."""
        for shard, tickets in list(self._pages.items()):
            passed: Ticket | None = None
            while tickets and tickets[0].closed and tickets[0].remaining == 0:
                passed = tickets.popleft()
            if not tickets:
                del self._pages[shard]
            if passed is not None:
                yield shard, passed.last_key, passed.complete
