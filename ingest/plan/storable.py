"""What no catalog can keep, whoever says it: each is one object's failure, or one hint less, and never a batch's."""

from __future__ import annotations

from ingest.model import Page

LONGEST_KEY = 1_024
"""Bytes of UTF-8 (S3 API, "Object key naming"). PostgreSQL's index takes 2,700, and no request names a longer one."""
LARGEST_SIZE = 2**63 - 1
"""Bytes of an object: what both databases keep in an integer."""
LONGEST_ETAG = 1_024
"""Characters: the longest known have some 70, and an index takes 2,700 bytes for the key, the etag and an address."""
_SURELY_WITHIN = LONGEST_KEY // 4
"""Characters that are within the bound whatever they are: no need to encode a key that has no more."""


def without_unstorable(page: Page) -> Page:
    """The page without keys (and prefixes) that no catalog takes; they join `undecodable`, as their bytes.

    PostgreSQL refuses a NUL, and SQLite's JSON functions cut the key there, so that one would be taken for another.
    """
    if _is_usual(page):
        return page
    kept = [remote for remote in page.objects if is_storable(remote.key)]
    refused = [remote.key for remote in page.objects if not is_storable(remote.key)]
    prefixes = [prefix for prefix in page.prefixes if is_storable(prefix)]
    refused += [prefix for prefix in page.prefixes if not is_storable(prefix)]
    undecodable = [*page.undecodable, *(key.encode() for key in refused)]
    return page._replace(objects=kept, prefixes=prefixes, undecodable=undecodable)


def refusal(raw: bytes) -> tuple[str, str]:
    """The error code and the message of one of a page's `undecodable` keys."""
    if b"\0" in raw:
        return "unstorable_key", "the key holds a NUL, which a database cannot keep; copy the object to another key"
    if len(raw) > LONGEST_KEY:
        said = f"the key has {len(raw)} bytes, and S3 has keys of {LONGEST_KEY} at most"
        return "unstorable_key", f"{said}; copy the object to another key"
    return "undecodable_key", "the key is not UTF-8; copy the object to another key"


def _is_usual(page: Page) -> bool:
    """Whether a glance at the whole page is enough: it is taken for every page that is read."""
    names = [*(remote.key for remote in page.objects), *page.prefixes]
    return max(map(len, names), default=0) <= _SURELY_WITHIN and "\0" not in "".join(names)


def is_storable(key: str) -> bool:
    """Whether a key can be an object's."""
    if "\0" in key:
        return False
    return len(key) <= _SURELY_WITHIN or len(key.encode()) <= LONGEST_KEY


def is_size(number: int) -> bool:
    return 0 <= number <= LARGEST_SIZE


def is_etag(text: str) -> bool:
    """Whether it can stand in an index, and in a header (``If-Match``)."""
    return len(text) <= LONGEST_ETAG and text.isascii() and text.isprintable()


def storable_text(text: str) -> str:
    """The text, without the one letter that PostgreSQL keeps nowhere."""
    return text.replace("\0", "\ufffd")
