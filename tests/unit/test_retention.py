"""The decisions of cleanup, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.plan.retention import clock_fault, reason_to_keep

FREE: dict[str, Any] = {"held": False, "gone": False, "listed_etag": "e", "found_etag": "e", "confirmed": True}
NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("differs", "reason"),
    [
        ({}, None),
        ({"held": True}, "held"),
        ({"held": True, "gone": True}, "held"),
        ({"undelivered": True}, "not delivered yet"),
        ({"gone": True, "confirmed": False, "found_etag": None}, "the only copy: gone from the bucket"),
        ({"found_etag": None}, "the only copy: gone from the bucket"),
        ({"found_etag": "f"}, "the only copy of this version: changed in the bucket"),
        ({"found_etag": None, "confirmed": False}, None),  # nobody asked: the catalog's word counts
    ],
)
def test_why_a_copy_stays(differs: dict[str, Any], reason: str | None) -> None:
    assert reason_to_keep(**(FREE | differs)) == reason


@pytest.mark.parametrize(
    ("newest_run", "server", "trusted", "fault"),
    [
        (None, None, False, None),  # nothing was ever downloaded
        (NOW - DAY, NOW, False, None),
        (NOW - 100 * DAY, NOW, False, None),  # the machine was off, and the server agrees
        (NOW - 6 * DAY, None, False, None),
        (NOW - 8 * DAY, None, False, "does not say what time it is"),
        (NOW - 8 * DAY, None, True, None),
        (NOW + 0.5 * DAY, NOW, False, None),
        (NOW + 2 * DAY, NOW, False, "but the last run was at 2026-03-03"),
        (NOW + 2 * DAY, NOW, True, None),
        (NOW - DAY, NOW - 2 * DAY, False, "the server's 2026-02-27"),
        (NOW - DAY, NOW + 2 * DAY, True, "the server's 2026-03-03"),  # no word outranks the server
        # Each bound, and just beyond it.
        (NOW + DAY, NOW, False, None),
        (NOW + DAY + TICK, NOW, False, "but the last run was at"),
        (NOW, NOW + DAY, False, None),
        (NOW, NOW + DAY + TICK, False, "the server's"),
        (NOW, NOW - DAY, False, None),
        (NOW, NOW - DAY - TICK, False, "the server's"),
        (NOW - 7 * DAY, None, False, None),
        (NOW - 7 * DAY - TICK, None, False, "does not say what time it is"),
    ],
)
def test_when_a_clock_is_not_believed(
    newest_run: datetime | None, server: datetime | None, trusted: bool, fault: str | None
) -> None:
    found = clock_fault(NOW, newest_run=newest_run, server=server, trusted=trusted)
    assert (found is None) is (fault is None)
    assert found is None or (fault or "") in found
