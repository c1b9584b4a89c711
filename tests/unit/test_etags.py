"""What an etag names, and what is learnt of a server's etags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingest.plan.etags import (
    EMPTY_MD5,
    Etags,
    Shape,
    are_names,
    etag_of,
    fits_a_header,
    is_made_up,
    is_same,
    is_weak,
    moment_of,
    named,
    plain,
    seconds_until_settled,
    shape_of,
    timed,
)

MD5 = "5d41402abc4b2a76b9719d911017c592"
MOMENT = datetime(2026, 11, 24, 7, 10, 18, tzinfo=UTC)
STAMP = "2026-11-24T07:10:18Z"


@pytest.mark.parametrize(
    ("written", "etag", "weak"),
    [
        ('"x"', "x", False),
        ("x", "x", False),
        ('""x""', "x", False),
        ("&quot;x&quot;", "x", False),
        ('W/"x"', "x", True),
        ('w/"x"', "x", True),
        ("W/x", "x", True),
        ('"W/"x""', "x", False),
        (' "x" ', "x", False),
        ('"x-gzip"', "x", False),
        ('"x--gzip"', "x", False),
        ('"x;gzip"', "x", False),
        ('W/"x-br"', "x", True),
        ('""', "", False),
        ('W/""', "", True),
        ("", "", False),
        ('"a"b"', 'a"b', False),
        ('"x@y"', "x@y", False),
    ],
)
def test_an_etag_without_what_stands_around_it(written: str, etag: str, weak: bool) -> None:
    assert plain(written) == etag
    assert is_weak(written) is weak
    assert plain(etag) == etag


@pytest.mark.parametrize(
    ("etag", "shape"),
    [
        (MD5, Shape.WHOLE),
        (f"{MD5}-1", Shape.ONE_PART),
        (f"{MD5}-2", Shape.PARTS),
        (f"{MD5}-10000", Shape.PARTS),
        (f"{MD5}-0", None),
        (f"{MD5}-100000", None),
        (f"{MD5}-", None),
        (f"{MD5}-x", None),
        (MD5.upper(), None),
        (MD5[1:], None),
        (f"{MD5}a", None),
        ("", None),
    ],
)
def test_the_shapes_that_may_be_md5s(etag: str, shape: Shape | None) -> None:
    assert shape_of(etag) is shape


@pytest.mark.parametrize(
    ("etag", "size", "opaque", "by_moment"),
    [
        (MD5, 5, (), False),
        (f"{MD5}-3", 5, (), False),
        (MD5, 5, {Shape.WHOLE}, True),
        (MD5, 5, {Shape.PARTS}, False),
        (f"{MD5}-1", 5, {Shape.ONE_PART}, True),
        ("", 5, (), True),
        ("0" * 32, 5, (), True),
        (f"{'0' * 32}-1", 5, (), True),
        ("0", 5, (), True),
        (EMPTY_MD5, 5, (), True),
        (EMPTY_MD5, 0, (), False),
        (f"{EMPTY_MD5}-2", 5, (), False),
        ("opaque", 5, (), True),
        (MD5.upper(), 5, (), True),
    ],
)
def test_where_an_etag_is_no_name_its_moment_counts(etag: str, size: int, opaque: set[Shape], by_moment: bool) -> None:
    name = named(etag, size, MOMENT, opaque)
    assert name == (f"{etag}@{STAMP}" if by_moment else etag)
    assert (etag_of(name), moment_of(name)) == (etag, MOMENT if by_moment else None)
    assert named(etag, size, None, opaque) == etag


def test_a_moment_is_told_in_whole_seconds() -> None:
    assert timed("", MOMENT + timedelta(milliseconds=999)) == f"@{STAMP}"
    assert timed(f"@{STAMP}", MOMENT + timedelta(seconds=1)) == "@2026-11-24T07:10:19Z"
    assert etag_of("a@b@2026-11-24T07:10:18Z") == "a@b"
    assert etag_of("a@2026-11-24") == "a@2026-11-24"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (f"a@{STAMP}", f"a@{STAMP}", True),
        (f"a@{STAMP}", "a@2026-11-24T07:10:19Z", False),
        ("a", f"a@{STAMP}", True),
        (f"a@{STAMP}", "a", True),
        (f"a@{STAMP}", "b", False),
    ],
)
def test_two_names_of_one_version(one: str, other: str, same: bool) -> None:
    assert is_same(one, other) is same


@pytest.mark.parametrize(
    ("etag", "fits"),
    [
        *((MD5, True), ("a;b,c", True), ("x" * 1024, True), ("x" * 1025, False)),
        *(("", False), ('a"b', False), ("a b", False), ("a\r\nb", False), ("é", False)),
    ],
)
def test_what_may_stand_in_a_condition(etag: str, fits: bool) -> None:
    assert fits_a_header(etag) is fits


@pytest.mark.parametrize(
    ("name", "age", "pause"),
    [
        (MD5, 0.0, 0.0),
        (f"@{STAMP}", 0.0, 2.0),
        (f"@{STAMP}", 1.0, 1.0),
        (f"@{STAMP}", 2.0, 0.0),
        (f"@{STAMP}", -1.0, 3.0),
        (f"@{STAMP}", -10.0, 0.0),
        (f"@{STAMP}", 1e6, 0.0),
    ],
)
def test_a_change_shows_when_the_second_is_over(name: str, age: float, pause: float) -> None:
    assert seconds_until_settled(name, MOMENT + timedelta(seconds=age)) == pause
    assert seconds_until_settled(name, None) == 0.0


@pytest.mark.parametrize(
    ("etags", "names"),
    [
        ([MD5, MD5], True),
        ([MD5, f"{MD5}-12"], True),
        ([], True),
        ([MD5, ""], False),
        ([MD5, "0" * 32], False),
        ([MD5, f"{'0' * 32}-1"], False),
        ([MD5, EMPTY_MD5], False),
        ([MD5, MD5[1:]], False),
        ([MD5, f"{MD5[:30]}-1"], False),
        ([f"{MD5}ab", f"{MD5[:30]}-1"], False),
        ([f"{MD5}-123456"], False),
    ],
)
def test_a_page_of_etags_that_name_their_versions(etags: list[str], names: bool) -> None:
    assert are_names(etags) is names
    assert not names or all(named(etag, 5, MOMENT) == etag for etag in etags)


def test_the_marks_of_a_uuid() -> None:
    assert is_made_up("0188a7c2f1b34c5d8e9f0a1b2c3d4e5f")
    assert not is_made_up(MD5)


def test_one_match_is_a_proof_that_no_mismatch_takes_back() -> None:
    etags = Etags()
    assert etags.is_open(Shape.WHOLE)
    etags.differed(Shape.WHOLE)
    assert (etags.opaque, etags.is_news) == ({Shape.WHOLE}, True)
    etags.matched(Shape.WHOLE)
    etags.differed(Shape.WHOLE)
    assert (etags.proven, etags.opaque) == ({Shape.WHOLE}, set())
    assert not etags.is_open(Shape.WHOLE)
    assert etags.is_open(Shape.PARTS)


def test_what_is_known_comes_back() -> None:
    etags = Etags({Shape.WHOLE}, {Shape.ONE_PART})
    assert etags.text == "md5=proven md5-1=opaque"
    assert Etags.read(etags.text) == etags
    assert Etags.read(None) == Etags.read("") == Etags.read("other=words md5=maybe") == Etags()
