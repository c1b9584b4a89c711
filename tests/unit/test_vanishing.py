"""How many may be gone at once: each bound, and its edges."""

from __future__ import annotations

import pytest

from ingest.plan.vanishing import MOST_GONE, MostGone


@pytest.mark.parametrize(
    ("most", "gone", "live", "allowed"),
    [
        (MOST_GONE, 0, 0, True),
        (MOST_GONE, 99, 99, True),  # a small bucket may be emptied
        (MOST_GONE, 50, 100, True),
        (MOST_GONE, 51, 100, False),
        (MOST_GONE, 100, 200, True),
        (MOST_GONE, 101, 201, False),
        (MostGone(number=0), 0, 5, True),
        (MostGone(number=0), 1, 5, False),
        (MostGone(number=10), 10, 10, True),
        (MostGone(number=10), 11, 1_000_000, False),
        (MostGone(percent=0), 0, 100, True),
        (MostGone(percent=0), 1, 100, False),
        (MostGone(percent=20), 20, 100, True),
        (MostGone(percent=20), 21, 104, False),
        (MostGone(percent=100), 7, 7, True),
        (MostGone(), 7, 7, True),
    ],
)
def test_how_many_may_be_gone(most: MostGone, gone: int, live: int, allowed: bool) -> None:
    assert most.allows(gone, live) is allowed


@pytest.mark.parametrize(
    ("unmarked", "gone", "allowed"),
    [(0, 120, True), (120, 120, False), (120, 61, False), (120, 60, True), (1, 1, False)],
)
def test_what_was_refused_stays_refused_while_it_is_missing(unmarked: int, gone: int, allowed: bool) -> None:
    assert MOST_GONE.allows(gone, 1_000, unmarked) is allowed


def test_it_is_recorded_as_it_was_written() -> None:
    assert [str(each) for each in (MostGone(number=12), MostGone(percent=20), MostGone())] == ["12", "20%", "100%"]
