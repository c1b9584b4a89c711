"""Whose a refusal is, row by row of the table, and at each edge."""

from __future__ import annotations

import pytest

from ingest.plan.verdicts import MANY, ROUTING, Verdicts, Whose


def refuse(verdicts: Verdicts[int], number: int, status: int = 422, first: int = 0) -> list[Whose]:
    return [verdicts.refused(status, first + one, at=float(first + one)) for one in range(number)]


@pytest.mark.parametrize("ever", [False, True])
@pytest.mark.parametrize("status", [404, 422])
def test_a_row_of_many_is_the_addresss(ever: bool, status: int) -> None:
    verdicts: Verdicts[int] = Verdicts(ever=ever)
    assert refuse(verdicts, MANY - 1, status) == [Whose.HELD] * (MANY - 1)
    assert verdicts.refused(status, 99, at=9.0) is Whose.ADDRESS
    assert verdicts.released() == [*range(MANY - 1)]
    assert verdicts.refused(status, 100, at=10.0) is Whose.ADDRESS, "until it takes something"
    assert verdicts.refused(409, 101, at=11.0) is Whose.ADDRESS, "whatever it says"
    assert verdicts.taken(12.0) == []
    assert verdicts.refused(status, 102, at=13.0) is Whose.HELD


def test_another_status_begins_another_row() -> None:
    verdicts: Verdicts[int] = Verdicts(ever=True)
    refuse(verdicts, MANY - 1, 422)
    assert verdicts.refused(409, 99, at=9.0) is Whose.HELD
    assert refuse(verdicts, MANY - 1, 422, first=10) == [Whose.HELD] * (MANY - 1)
    assert verdicts.refused(422, 100, at=100.0) is Whose.ADDRESS


def test_what_was_refused_before_another_was_sent_is_its_own() -> None:
    verdicts: Verdicts[str] = Verdicts()
    verdicts.refused(404, "before", at=1.0)
    verdicts.refused(404, "just then", at=2.0)
    verdicts.refused(404, "after", at=3.0)
    assert verdicts.taken(sent=2.0) == ["before", "just then"], "what was sent later may have met another address"
    assert verdicts.taken(sent=1.0) == []
    assert verdicts.taken(sent=3.0) == ["after"]


@pytest.mark.parametrize(
    ("ever", "now", "status", "whose"),
    [
        (False, False, 404, Whose.ADDRESS),
        (False, False, 422, Whose.ADDRESS),
        (True, False, 422, Whose.OBJECT),
        (True, False, 413, Whose.OBJECT),
        *((True, False, status, Whose.ADDRESS) for status in sorted(ROUTING)),
        *((True, True, status, Whose.OBJECT) for status in sorted(ROUTING)),
        (True, True, 422, Whose.OBJECT),
    ],
)
@pytest.mark.parametrize("number", [1, MANY - 1])
def test_what_is_known_decides_when_nothing_is_left_to_try(
    ever: bool, now: bool, status: int, whose: Whose, number: int
) -> None:
    verdicts: Verdicts[int] = Verdicts(ever=ever, now=now)
    refuse(verdicts, number, status)
    assert verdicts.ended() is whose
    assert verdicts.released() == [*range(number)]
    following = Whose.HELD if whose is Whose.OBJECT and number + 1 < MANY else Whose.ADDRESS
    assert verdicts.refused(status, 99, at=9.0) is following


def test_what_is_taken_begins_the_row_anew_and_is_remembered() -> None:
    verdicts: Verdicts[int] = Verdicts()
    refuse(verdicts, MANY - 1)
    verdicts.taken(sent=9.0)
    assert refuse(verdicts, MANY - 1, first=10) == [Whose.HELD] * (MANY - 1)
    assert verdicts.ended() is Whose.OBJECT, "something was taken there once"
    refuse(verdicts, 1, 404)
    assert verdicts.ended() is Whose.OBJECT, "in this run"


def test_unless_it_is_said_nothing_was_ever_taken() -> None:
    assert Verdicts[int]() == Verdicts(ever=False, now=False, is_astray=False, held=[], row=0)
    assert (MANY, sorted(ROUTING)) == (5, [400, 404, 410])


def test_nothing_is_held_twice() -> None:
    verdicts: Verdicts[int] = Verdicts()
    refuse(verdicts, 2)
    assert verdicts.released() == [0, 1]
    assert verdicts.released() == []
