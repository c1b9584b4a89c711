"""What no catalog keeps: each bound, at its edge."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.model import Page, RemoteObject, Shard
from ingest.plan.storable import LARGEST_SIZE, is_etag, is_size, is_storable, refusal, storable_text, without_unstorable

WIDE = "\u00e9"  # two bytes


@pytest.mark.parametrize(
    ("key", "storable"),
    [
        ("a", True),
        ("a\0", False),
        (256 * WIDE, True),
        (257 * WIDE, True),
        (1_024 * "a", True),
        (1_025 * "a", False),
        (512 * WIDE, True),
        (512 * WIDE + "a", False),
        (256 * "\U0001f600", True),
        (256 * "\U0001f600" + "a", False),
    ],
)
def test_whether_a_key_is_kept(key: str, storable: bool) -> None:
    assert is_storable(key) is storable
    remote = RemoteObject(key, 1, "e", datetime(2026, 1, 5, tzinfo=UTC))
    for page in (
        Page(Shard(), "", [remote._replace(key="kept"), remote], True, ["k/"], [b"\xff"]),
        Page(Shard(), "", [remote._replace(key="kept")], True, ["k/", key], [b"\xff"]),
    ):
        found = without_unstorable(page)
        if storable:
            assert found == page
        else:
            assert [kept.key for kept in found.objects] == ["kept"]
            assert list(found.prefixes) == ["k/"]
            assert found.undecodable == [b"\xff", key.encode()]


def test_a_page_without_keys_is_left_as_it_is() -> None:
    page = Page(Shard(), "", [], True)
    assert without_unstorable(page) is page


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (
            b"a\0",
            "unstorable_key",
            "the key holds a NUL, which a database cannot keep; copy the object to another key",
        ),
        (
            1_025 * b"a",
            "unstorable_key",
            "the key has 1025 bytes, and S3 has keys of 1024 at most; copy the object to another key",
        ),
        (1_024 * b"\xff", "undecodable_key", "the key is not UTF-8; copy the object to another key"),
    ],
)
def test_why_a_key_is_refused(raw: bytes, code: str, message: str) -> None:
    assert refusal(raw) == (code, message)


@pytest.mark.parametrize(
    ("number", "kept"), [(-1, False), (0, True), (2**63 - 1, True), (2**63, False), (LARGEST_SIZE, True)]
)
def test_what_a_size_can_be(number: int, kept: bool) -> None:
    assert is_size(number) is kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [("", True), ("abc-1", True), (1_024 * "a", True), (1_025 * "a", False), ("a\n", False), (WIDE, False)],
)
def test_what_an_etag_can_be(text: str, kept: bool) -> None:
    assert is_etag(text) is kept


def test_a_text_is_kept_without_its_nul() -> None:
    assert storable_text("a\0b") == "a\ufffdb"
