"""The spellings of people and events lead to the key they mean, and to nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import SettingsError
from ingest.source.paths import normalise_key, other_prefixes, spellings

KEY = "loans/2026/a b.pdf"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"s3://statements/{KEY}", KEY),
        (f"S3://statements/{KEY}", KEY),
        (f"/statements/{KEY}", KEY),
        (f"statements/{KEY}", KEY),
        (KEY, KEY),
        (f"/{KEY}", KEY),
        (f"{KEY}\n", KEY),
        ("loans%2F2026%2Fa%20b.pdf", KEY),
        ("s3://statements/loans/2026/a%20b.pdf", KEY),
        ("s3://statements//double", "/double"),
        ("a//b", "a//b"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("s3://statements/../x", "../x"),
        ("statementsX/a", "statementsX/a"),
        ("100%", "100%"),
        ("100%/50%25", "100%/50%25"),
        ("%zz", "%zz"),
        ("%FF", "%FF"),
        ("a+b", "a+b"),
        ("caf%C3%A9", "café"),
        (" leading", " leading"),
        ("dir/", "dir/"),
    ],
)
def test_a_spelling_names_its_key(text: str, key: str) -> None:
    assert normalise_key(text, "statements") == key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no object"),
        ("/", "names no object"),
        ("s3://statements", "names no object"),
        ("s3://statements/", "names no object"),
        ("statements/", "names no object"),
        ("s3://other/a", "bucket 'other'"),
        ("s3://", "bucket ''"),
        ("a\udcffb", "not UTF-8"),
    ],
)
def test_what_names_no_key_of_this_bucket_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        normalise_key(text, "statements")


def test_the_literal_key_is_among_the_spellings_and_first() -> None:
    assert spellings("statements/50%25.pdf", "statements") == ["statements/50%25.pdf", "50%.pdf"]
    assert spellings("/a", "statements") == ["/a", "a"]
    assert spellings("/", "statements") == ["/"]
    assert spellings("\n", "statements") == ["\n"]
    assert spellings("s3://statements/statements/a", "statements") == ["statements/a"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_key_is_reached_by_its_encoded_url(key: str) -> None:
    escaped = "".join(f"%{byte:02X}" for byte in key.encode())
    assert normalise_key(f"s3://statements/{escaped}", "statements") == key


@pytest.mark.parametrize(
    ("written", "others"),
    [
        ("st/", []),
        ("sts", []),
        ("", []),
        ("s3://statements/st/", ["st/"]),
        ("S3A://statements/st/*", ["st/*", "st/"]),
        ("s3://statements", [""]),
        ("s3://statements/", [""]),
        ("s3://other/st/", []),
        ("/st/", ["st/"]),
        ("//st/", ["st/"]),
        ("statements/st/", ["st/"]),
        ("/statements/st/", ["st/", "statements/st/"]),
        ("statementses/st/", []),
        ("st/*", ["st/"]),
        ("/st/**", ["st/**", "/st/", "st/"]),
        ("st/*.pdf", []),
        ("st/202?/*", []),
        ("*", [""]),
        ("/", []),
        ("/*", ["*", "/"]),
    ],
)
def test_what_a_prefix_may_mean(written: str, others: list[str]) -> None:
    assert other_prefixes(written, "statements") == others
