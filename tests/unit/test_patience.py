"""How long a message waits for its object: longer each time, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.plan.patience import MESSAGE_PATIENCE, next_try

FIRST = datetime(2026, 1, 5, tzinfo=UTC)


def tries(patience: timedelta) -> list[float]:
    """Seconds after the first failure at which the message is tried again."""
    now, found = FIRST, list[float]()
    while (again := next_try(FIRST, now, len(found) + 1, patience)) is not None:
        found.append((again - FIRST).total_seconds())
        now = again
    return found


def test_pauses_double_up_to_a_minute_until_patience_ends() -> None:
    found = tries(timedelta(minutes=15))
    assert found[:8] == [1, 3, 7, 15, 31, 63, 123, 183]
    assert found[-2] < 900 <= found[-1] < 960


def test_unless_something_else_is_said_it_is_a_quarter_of_an_hour() -> None:
    assert next_try(FIRST, FIRST + timedelta(minutes=15), 1) is None
    assert next_try(FIRST, FIRST + timedelta(minutes=15, microseconds=-1), 1) is not None
    assert timedelta(minutes=15) == MESSAGE_PATIENCE


def test_without_patience_nothing_is_tried_again() -> None:
    assert tries(timedelta(0)) == []


def test_a_short_patience_is_not_outlasted_by_one_pause() -> None:
    assert tries(timedelta(seconds=0.5)) == [0.5]


def test_a_message_that_failed_for_years_overflows_nothing() -> None:
    assert next_try(FIRST, FIRST, 10**6, timedelta(minutes=15)) == FIRST + timedelta(minutes=1)
