"""How far a shard is done: parts end in any order, and a cursor passes none that is at work or has something left."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.model import Page, Shard
from ingest.plan.cursors import Cursors, Part
from ingest.plan.resuming import Cursor

SHARD = Shard("a/")
AT = datetime(2026, 1, 5, tzinfo=UTC)


def part(last_key: str, shard: Shard = SHARD, *, complete: bool = False) -> Part:
    return Part(shard, last_key, complete)


def opened(*parts: Part) -> Cursors:
    cursors = Cursors()
    for each in parts:
        cursors.open(each)
    return cursors


@pytest.mark.parametrize(
    ("sealed", "expected", "recorded", "finished"),
    [
        (False, 0, 0, False),  # more may be announced
        (True, 0, 0, True),
        (True, 2, 1, False),
        (False, 2, 2, False),
        (True, 2, 2, True),
    ],
)
def test_when_a_part_is_finished(sealed: bool, expected: int, recorded: int, finished: bool) -> None:
    one = part("k")
    assert not one.is_finished, "nothing was announced yet"
    one.expect(expected)
    for _ in range(recorded):
        one.recorded(settled=True)
    if sealed:
        one.seal()
    assert one.is_finished is finished


@pytest.mark.parametrize(
    ("results", "unsettled"), [((True, True), False), ((False, True), True), ((True, False), True)]
)
def test_one_result_that_leaves_something_to_do_is_enough(results: tuple[bool, ...], unsettled: bool) -> None:
    one = part("k")
    for settled in results:
        one.expect()
        one.recorded(settled=settled)
    one.seal()
    assert (one.unsettled, one.is_finished) == (unsettled, True)


def test_a_part_is_as_old_as_its_first_answer() -> None:
    one = part("k")
    assert (one.listed_at, one.seen_before) == (None, 0)
    for seen in (7, 9, 11):
        one.shows(Page(SHARD, "", [], True, listed_at=AT if seen == 7 else None, seen_before=seen))
    assert (one.listed_at, one.seen_before) == (AT, 7)


def test_a_cursor_waits_for_the_first_and_goes_as_far_as_all_are_done() -> None:
    first, second, third = part("b"), part("c"), part("d", complete=True)
    cursors = opened(first, second, third)
    second.seal()
    assert list(cursors.advance()) == []
    first.seal()
    assert list(cursors.advance()) == [Cursor(SHARD, "c", False)]
    assert list(cursors.advance()) == [], "not further than before"
    third.seal()
    assert list(cursors.advance()) == [Cursor(SHARD, "d", True)]
    assert list(cursors.advance()) == []


def test_a_cursor_stays_before_what_is_left_to_do_whatever_ends_behind_it() -> None:
    first, second, third = part("b"), part("c"), part("d")
    cursors = opened(first, second, third)
    for each in (first, second, third):
        each.expect()
        each.recorded(settled=each is not second)
        each.seal()
    assert list(cursors.advance()) == [Cursor(SHARD, "b", False)]
    late = part("e", complete=True)
    late.seal()
    cursors.open(late)
    assert list(cursors.advance()) == []


def test_what_is_at_work_still_stops_nothing_for_good() -> None:
    first, second = part("b"), part("c")
    cursors = opened(first, second)
    first.unsettled = True
    second.seal()
    assert list(cursors.advance()) == []
    first.unsettled = False
    first.seal()
    assert list(cursors.advance()) == [Cursor(SHARD, "c", False)]


def test_shards_are_apart_and_a_split_one_stays_itself() -> None:
    mine, other, split = part("b"), part("x", Shard("x/")), part("c", SHARD._replace(end="m"))
    cursors = opened(mine, other, split)
    other.seal()
    split.seal()
    assert list(cursors.advance()) == [Cursor(Shard("x/"), "x", False)]
    mine.seal()
    assert list(cursors.advance()) == [Cursor(SHARD._replace(end="m"), "c", False)]
