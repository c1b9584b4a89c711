"""How a range of unknown keys is split between listers, on a server that lists in byte order.

Nobody knows how many keys lie ahead of a lister. Its own key tells where to look: behind each of that key's characters
the tree of keys may branch, and a question for one key behind such a branch tells whether anything is there. Whatever
the answers, the pieces tile the range: a split may be useless, but never loses a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

MOST_PROBES = 48
"""Questions of one round. They are small (one key each) and travel together, so that a round costs one round trip."""
_BRANCHES = 3
"""Levels of the tree, from the top, whose branches are looked for one by one."""
_DIGIT_STEPS = "0123456789:"
_STEPS = "0123456789:ADGJMPSVY[adgjmpsvy{\x7f"
"""Where a branch may begin: every digit, every third letter, and what lies behind each of these kinds."""
_DIGITS = 12
"""Characters that count when the length of a range is estimated."""


class Probe(NamedTuple):
    """One question and its answer: the first key above `at`, or None when the range has none."""

    at: str
    found: str | None


def branch_points(cursor: str, prefix: str, end: str | None, page_start: str) -> list[str]:
    """For each character of `cursor` behind `prefix`: where the keys begin that differ from it there, and lie above.

    `page_start` is the first key of the page that ends with the cursor: what differs behind their common beginning is
    less than a page away.
    """
    upto = min(_shared(page_start, cursor) + 1, len(cursor), len(prefix) + MOST_PROBES)
    points = {cursor[:index] + _next(cursor[index]) for index in range(len(prefix), upto)}
    return sorted(point for point in points if point > cursor and (end is None or point < end))


def finer_points(cursor: str, probes: Sequence[Probe], end: str | None) -> list[str]:
    """Where further branches may begin, at the highest levels that were found to branch."""
    points: set[str] = set()
    levels = 0
    for probe in reversed(probes):  # the shortest last: the highest level first
        level = len(probe.at) - 1
        if probe.found is None or probe.found[:level] != cursor[:level] or len(probe.found) <= level:
            continue
        first = probe.found[level]
        steps = _DIGIT_STEPS if first.isdigit() and cursor[level].isdigit() else _STEPS
        points.update(cursor[:level] + step for step in steps if step > first)
        levels += 1
        if levels == _BRANCHES:
            break
    return sorted(point for point in points if point > cursor and (end is None or point < end))[:MOST_PROBES]


def pieces(cursor: str, probes: Sequence[Probe], end: str | None) -> list[tuple[str, str | None]]:
    """Cuts ``(cursor, end]`` where something begins: ranges that tile it, the first one from the cursor."""
    cuts: list[str] = []
    ascending = sorted(set(probes), key=lambda probe: probe.at)
    for index, probe in enumerate(ascending):
        behind = ascending[index + 1].at if index + 1 < len(ascending) else end
        if probe.found is not None and (behind is None or probe.found <= behind):
            cuts.append(probe.at)
    bounds = [cursor, *cuts, end]
    return [(str(after), upto) for after, upto in pairwise(bounds)]


def pages_ahead(start: str, cursor: str, end: str | None, pages: int) -> float:
    """How many pages lie ahead of a lister that needed `pages` from `start` to `cursor`, if keys are spread evenly."""
    if end is None:
        return float("inf")
    shared = _shared(start, end)
    low, at, high = (_fraction(key[shared:]) for key in (start, cursor, end))
    return pages * (high - at) / (at - low) if at > low else float("inf")


def _next(character: str) -> str:
    code = ord(character) + 1
    return chr(0xE000) if code == 0xD800 else chr(min(code, 0x10FFFF))


def _shared(one: str, other: str) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def _fraction(text: str) -> float:
    value = 0.0
    for character in reversed(text[:_DIGITS]):
        value = (min(ord(character), 127) + value) / 128
    return value
