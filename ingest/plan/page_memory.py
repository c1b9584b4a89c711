"""The page memory's rules (docs/decisions/0009): which pages may be believed, which are listed again, what is kept.

A remembered page covers ``(start_after, last_key]``. Asked for by its own `start_after` and count, a page that comes
back with the same bytes is unchanged, and everything in it was settled: nothing is parsed, read or written. Whatever
could make that false forgets the page: see `settles`, `changes`, `still_holds` and `catalog.page_memory.keep`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ingest.model import HAD_A_COPY, MOST_KEYS, Download, KnownPage, Outcome, Page, Skip, Status
from ingest.plan.etags import timed
from ingest.plan.policy import is_shown
from ingest.plan.selection import Selection

PAGE = MOST_KEYS
"""Keys that a remembered page holds at most."""
SMALL = PAGE // 2
"""Neighbours that are not more than this together are listed as one again, so that deletions do not crumble pages."""
_NEVER = -(1 << 63)
_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_BLANK = b" \t\r\n"
_INDENTED = (b" ", b"\t", b"\r", b"\n")


def entries_span(body: bytes) -> tuple[int, int] | None:
    """Where the entries of an answer lie, from the first to the last; None when it has none."""
    start, end = body.find(_OPEN), body.rfind(_CLOSE)
    return (start, end + len(_CLOSE)) if 0 <= start < end else None


class Gap(NamedTuple):
    """A range that has to be listed: ``(start_after, end]``; an `end` of None is the end of the listing.

    `remembered` says that pages of this range are in the memory, and have to be forgotten.
    """

    start_after: str
    end: str | None
    remembered: bool = False


Segment = KnownPage | Gap


def filters_of(selection: Selection) -> bytes:
    """Under which selection an unwanted object stays so: the window's start, and a digest of what must be equal.

    A window whose start moves on leaves what lay before it unwanted; any other change is another selection.
    """
    told = repr((selection.include, selection.exclude, selection.until and selection.until.isoformat()))
    told += repr(selection.filter) if selection.filter else ""
    since = _NEVER if selection.since is None else int(selection.since.timestamp() * 1_000_000)
    return since.to_bytes(8, "big", signed=True) + hashlib.sha256(told.encode()).digest()


def still_holds(page: KnownPage, filters: bytes) -> bool:
    """Whether what was settled when the page was kept is settled under `filters` (of tonight's selection)."""
    if not page.filters:
        return True
    then, now = (int.from_bytes(each[:8], "big", signed=True) for each in (page.filters, filters))
    return page.filters[8:] == filters[8:] and now >= then


def settles(outcome: Outcome, listed_at: datetime | None) -> bool:
    """Whether nothing is left to do for the object, in the version that the page shows: only a download may leave
    something, or may have met another version. The page was listed at `listed_at` (see `policy.is_shown`)."""
    action = outcome.action
    if not isinstance(action, Download | Skip):
        return True
    if isinstance(action, Download) and outcome.status is not Status.DONE:
        return False
    return outcome.remote is None or is_shown(action.remote, outcome.remote, listed_at)


def shown_otherwise(outcome: Outcome, listed_at: datetime | None) -> str | None:
    """How a page shows the version of which there is a copy, where it shows another etag: by that it is known again."""
    action = outcome.action
    if not isinstance(action, Download | Skip) or outcome.remote is None:
        return None
    listed, own = action.remote, outcome.remote
    if own.etag == listed.etag:  # nearly always: nothing to work out
        return None
    has_a_copy = isinstance(action, Skip) or outcome.copy is not None
    shown = timed(listed.etag, listed.last_modified)
    return shown if has_a_copy and own.etag != shown and is_shown(listed, own, listed_at) else None


def changes(outcome: Outcome) -> bool:
    """Whether the catalog says something else of the object now, so that a page with it may be remembered no longer.

    The bucket may go back to what that page showed. A copy that came again as it was changes nothing.
    """
    action = outcome.action
    if isinstance(action, Skip):
        return False
    if not isinstance(action, Download) or outcome.status is not Status.DONE or action.row is None:
        return True
    row, remote = action.row, outcome.remote or action.remote
    return row.gone or row.state not in HAD_A_COPY or (row.etag, row.size) != (remote.etag, remote.size)


def tile(pages: Iterable[KnownPage], start_after: str, end: str | None, filters: bytes) -> Iterator[Segment]:
    """Covers ``(start_after, end]`` without overlap: with the pages that still hold, in order, and the gaps between.

    Pages that crumbled are gathered into a gap, and so is a page behind a gap: listed together they become whole again.
    """
    reached, held = start_after, None
    for page in pages:
        if page.start_after < reached or (end is not None and page.last_key > end):
            continue  # it overlaps, or reaches over the end: its range is listed instead
        holds = page.start_after == reached and still_holds(page, filters)
        if holds and (held is None or held.listed + page.listed > SMALL):
            if held is not None:
                yield held
            held = page
        else:
            if held is not None and not holds:
                yield held
            yield Gap(held.start_after if held is not None and holds else reached, page.last_key, remembered=True)
            held = None
        reached = page.last_key
    if held is not None:
        yield held
    if end is None or reached < end:
        yield Gap(reached, end)


def entries_of(body: bytes) -> list[bytes]:
    """The entries of an answer, each in its own bytes; empty when more than white space stands between two of them."""
    span = entries_span(body)
    if span is None:
        return []
    entries = [piece.lstrip(_BLANK) + _CLOSE for piece in body[span[0] : span[1]].split(_CLOSE)[:-1]]
    return entries if all(entry.startswith(_OPEN) for entry in entries) else []


def fingerprint(entries: bytes | memoryview) -> bytes:
    """Digests the bytes from the first entry to the last."""
    return hashlib.blake2b(entries, digest_size=32).digest()


def is_unchanged(body: bytes, page: KnownPage) -> bool:
    """Whether an answer holds the page's entries as they were, byte for byte. More may follow: some servers send as
    many as they like."""
    if _digest(body) == page.fingerprint:
        return True
    entries = entries_of(body)
    return len(entries) > page.listed and fingerprint(b"".join(entries[: page.listed])) == page.fingerprint


def _digest(body: bytes) -> bytes:
    """Of the entries of an answer, whatever white space is between them; of nothing, when it has none."""
    span = entries_span(body)
    if span is None:
        return fingerprint(b"")
    start, end = span
    behind_the_first = body.find(_CLOSE, start) + len(_CLOSE)
    if body[behind_the_first : behind_the_first + 1] in _INDENTED and (entries := entries_of(body)):
        return fingerprint(b"".join(entries))
    return fingerprint(memoryview(body)[start:end])


@dataclass(slots=True)
class Region:
    """A range as it was listed tonight, answer by answer: what to remember of it."""

    start_after: str
    filters: bytes
    _keys: list[str] = field(default_factory=list)
    _bodies: list[tuple[bytes, int]] = field(default_factory=list)
    _without_copy: list[str] = field(default_factory=list)
    _readable: bool = True

    def add(self, page: Page, body: bytes, without_copy: Sequence[str]) -> None:
        """One answer: the part of it that belongs to the range, its bytes, and which of its keys have no copy."""
        self._keys.extend(remote.key for remote in page.objects)
        self._bodies.append((body, len(page.objects)))
        self._without_copy.extend(without_copy)
        self._readable = self._readable and not page.undecodable

    def pages(self) -> list[KnownPage]:
        """The range, cut into pages of equal size; empty when it cannot be remembered.

        What lies behind the last key is left to a gap: a page proves nothing beyond its last entry.
        """
        keys = self._keys
        if not keys or not self._readable:
            return []
        if len(self._bodies) == 1 and len(keys) <= PAGE and self._bodies[0][0].count(_CLOSE) == len(keys):
            return [self._page(self.start_after, keys, _digest(self._bodies[0][0]))]
        entries: list[bytes] = []
        for body, count in self._bodies:
            entries.extend(entries_of(body)[:count])
        if len(entries) != len(keys):
            return []
        found, start_after = [], self.start_after
        size = -(-len(keys) // -(-len(keys) // PAGE))
        for first in range(0, len(keys), size):
            some = keys[first : first + size]
            found.append(self._page(start_after, some, fingerprint(b"".join(entries[first : first + size]))))
            start_after = some[-1]
        return found

    def _page(self, start_after: str, keys: Sequence[str], digest: bytes) -> KnownPage:
        skipped = len(self._without_copy)
        if skipped and len(keys) < len(self._keys):
            skipped = len(frozenset(self._without_copy).intersection(keys))
        return KnownPage(start_after, keys[-1], len(keys), skipped, digest, self.filters if skipped else b"")
