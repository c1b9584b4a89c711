"""The bounds of a shard in the catalog are its own: no key of it lies outside, and none of another inside."""

from __future__ import annotations

import pytest

from ingest.model import Shard
from ingest.plan.shards import behind_key, behind_prefix, key_range

LAST = "\U0010ffff"
KEYS = sorted(
    [
        *(
            "a",
            "a\1",
            "a/",
            "a/\1",
            "a/b",
            f"a/{LAST}",
            f"a/{LAST * 2}",
            f"a/{LAST * 2}x",
            f"a/{LAST * 9}",
            "a0",
            "a0b",
        ),
        *("\ud7ff/b", "\ue000", f"{LAST}", f"{LAST * 2}", f"{LAST * 5}/x", "é", "z", "."),
    ]
)


@pytest.mark.parametrize(
    ("prefix", "behind"),
    [("", None), ("a", "b"), ("a/", "a0"), (f"a{LAST}", "b"), (LAST, None), (LAST * 3, None), ("\ud7ff", "\ue000"),
     (f"\ud7ff{LAST}", "\ue000"), ("\U0010fffe", LAST)],
)  # fmt: skip
def test_what_comes_behind_a_prefix(prefix: str, behind: str | None) -> None:
    assert behind_prefix(prefix) == behind


@pytest.mark.parametrize("prefix", ["", "a", "a/", f"a/{LAST}", LAST, LAST * 2, "\ud7ff", "zz"])
@pytest.mark.parametrize("start_after", ["", "a", "a/", f"a/{LAST * 2}", LAST])
@pytest.mark.parametrize("end", [None, "a/b", f"a/{LAST * 2}", LAST, "."])
def test_a_range_holds_its_shard_and_nothing_else(prefix: str, start_after: str, end: str | None) -> None:
    first, behind = key_range(Shard(prefix, start_after, end))
    inside = [key for key in KEYS if key >= first and (behind is None or key < behind)]
    shard = [key for key in KEYS if key.startswith(prefix) and key > start_after and (end is None or key <= end)]
    assert inside == shard


def test_nothing_lies_between_a_key_and_what_comes_behind_it() -> None:
    for key in KEYS:
        assert [other for other in KEYS if key < other < behind_key(key)] == []
