"""The decisions of cleanup, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.plan.retention import reason_to_keep

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
