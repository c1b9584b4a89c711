"""Further forms of a path, for disks that refuse a name or take two for one: each is still that of one key."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.store.paths import (
    DIGEST_MARK,
    beside_namesake,
    decode_path,
    encode_key,
    folded,
    is_place,
    other_form,
    without_short_names,
)


@pytest.mark.parametrize(
    ("key", "too_long", "forms"),
    [
        ("a:b", False, ["a%3Ab"]),
        ('"*:<>?\\|', False, ["%22%2A%3A%3C%3E%3F%5C%7C"]),
        ("CON", False, ["%43ON"]),
        ("con.txt", False, ["%63on.txt"]),
        ("lpt1", False, ["%6Cpt1"]),
        ("COM\xb9", False, ["%43OM\xb9", "%43OM%C2%B9"]),
        ("console", False, []),
        ("end. .", False, ["end%2E%20%2E"]),
        (" .begin", False, []),
        ("k\xe4\u20ac", False, ["k%C3%A4%E2%82%AC"]),
        ("plain", False, []),
        ("plain", True, []),
    ],
)
def test_the_forms_of_a_name(key: str, too_long: bool, forms: list[str]) -> None:
    assert every_form(key, too_long=too_long) == forms


def every_form(key: str, *, too_long: bool) -> list[str]:
    found, path = [], other_form(f"b/{encode_key(key)}", 1, too_long=too_long)
    while path is not None:
        found.append(path.removeprefix("b/"))
        path = other_form(path, 1, too_long=too_long)
    return found


@pytest.mark.parametrize("key", ["x" * 255, "\xe4" * 127, "\u20ac" * 30, "\U0001f4c4" * 40])
def test_a_name_that_is_too_long_is_shortened_twice(key: str) -> None:
    sizes = [len(form.encode()) for form in every_form(key, too_long=True)]
    assert [size for size in sizes if size > 143] == []
    assert sizes[-1] <= 60
    assert all(DIGEST_MARK in form for form in every_form(key, too_long=True))


KEYS = st.text(st.sampled_from("aAbB%~.:\xe4\xc4\u20ac/ 1"), min_size=1, max_size=12)


@given(KEYS, st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=6))
def test_every_form_is_a_place_of_the_key(key: str, steps: list[tuple[bool, bool, int]]) -> None:
    path = f"b/{encode_key(key)}"
    for namesake, too_long, depth in steps:
        if namesake:
            path = beside_namesake(path)
        else:
            segment = 1 + depth % path.count("/")
            path = other_form(path, segment, too_long=too_long) or path
    assert is_place(path, "b")
    assert DIGEST_MARK in path or decode_path(path.removeprefix("b/")) == key


@given(st.lists(KEYS, min_size=2, max_size=12, unique=True))
def test_however_many_fold_alike_each_finds_a_place(keys: list[str]) -> None:
    """As the store goes about it: no two end in one file."""
    taken: dict[str, str] = {}
    for key in keys:
        path = f"b/{encode_key(key)}"
        for _ in range(100):
            if folded(path) not in taken:
                break
            path = beside_namesake(path)
        assert folded(path) not in taken
        taken[folded(path)] = key
        assert DIGEST_MARK in path or decode_path(path.removeprefix("b/")) == key


@pytest.mark.parametrize(
    "names",
    [
        ("File", "FILE", "file"),
        ("caf\xe9", "cafe\u0301", "CAF\xc9"),
        ("end", "end.", "end. ."),
        ("\u03c3", "\u03c2", "\u03a3"),
        ("stra\xdfe", "STRASSE", "stra\u1e9ee"),
        ("i", "I", "\u0130", "\u0131"),
        ("k", "\u212a"),
        ("\u01c6", "\u01c5", "\u01c4"),
        ("no\u200dthing", "nothing\ufe0f"),
        ("\U00010400", "\U00010428"),
        ("\ufb01", "FI"),
    ],
)
def test_what_some_disk_takes_for_one_folds_alike(names: tuple[str, ...]) -> None:
    assert len({folded(f"Dir/{name}") for name in names}) == 1


def test_what_no_disk_takes_for_one_does_not() -> None:
    assert len({folded(name) for name in ("a/b", "a\uff0fb", "ab", "a%2Fb", "b", "", "a/b/c")}) == 7


def test_short_names_are_nobodys() -> None:
    assert without_short_names("b/PROGRA~1/x~y/~2.txt") == "b/PROGRA%7E1/x~y/%7E2.txt"


def test_no_table_of_letters_folds_more() -> None:
    """Those of Windows and of Linux are made of Unicode's: each letter's other cases, alone or composed otherwise."""
    for letter in map(chr, [*range(0x80, 0xD800), *range(0xE000, 0x1F000)]):
        others = {letter.casefold(), letter.upper(), letter.lower(), letter.title()}
        others |= {unicodedata.normalize("NFD", letter), unicodedata.normalize("NFC", letter)}
        if others != {letter}:
            assert {folded(f"x{other}x") for other in others} == {folded(f"x{letter}x")}, hex(ord(letter))
