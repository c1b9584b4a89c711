"""What belongs together, row by row of the table; where a directory was seen; how an endpoint is spelled."""

from __future__ import annotations

import pytest

from ingest.plan.identity import (
    DirectoryMark,
    DirectoryPlace,
    Fit,
    Recorded,
    Seen,
    belongs,
    canonical_endpoint,
    catalog_fits,
    same_directory,
    seen_at,
)

A, B = DirectoryMark("A", "C", "sqlite:///c"), DirectoryMark("B", "C", "sqlite:///c")
NOTHING, OF_A, OF_B = Recorded(), Recorded("A"), Recorded("B")


@pytest.mark.parametrize(
    ("outside", "inside", "catalog", "recorded", "verdict"),
    [
        (None, A, None, NOTHING, Fit.CATALOG_MISSING),
        (A, A, None, OF_A, Fit.CATALOG_MISSING),
        (None, A, "D", NOTHING, Fit.OTHER_CATALOG),
        (A, A, "D", OF_A, Fit.OTHER_CATALOG),
        (A, None, None, NOTHING, Fit.DIRECTORY_MISSING),
        (A, None, "C", OF_A, Fit.DIRECTORY_MISSING),
        (None, None, "C", OF_A, Fit.DIRECTORY_MISSING),
        (None, None, None, Recorded(copies_astray=True), Fit.DIRECTORY_MISSING),
        (None, A, "C", OF_B, Fit.OTHER_DIRECTORY),
        (A, A, "C", OF_B, Fit.OTHER_DIRECTORY),
        (B, A, "C", NOTHING, Fit.OTHER_DIRECTORY),
        (B, A, "C", Recorded("A", embedded=True), Fit.OTHER_DIRECTORY),
        (B, A, "C", OF_A, Fit.FITS),
        (None, None, None, NOTHING, Fit.NEW),
        (None, None, "C", NOTHING, Fit.NEW),
        (None, A, "C", NOTHING, Fit.FITS),
        (None, A, "C", OF_A, Fit.FITS),
        (A, A, "C", NOTHING, Fit.FITS),
        (A, A, "C", Recorded("A", embedded=True), Fit.FITS),
    ],
)
def test_what_belongs_together(
    outside: DirectoryMark | None, inside: DirectoryMark | None, catalog: str | None, recorded: Recorded, verdict: Fit
) -> None:
    assert belongs(inside, outside, catalog, recorded) is verdict
    if verdict in (Fit.CATALOG_MISSING, Fit.OTHER_CATALOG):
        assert catalog_fits(inside, outside, catalog) is verdict  # it shows before a source is looked for


def test_what_shows_before_a_source_is_looked_for() -> None:
    assert catalog_fits(A, None, "C") is Fit.FITS
    assert catalog_fits(A, B, "C") is Fit.FITS
    assert catalog_fits(None, None, "C") is Fit.NEW
    assert catalog_fits(None, A, "C") is Fit.DIRECTORY_MISSING


def test_a_source_that_the_catalog_does_not_know_has_nothing_recorded() -> None:
    assert Recorded() == Recorded(directory_id=None, copies_astray=False, embedded=False)


HERE = DirectoryPlace("/a", "host", "7")


@pytest.mark.parametrize(
    ("now", "still_there", "copied", "seen"),
    [
        (HERE, True, False, Seen.SAME),
        (DirectoryPlace("/b", "host", "7"), True, False, Seen.SAME),  # another name of the same
        (DirectoryPlace("/a", "container", "9"), False, False, Seen.SAME),  # restored in its place
        (DirectoryPlace("/b", "host", "9"), False, False, Seen.MOVED),
        (DirectoryPlace("/b", "host", "9"), True, False, Seen.TWIN),
        (DirectoryPlace("/b", "host", "9"), True, True, Seen.MOVED),  # with a catalog of its own
        (DirectoryPlace("/b", "other", "9"), False, False, Seen.TWIN),  # nobody here can see whether /a is still there
    ],
)
def test_a_directory_is_seen_again(now: DirectoryPlace, still_there: bool, copied: bool, seen: Seen) -> None:
    assert seen_at(HERE, now, still_there=still_there, copied_with_catalog=copied) is seen


@pytest.mark.parametrize(
    ("written", "secure", "one"),
    [
        ("minio.example.com:9000", True, "minio.example.com:9000"),
        ("MinIO.Example.COM:9000", True, "minio.example.com:9000"),
        ("minio.example.com.:9000", True, "minio.example.com:9000"),
        ("minio.example.com.", True, "minio.example.com"),
        ("minio.example.com:443", True, "minio.example.com"),
        ("minio.example.com:443", False, "minio.example.com:443"),
        ("minio.example.com:80", False, "minio.example.com"),
        ("minio.example.com:09000", True, "minio.example.com:9000"),
        ("https://minio.example.com:9000", True, "minio.example.com:9000"),
        ("[::1]:9000", True, "[::1]:9000"),
        ("[0:0:0:0:0:0:0:1]:443", True, "[::1]"),
        ("[FE80::1]", True, "[fe80::1]"),
        ("[fe80::1%eth0]:9000", True, "[fe80::1%eth0]:9000"),
        ("[nonsense]", True, "[nonsense]"),
        ("minio.example.com:\u00b2", True, "minio.example.com:\u00b2"),
        (f"minio.example.com:{'9' * 5000}", True, f"minio.example.com:{'9' * 5000}"),
    ],
)
def test_one_spelling_of_an_endpoint(written: str, secure: bool, one: str) -> None:
    assert canonical_endpoint(written, secure=secure) == one
    assert canonical_endpoint(one, secure=secure) == one


def test_directories_that_differ_in_case_may_be_one() -> None:
    assert same_directory("Data", "data")
    assert not same_directory("data", "data2")
