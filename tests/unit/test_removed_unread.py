"""What counts as removed unread: the rows of the table in `plan.offsets.removed`; and what waits for its doubts."""

from __future__ import annotations

import pytest

from ingest.plan.offsets import OffsetGap, OffsetTracker, removed


@pytest.mark.parametrize(
    ("gap", "committed", "oldest", "expected"),
    [
        (OffsetGap(None, None), None, 500, range(0)),  # a new group has read nothing, and lost nothing
        (OffsetGap(None, None), 0, 0, range(0)),
        (OffsetGap(None, None), 500, 500, range(0)),
        (OffsetGap(None, None), 501, 500, range(0)),
        (OffsetGap(None, None), 500, 0, range(0)),  # the topic was made anew
        (OffsetGap(None, None), 499, 500, range(499, 500)),
        (OffsetGap(None, None), 0, 500, range(500)),
        (OffsetGap(10, 20), None, 0, range(0)),  # compacted
        (OffsetGap(10, 20), None, 10, range(0)),
        (OffsetGap(10, 20), None, 11, range(10, 11)),
        (OffsetGap(10, 20), None, 20, range(10, 20)),
        (OffsetGap(10, 20), None, 90, range(10, 20)),  # more was removed since, and that was read
        (OffsetGap(10, 20), 3, 15, range(10, 15)),
    ],
)
def test_removed(gap: OffsetGap, committed: int | None, oldest: int, expected: range) -> None:
    assert list(removed(gap, committed, oldest)) == list(expected)


def test_nothing_is_committed_before_each_doubt_is_cleared_up() -> None:
    tracker = OffsetTracker(doubts=2)
    tracker.take(7)
    tracker.finish(7)
    offered = []
    for _ in range(2):
        offered.append((tracker.doubts, tracker.committable))
        tracker.believe()
    assert offered == [(2, None), (1, None)]
    assert (tracker.doubts, tracker.committable) == (0, 8)
