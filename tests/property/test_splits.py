"""Splitting a range never loses a key and never lists one twice, whatever the keys and whatever is asked."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.plan.splits import Probe, branch_points, finer_points, pages_ahead, pieces

INFINITE = float("inf")
KEYS = st.lists(st.text("ab0129/-z~é\U0001f600", min_size=1, max_size=8), min_size=1, max_size=60, unique=True).map(
    sorted
)


def ask(keys: list[str], at: str, end: str | None) -> Probe:
    index = bisect_right(keys, at)
    found = keys[index] if index < len(keys) else None
    return Probe(at, found if found is not None and (end is None or found <= end) else None)


@given(KEYS, st.data())
def test_the_pieces_tile_the_range(keys: list[str], data: st.DataObject) -> None:
    cursor = data.draw(st.sampled_from(keys))
    end = data.draw(st.sampled_from([None, *(key for key in keys if key > cursor)]))
    first = [ask(keys, point, end) for point in branch_points(cursor, "", end, keys[max(0, keys.index(cursor) - 2)])]
    second = [ask(keys, point, end) for point in finer_points(cursor, first, end)]
    cut = pieces(cursor, [*first, *second], end)
    assert cut[0][0] == cursor
    assert cut[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(cut))
    assert all(upto is None or after < upto for after, upto in cut)
    for after, _ in cut[1:]:  # a new piece is never empty: a lister sent there finds something
        assert ask(keys, after, end).found is not None


def test_years_months_and_numbers_are_found() -> None:
    keys = [f"s/{year}/{month:02}/{n:04}" for year in range(2015, 2027) for month in range(1, 13) for n in range(50)]
    cursor = keys[999]
    first = [ask(keys, point, None) for point in branch_points(cursor, "", None, keys[0])]
    second = [ask(keys, point, None) for point in finer_points(cursor, first, None)]
    starts = [after for after, _ in pieces(cursor, [*first, *second], None)]
    assert {"s/2017", "s/2018", "s/2019"} <= set(starts)


@pytest.mark.parametrize(
    ("start", "cursor", "end", "pages", "ahead"),
    [
        ("", "m", None, 3, INFINITE),  # nobody knows where it ends
        ("a", "a", "z", 3, INFINITE),  # not a step was made
        ("k/0", "k/1", "k/2", 5, 5.0),
        ("k/0", "k/1", "k/4", 5, 15.0),
        ("k/0", "k/3", "k/4", 6, 2.0),
        ("k/0", "k/4", "k/4", 6, 0.0),
        ("k/0", "k/1", "k/2", 0, 0.0),
        ("", "\x40", "\x7f", 4, 4 * 63 / 64),  # from the very beginning
        ("long/common/beginning/0", "long/common/beginning/1", "long/common/beginning/3", 2, 4.0),
    ],
)
def test_how_many_pages_lie_ahead(start: str, cursor: str, end: str | None, pages: int, ahead: float) -> None:
    assert pages_ahead(start, cursor, end, pages) == pytest.approx(ahead)


def test_only_the_first_characters_behind_the_common_beginning_count() -> None:
    tail = "x" * 12
    assert pages_ahead("k", f"k{tail}1", f"k{tail}2", 4) == pytest.approx(0.0)
    assert pages_ahead("k/0", "k/\u20ac", "k/\uffff", 4) == 0.0  # above ASCII all are as far
