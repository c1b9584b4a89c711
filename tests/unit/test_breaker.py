"""The circuit breaker under a clock of our own."""

from __future__ import annotations

from ingest.plan.breaker import Breaker, Circuit


def circuit_of(breaker: Breaker) -> Circuit:
    """Read anew each time: a type checker takes what it saw once for the rest of the function."""
    return breaker.circuit


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3)
    for outcome in (False, False, True, False, False):
        assert breaker.may_start(0.0)
        breaker.succeeded() if outcome else breaker.failed(0.0)
    assert circuit_of(breaker) is Circuit.CLOSED
    breaker.failed(0.0)
    assert circuit_of(breaker) is Circuit.OPEN
    assert not breaker.may_start(0.9)
    assert breaker.wait(0.25) == 0.75


def test_one_probe_decides() -> None:
    breaker = Breaker(threshold=1)
    breaker.failed(10.0)
    assert breaker.may_start(11.0)
    assert circuit_of(breaker) is Circuit.HALF_OPEN
    assert not breaker.may_start(11.0), "one probe at a time"
    breaker.succeeded()
    assert circuit_of(breaker) is Circuit.CLOSED
    assert breaker.may_start(11.0)
    assert breaker.may_start(11.0)


def test_its_pauses_grow_up_to_a_bound_and_start_anew_after_a_success() -> None:
    breaker, now, pauses = Breaker(threshold=1, first_pause=1.0, longest_pause=5.0), 0.0, []
    breaker.failed(now)
    for _ in range(4):
        pauses.append(breaker.wait(now))
        now += pauses[-1]
        assert breaker.may_start(now)
        breaker.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 5.0]
    now += breaker.wait(now)
    assert breaker.may_start(now)
    breaker.succeeded()
    breaker.failed(now)
    assert breaker.wait(now) == 1.0


def test_failures_of_requests_that_began_before_it_opened_change_nothing() -> None:
    breaker = Breaker(threshold=2)
    for _ in range(10):
        breaker.failed(0.0)
    assert breaker.wait(0.0) == 1.0


def test_a_probe_that_was_not_made_leaves_room_for_another() -> None:
    breaker = Breaker(threshold=1)
    breaker.failed(0.0)
    assert breaker.may_start(1.0)
    breaker.unused()
    assert circuit_of(breaker) is Circuit.OPEN
    assert breaker.may_start(1.0)


def test_a_fault_that_concerns_all_opens_it_at_once() -> None:
    breaker = Breaker(threshold=5)
    breaker.trip(0.0)
    assert not breaker.may_start(0.5)


def test_a_hold_stops_everything_for_its_time_and_is_no_failure() -> None:
    breaker = Breaker(threshold=1)
    breaker.hold(0.0, 30.0)
    breaker.hold(0.0, 10.0)
    assert breaker.wait(31.0) == 0.0
    assert circuit_of(breaker) is Circuit.CLOSED
    assert not breaker.may_start(29.0)
    assert breaker.wait(10.0) == 20.0
    assert breaker.may_start(30.0)


def test_without_anything_to_probe_with_it_closes_on_probation() -> None:
    breaker = Breaker(threshold=3)
    breaker.trip(0.0)
    breaker.nothing_to_probe_with()
    assert breaker.may_start(0.0)
    breaker.failed(10.0)
    assert circuit_of(breaker) is Circuit.OPEN
    assert breaker.wait(10.0) == 2.0, "its pauses go on growing"


def test_a_hold_forgives_what_failed_before_it() -> None:
    breaker = Breaker(threshold=2)
    breaker.failed(0.0)
    breaker.hold(0.0, 1.0)
    breaker.failed(2.0)
    assert circuit_of(breaker) is Circuit.CLOSED


def test_unless_something_else_is_said_five_failures_open_it_and_a_minute_is_its_longest_pause() -> None:
    breaker, now = Breaker(), 100.0
    assert breaker.wait(0.0) == 0.0
    for _ in range(4):
        breaker.failed(now)
    assert circuit_of(breaker) is Circuit.CLOSED
    breaker.failed(now)
    assert circuit_of(breaker) is Circuit.OPEN
    for _ in range(8):
        now += breaker.wait(now)
        assert breaker.may_start(now)
        breaker.failed(now)
    assert breaker.wait(now) == 60.0
