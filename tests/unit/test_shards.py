"""What may be concluded from the order of a listing, and how the key space is cut: each edge."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ingest.model import ListingOrder, RemoteObject
from ingest.plan.shards import (
    behind_prefix,
    first_directory,
    is_ascending,
    is_proven,
    minimal_prefixes,
    order_of_page,
    order_of_pair,
    order_of_server,
    order_shown,
    top_level,
)

BYTES, DIRECTORY, UNKNOWN = ListingOrder.BYTES, ListingOrder.DIRECTORY, ListingOrder.UNKNOWN


def objects(*keys: str) -> list[RemoteObject]:
    return [RemoteObject(key, 1, "e", datetime(2026, 1, 5, tzinfo=UTC)) for key in keys]


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("AmazonS3", BYTES),
        ("MinIO", BYTES),
        ("MinIO/RELEASE.2026", BYTES),
        ("minio enterprise", BYTES),
        ("SeaweedFS S3", DIRECTORY),
        ("nginx", UNKNOWN),
        ("not minio", UNKNOWN),
        ("", UNKNOWN),
        (" / ", UNKNOWN),
    ],
)
def test_what_a_servers_name_tells(header: str, order: ListingOrder) -> None:
    assert order_of_server(header) is order


@pytest.mark.parametrize(
    ("before", "after", "order"),
    [
        ("a", "b", UNKNOWN),
        ("a-b/x", "a/x", BYTES),  # `-` is below `/`
        ("a/x", "a-b/x", DIRECTORY),
        ("a/x", "a0", UNKNOWN),
        ("b", "a", UNKNOWN),  # neither lists so
        ("a", "a", UNKNOWN),
        ("a/", "a/", UNKNOWN),
        ("a\1", "a/", BYTES),
        ("a.b/c", "a/b", BYTES),
    ],
)
def test_what_a_pair_shows(before: str, after: str, order: ListingOrder) -> None:
    assert order_of_pair(before, after) is order


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ([], UNKNOWN),
        (["a", "b"], UNKNOWN),
        (["a-b/x", "a/x"], BYTES),
        (["a-b/x", "a/x", "a/y"], BYTES),  # what follows takes no evidence back
        (["a/x", "a-b/x"], DIRECTORY),
        (["a-b/x", "a/x", "a-c"], DIRECTORY),
        (["b", "a"], DIRECTORY),
        (["a", "a"], UNKNOWN),
        (["a-b", "a/x"], BYTES),
        (["A"], UNKNOWN),
    ],
)
def test_what_a_page_shows(keys: list[str], order: ListingOrder) -> None:
    assert order_of_page(objects(*keys)) is order


@pytest.mark.parametrize(
    ("found", "order"),
    [
        (None, DIRECTORY),
        ("a/b/", BYTES),
        ("a/b/x", BYTES),
        ("a/b0", DIRECTORY),
        ("a/b!x", None),
        ("a/b!", UNKNOWN),
        ("a/a", UNKNOWN),
    ],
)
def test_what_the_place_of_a_directory_shows(found: str | None, order: ListingOrder | None) -> None:
    assert order_shown("a/b/", "a/b!", found) is order


@pytest.mark.parametrize(
    ("lapses", "proofs"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 64), (8, 64), (99, 64)]
)
def test_how_many_listings_prove_byte_order(lapses: int, proofs: int) -> None:
    assert is_proven(proofs, lapses)
    assert not is_proven(proofs - 1, lapses)


@pytest.mark.parametrize(
    ("keys", "start_after", "ascending"),
    [
        ([], "z", True),
        (["a", "b"], "", True),
        (["a"], "a", False),
        (["b", "b"], "a", False),
        (["b", "a"], "", False),
        (["b", "c"], "a", True),
    ],
)
def test_whether_keys_ascend(keys: list[str], start_after: str, ascending: bool) -> None:
    assert is_ascending(objects(*keys), start_after) is ascending


@pytest.mark.parametrize(
    ("prefix", "behind"),
    [
        ("a", "b"),
        ("", None),
        ("\U0010ffff", None),
        ("aX", "aY"),
        ("a\U0010ffff\U0010ffff", "b"),
        ("\ud7ff", "\ue000"),  # no key has a surrogate
        ("\ue000", "\ue001"),
    ],
)
def test_what_comes_behind_a_prefix(prefix: str, behind: str | None) -> None:
    assert behind_prefix(prefix) == behind


@pytest.mark.parametrize(
    ("prefixes", "kept"),
    [
        ([], [""]),
        (["a/"], ["a/"]),
        (["b/", "a/", "a/"], ["a/", "b/"]),
        (["a/b/", "a/", "b/c/"], ["a/", "b/c/"]),
        (["a/", "b/", "b/c/", "c/"], ["a/", "b/", "c/"]),
        (["", "a/"], [""]),
    ],
)
def test_prefixes_that_others_cover_are_left_out(prefixes: list[str], kept: list[str]) -> None:
    assert minimal_prefixes(prefixes) == kept


@pytest.mark.parametrize(
    ("key", "prefix", "level"),
    [
        ("a/b/c", "", "a/"),
        ("a/b/c", "a/", "a/b/"),
        ("a/b", "a/", None),
        ("a", "", None),
        ("/a", "", "/"),
        ("ab/", "a", "ab/"),
    ],
)
def test_what_a_level_folds_a_key_into(key: str, prefix: str, level: str | None) -> None:
    assert top_level(key, prefix) == level


def test_the_first_directory_that_keys_show() -> None:
    assert first_directory(objects("a/x", "a/y/z", "a/w/v"), "a/") == "a/y/"
    assert first_directory(objects("a/x"), "a/") is None
