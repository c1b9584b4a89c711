"""Which keys no database can keep."""

from __future__ import annotations

from ingest.model import Page


def without_unstorable(page: Page) -> Page:
    """The page without keys (and prefixes) that hold a NUL; they join `undecodable`, as their bytes.

    PostgreSQL refuses them, and SQLite's JSON functions cut them there, so that one would be taken for another.
    """
    if not any("\0" in name for name in (*(remote.key for remote in page.objects), *page.prefixes)):
        return page
    refused = [remote.key for remote in page.objects if "\0" in remote.key]
    refused += [prefix for prefix in page.prefixes if "\0" in prefix]
    return page._replace(
        objects=[remote for remote in page.objects if "\0" not in remote.key],
        prefixes=[prefix for prefix in page.prefixes if "\0" not in prefix],
        undecodable=[*page.undecodable, *(key.encode() for key in refused)],
    )


def refusal(raw: bytes) -> tuple[str, str]:
    """The error code and the message of one of a page's `undecodable` keys."""
    if b"\0" in raw:
        return "unstorable_key", "the key holds a NUL, which a database cannot keep; copy the object to another key"
    return "undecodable_key", "the key is not UTF-8; copy the object to another key"
