"""Which keys a written one may stand for, and whether an object under another spelling is the one an event is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.model import RemoteObject
from ingest.plan.spellings import is_known, is_meant, of_literal, of_record

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


@pytest.mark.parametrize(
    ("written", "source", "keys"),
    [
        ("a", "aws:s3", ("a",)),
        ("a%2Bb", "aws:s3", ("a+b", "a%2Bb")),
        ("a+b", "minio:s3", ("a b", "a+b")),
        ("a+b", "", ("a b", "a+b")),
        ("a+b", "ceph:s3", ("a+b", "a b")),
        ("a+b", "Ceph:S3", ("a+b", "a b")),
        ("a b%2B", "aws:s3", ("a b%2B", "a b+")),  # no encoding leaves a space
        ("\u00e9+", "aws:s3", ("\u00e9+", "\u00e9 ")),  # nor a letter beyond ASCII
        ("~+", "aws:s3", ("~ ", "~+")),
        ("!+", "aws:s3", ("! ", "!+")),
        ("100%+", "aws:s3", ("100%+", "100% ")),  # nor a % that begins no escape
        ("100%2+", "aws:s3", ("100%2+", "100%2 ")),
        ("%ff", "ceph:s3", ("%ff",)),  # not UTF-8, and not encoded
        ("%ff ", "aws:s3", ("%ff ",)),
    ],
)
def test_the_likeliest_key_of_a_record_comes_first(written: str, source: str, keys: tuple[str, ...]) -> None:
    assert of_record(written, source) == keys


@pytest.mark.parametrize("source", ["aws:s3", ""])
def test_what_is_encoded_and_not_utf_8_is_refused(source: str) -> None:
    with pytest.raises(UnicodeDecodeError):
        of_record("%ff", source)


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("aws:s3", True),
        ("minio:s3", True),
        ("ceph:s3", True),
        ("AWS:s3", True),
        ("aws", False),
        ("other:s3", False),
        ("", False),
    ],
)
def test_whether_how_its_keys_are_written_is_known(source: str, known: bool) -> None:
    assert is_known(source) is known


@pytest.mark.parametrize(
    ("written", "keys"), [("a", ("a",)), ("a+b", ("a+b", "a b")), ("%2B", ("%2B", "+")), ("%ff", ("%ff",))]
)
def test_a_key_that_is_written_as_it_is_comes_first(written: str, keys: tuple[str, ...]) -> None:
    assert of_literal(written) == keys
