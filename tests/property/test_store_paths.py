"""Properties of the mapping from keys to paths, over any text a key may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.store.paths import MOST_NAME_BYTES, below_file, beside_directory, decode_path, encode_key, is_place

KEYS = st.text(
    st.one_of(st.sampled_from("ab/.%\x00\x01 \u0308~"), st.characters(exclude_categories=["Cs"])), min_size=1
)


@given(KEYS)
def test_a_path_stays_inside_and_fits(key: str) -> None:
    segments = encode_key(key).split("/")
    assert all(segment not in ("", ".", "..") and len(segment.encode()) <= MOST_NAME_BYTES for segment in segments)
    assert not any(ord(letter) < 32 for segment in segments for letter in segment)
    assert is_place(f"statements/{encode_key(key)}", "statements")


@given(KEYS)
def test_a_path_decodes_to_its_key(key: str) -> None:
    decoded = decode_path(encode_key(key))
    assert decoded == key or (
        decoded is None and any(len(part.encode()) > MOST_NAME_BYTES // 6 for part in key.split("/"))
    )


@given(KEYS, KEYS)
def test_two_keys_never_share_a_path(one: str, other: str) -> None:
    assert (encode_key(one) == encode_key(other)) == (one == other)


@given(KEYS)
def test_the_conflict_forms_are_other_paths_of_the_same_key(key: str) -> None:
    path = encode_key(key)
    forms = [beside_directory(path)]
    if "/" in path:
        forms.append(below_file(path, 0))
    for form in forms:
        assert form != path
        assert is_place(f"statements/{form}", "statements")
        assert decode_path(form) in (key, None)


def test_an_ordinary_key_is_its_own_path() -> None:
    for key in ("a", "statements/2026/03/ACC-00017-2026-03.pdf", "with space/\u00fc+&'.pdf", ".hidden", "a..b"):
        assert encode_key(key) == key
