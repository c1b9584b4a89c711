"""Whether an object under another spelling of its key is the one that an event is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.model import RemoteObject
from ingest.plan.spellings import is_meant

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("etag", "said_at", "expected"),
    [
        ("same", AT + timedelta(days=1), True),  # whatever the clocks say
        (None, AT, True),
        ("other", None, True),
        ("other", AT - timedelta(days=1), True),  # overwritten since
        ("other", AT + timedelta(seconds=60), True),  # the clocks may differ
        ("other", AT + timedelta(seconds=61), False),  # what was meant is still to come
    ],
)
def test_is_meant(etag: str | None, said_at: datetime | None, expected: bool) -> None:
    assert is_meant(RemoteObject("a", 1, "same", AT), etag, said_at) is expected
