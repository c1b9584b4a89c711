"""The decisions of cleanup, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.plan.retention import has_expired, reason_to_keep

FREE: dict[str, Any] = {"held": False, "gone": False, "listed_etag": "e", "found_etag": "e", "confirmed": True}


@pytest.mark.parametrize(
    ("differs", "reason"),
    [
        ({}, None),
        ({"held": True}, "held"),
        ({"held": True, "gone": True}, "held"),
        ({"undelivered": True}, "not delivered yet"),
        ({"gone": True, "confirmed": False, "found_etag": None}, "the only copy: gone from the bucket"),
        ({"gone": True, "expired": True, "confirmed": False}, None),
        ({"gone": True, "expired": True, "held": True}, "held"),
        ({"gone": True, "expired": True, "undelivered": True}, "not delivered yet"),
        ({"expired": True, "found_etag": None}, "the only copy: gone from the bucket"),  # not noted as gone yet
        ({"found_etag": None}, "the only copy: gone from the bucket"),
        ({"found_etag": "f"}, "the only copy of this version: changed in the bucket"),
        ({"found_etag": None, "confirmed": False}, None),  # nobody asked: the catalog's word counts
    ],
)
def test_why_a_copy_stays(differs: dict[str, Any], reason: str | None) -> None:
    assert reason_to_keep(**(FREE | differs)) == reason


NOW, DAY = datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=1)


@pytest.mark.parametrize(
    ("gone_at", "gone_after", "expired"),
    [
        (None, None, False),
        (None, DAY, False),  # it is in the bucket
        (NOW - 9 * DAY, None, False),  # wanted for ever
        (NOW - DAY, DAY, True),
        (NOW - DAY + timedelta(seconds=1), DAY, False),
        (NOW, timedelta(0), True),
    ],
)
def test_whether_the_only_copy_is_wanted_no_longer(
    gone_at: datetime | None, gone_after: timedelta | None, expired: bool
) -> None:
    assert has_expired(gone_at, NOW, gone_after) is expired
