"""What counts as removed unread: the rows of the table in `plan.offsets.removed`."""

from __future__ import annotations

import pytest

from ingest.plan.offsets import Gap, removed


@pytest.mark.parametrize(
    ("gap", "committed", "oldest", "expected"),
    [
        (Gap(None, None), None, 500, range(0)),  # a new group has read nothing, and lost nothing
        (Gap(None, None), 0, 0, range(0)),
        (Gap(None, None), 500, 500, range(0)),
        (Gap(None, None), 501, 500, range(0)),
        (Gap(None, None), 500, 0, range(0)),  # the topic was made anew
        (Gap(None, None), 499, 500, range(499, 500)),
        (Gap(None, None), 0, 500, range(500)),
        (Gap(10, 20), None, 0, range(0)),  # compacted
        (Gap(10, 20), None, 10, range(0)),
        (Gap(10, 20), None, 11, range(10, 11)),
        (Gap(10, 20), None, 20, range(10, 20)),
        (Gap(10, 20), None, 90, range(10, 20)),  # more was removed since, and that was read
        (Gap(10, 20), 3, 15, range(10, 15)),
    ],
)
def test_removed(gap: Gap, committed: int | None, oldest: int, expected: range) -> None:
    assert list(removed(gap, committed, oldest)) == list(expected)
