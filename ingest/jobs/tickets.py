"""Which pages are settled: the bookkeeping behind shard cursors and the page memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ingest.model import Shard


@dataclass(slots=True, eq=False)
class Ticket:
    """One page on its way to being recorded: `remaining` outcomes are still to be committed."""

    shard: Shard
    start_after: str
    last_key: str
    complete: bool
    fingerprint: bytes = b""
    listed: int = 0
    skipped: int = 0
    """Of `listed`, those that the run counts as skipped: a remembered page repeats both."""
    settled: bool = True
    """False when an outcome leaves a row that the next run must look at again."""
    remaining: int = 0
    closed: bool = False
    """All outcomes of the page have been announced, so `remaining` can reach its end."""


class Cursor(NamedTuple):
    """How far a shard is recorded: every key up to `key`; `done` when that is all of it."""

    shard: Shard
    key: str
    done: bool


@dataclass(slots=True)
class CursorBook:
    """Orders the pages of each shard, so that a cursor never passes a page that is still at work."""

    _pages: dict[Shard, deque[Ticket]] = field(default_factory=dict)

    def open(self, ticket: Ticket) -> None:
        self._pages.setdefault(ticket.shard, deque()).append(ticket)

    def advance(self) -> Iterator[tuple[Cursor, list[Ticket]]]:
        """For each shard whose first pages are finished: the new cursor, and the tickets it passed."""
        for shard, tickets in list(self._pages.items()):
            passed: list[Ticket] = []
            while tickets and tickets[0].closed and tickets[0].remaining == 0:
                passed.append(tickets.popleft())
            if not tickets:
                del self._pages[shard]
            if passed:
                yield Cursor(shard, passed[-1].last_key, passed[-1].complete), passed
