"""Whatever the order in which messages finish, an offset never passes one that is still at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.plan.offsets import OffsetTracker

offsets = st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted)


@given(offsets, st.data())
def test_what_is_committable_is_the_first_message_at_work(taken: list[int], draw: st.DataObject) -> None:
    tracker = OffsetTracker()
    waiting, open_, finished = list(taken), list[int](), 0
    while waiting or open_:
        if waiting and (not open_ or draw.draw(st.booleans())):
            tracker.take(waiting[0])
            open_.append(waiting.pop(0))
        else:
            done = draw.draw(st.sampled_from(open_))
            tracker.finish(done)
            open_.remove(done)
            finished += 1
        assert tracker.in_flight == len(open_)
        position = tracker.committable
        if position is not None:
            assert finished
            assert all(offset >= position for offset in open_)
            assert position - 1 <= taken[-1]
            if draw.draw(st.booleans()):
                tracker.commit(position)
                assert tracker.committable is None
    # In the end everything is behind the position, committed or not.
    tracker.commit(taken[-1] + 1)
    assert tracker.committable is None


@given(offsets)
def test_nothing_is_committable_while_the_first_is_at_work(taken: list[int]) -> None:
    tracker = OffsetTracker()
    for offset in taken:
        tracker.take(offset)
    for offset in reversed(taken[1:]):
        tracker.finish(offset)
        assert tracker.committable is None
    tracker.finish(taken[0])
    assert tracker.committable == taken[-1] + 1


def test_offsets_only_ascend() -> None:
    tracker = OffsetTracker()
    tracker.take(5)
    with pytest.raises(ValueError, match="5"):
        tracker.take(5)
