"""What an answer means, row by row of the table; pauses; ``Retry-After``."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.delivery.service import retry_after
from ingest.plan.rulings import LONGEST_PAUSE, MOST_DELIVERIES, Ruling, pause_after, rule

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ruling", "statuses"),
    [
        (Ruling.DELIVERED, (200, 201, 202, 204, 299)),
        (Ruling.BUSY, (429,)),
        (Ruling.FAULT, (408, 425, 500, 502, 503, 504, 506, 510, 512, 599)),
        (
            Ruling.ENDPOINT,
            (300, 301, 302, 303, 304, 307, 308, 399, 401, 402, 403, 405, 406, 407, 411, 421, 426, 431, 501, 505, 511),
        ),
        (Ruling.REJECTED, (400, 404, 409, 410, 413, 415, 422, 424, 428, 451, 499)),
    ],
)
def test_ruling(ruling: Ruling, statuses: tuple[int, ...]) -> None:
    assert {rule(status) for status in statuses} == {ruling}


@pytest.mark.parametrize(
    ("body", "ruling"),
    [
        ("<!DOCTYPE html><title>Sign in</title>", Ruling.ENDPOINT),
        ("\ufeff\r\n <HTML><body>", Ruling.ENDPOINT),
        ("", Ruling.DELIVERED),
        ('{"verified": true}', Ruling.DELIVERED),
        ('{"seen": "<html>"}', Ruling.DELIVERED),
        ("<verified/>", Ruling.DELIVERED),
        ("<htm", Ruling.DELIVERED),
        ("X<html>", Ruling.DELIVERED),
        (995 * " " + "<html>", Ruling.ENDPOINT),
        (996 * " " + "<html>", Ruling.DELIVERED),  # nobody's page begins so far behind
    ],
)
def test_a_web_page_is_no_consent(body: str, ruling: Ruling) -> None:
    assert rule(200, body) is ruling
    assert rule(422, body) is Ruling.REJECTED
    assert rule(503, body) is Ruling.FAULT


def test_pauses_grow_to_a_bound_and_the_jitter_only_shortens_them() -> None:
    pauses = [pause_after(attempts, 0.0) for attempts in range(1, MOST_DELIVERIES + 1)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE
    assert 3 * 86400 < sum(pauses) < 5 * 86400, "about four days, as the table says"
    assert pause_after(3, 1.0) == 2.0
    assert (MOST_DELIVERIES, LONGEST_PAUSE) == (30, 6 * 60 * 60)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("999999999999999999999", 3600.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2099 11:00:00 GMT", 3600.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("\u0661", None),
        ("Tue, 24 Nov 99999999999999999999 07:30:52 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2300", 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds
