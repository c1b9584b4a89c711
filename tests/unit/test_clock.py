"""When a clock is believed, and what is recorded while it is not: the table of `plan.clock`, and each bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.plan.clock import NOTED, Reading, believed_after, clock_fault, moment_of
from ingest.source.clock import Clock
from tests.fixtures.lines import lines_said

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
DAY, TICK, NONE = timedelta(days=1), timedelta(microseconds=1), timedelta(0)


@pytest.mark.parametrize(
    ("believed", "ahead", "trusted", "fault"),
    [
        (None, None, False, None),  # nothing was ever recorded
        (NOW - DAY, NONE, False, None),
        (NOW - 100 * DAY, NONE, False, None),  # the machine was off, and the server agrees
        (NOW + 40 * DAY, NONE, False, None),  # one night was on a wrong clock, and the server says that it was
        (NOW - DAY, DAY, False, None),
        (NOW - DAY, DAY + TICK, False, "the server's 2026-02-28"),
        (NOW - DAY, -DAY, False, None),
        (NOW - DAY, -DAY - TICK, False, "the server's 2026-03-02"),
        (NOW - DAY, 2 * DAY, True, "the server's 2026-02-27"),  # no word outranks the server
        # The server does not say.
        (NOW - 7 * DAY, None, False, None),
        (NOW - 7 * DAY - TICK, None, False, "does not say what time it is"),
        (NOW - 8 * DAY, None, True, None),
        (NOW + DAY, None, False, None),
        (NOW + DAY + TICK, None, False, "the last run whose clock is believed was at 2026-03-02"),
        (NOW + 2 * DAY, None, True, None),
    ],
)
def test_when_a_clock_is_not_believed(
    believed: datetime | None, ahead: timedelta | None, trusted: bool, fault: str | None
) -> None:
    found = clock_fault(Reading(NOW, ahead, trusted), believed)
    assert (found is None) is (fault is None)
    assert found is None or (fault or "") in found


@pytest.mark.parametrize(
    ("believed", "ahead", "trusted", "expected"),
    [
        (None, None, False, NOW),
        (None, 2 * DAY, False, None),
        (NOW + 40 * DAY, DAY, False, NOW),  # it settles what was before
        (NOW - DAY, DAY + TICK, False, NOW - DAY),
        (NOW - DAY, -DAY - TICK, True, NOW - DAY),
        (NOW - 7 * DAY, None, False, NOW),
        (NOW - 7 * DAY - TICK, None, False, NOW - 7 * DAY - TICK),  # what jumped ahead is no evidence for the next
        (NOW + DAY, None, False, NOW + DAY),
        (NOW + DAY + TICK, None, False, NOW + DAY + TICK),
        (NOW + 40 * DAY, None, True, NOW),
        (NOW - 40 * DAY, None, True, NOW),
    ],
)
def test_what_the_next_run_believes(
    believed: datetime | None, ahead: timedelta | None, trusted: bool, expected: datetime | None
) -> None:
    assert believed_after(Reading(NOW, ahead, trusted), believed) == expected


@pytest.mark.parametrize(
    ("believed", "ahead", "expected"),
    [
        (None, None, NOW),
        (NOW - DAY, NONE, NOW),
        (None, -NOTED, NOW),
        (None, -NOTED - TICK, NOW + NOTED + TICK),  # ours is behind: the server's
        (None, 40 * DAY, NOW),  # ours is ahead: ours, whoever is wrong
        (NOW + DAY, None, NOW),
        (NOW + DAY + TICK, None, NOW + DAY + TICK),  # earlier than runs before
        (NOW + 40 * DAY, NONE, NOW),
        (NOW - 40 * DAY, None, NOW),
    ],
)
def test_what_is_recorded(believed: datetime | None, ahead: timedelta | None, expected: datetime) -> None:
    assert moment_of(Reading(NOW, ahead), believed) == expected


def test_each_answer_is_compared_and_a_difference_is_said_once() -> None:
    clock = Clock(ours=lambda: NOW)
    with lines_said() as lines:
        clock.see({})
        assert clock.reading == Reading(NOW)
        clock.see({b"date": b"Sun, 01 Mar 2026 02:00:00 GMT"})
        assert clock.reading == Reading(NOW, NONE)
        clock.see({b"date": b"Fri, 10 Apr 2026 02:00:00 GMT", b"age": b"60"})  # out of a cache
        clock.see({b"date": b"none"})
        assert (clock.reading, lines) == (Reading(NOW, NONE), [])
        for second in (b"00", b"01"):
            clock.see({b"date": b"Fri, 10 Apr 2026 02:00:" + second + b" GMT"})
    assert clock.now() == datetime(2026, 4, 10, 2, 0, 1, tzinfo=UTC)
    (said,) = lines
    assert (said["event"], said["log_level"]) == ("clock_off", "warning")
    assert "says 2026-03-01 02:00 UTC, the server's 2026-04-10 02:00" in said["message"]
