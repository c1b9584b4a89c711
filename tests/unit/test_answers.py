"""One answer of a listing, and what of it belongs to the shard that asked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.engine.scan.lister import Answer
from ingest.model import Page, RemoteObject, Shard


@pytest.mark.parametrize(
    ("end", "objects", "refused"),
    [
        (None, ["a", "m"], [b"b%FF", b"m\xc3\xbc", b"z%FF"]),
        ("m", ["a", "m"], [b"b%FF"]),
        ("z", ["a", "m"], [b"b%FF", b"m\xc3\xbc"]),
        ("m\u00fc", ["a", "m"], [b"b%FF", b"m\xc3\xbc"]),
        ("b", ["a"], []),
    ],
)
def test_what_lies_behind_a_new_end_is_left_to_its_own_shard(
    end: str | None, objects: list[str], refused: list[bytes]
) -> None:
    """Keys that nobody can keep are counted by whoever lists them last, and so once."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    listed = [RemoteObject(key, 1, "etag", when) for key in ("a", "m")]
    page = Page(Shard(), "", listed, complete=True, undecodable=[b"b%FF", b"m\xc3\xbc", b"z%FF"])
    cut = Answer(page, "", b"").cut_at(Shard(end=end)).page
    assert [remote.key for remote in cut.objects] == objects
    assert cut.undecodable == refused
