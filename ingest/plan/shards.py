"""How the key space is cut into shards, and what may be concluded from the order in which a server lists.

Byte-ordered servers (AWS, MinIO, Ceph) may be split at any key. Others list directory by directory
(``a/x`` before ``a-b/x``): a range there would lose keys, so they are split by common prefix only. A server counts as
byte-ordered on evidence: what it answers when it is asked for the place of a directory, or a page with a pair of keys
that only byte order explains. Its name is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest.model import ListingOrder, RemoteObject, Shard

SERVER_ORDERS: dict[str, ListingOrder] = {
    "amazons3": ListingOrder.BYTES,
    "minio": ListingOrder.BYTES,
    "seaweedfs": ListingOrder.DIRECTORY,
}
"""What the first word of a ``Server`` header tells, in lower case."""

_LAST_CHARACTER = "\U0010ffff"


def order_of_server(server_header: str) -> ListingOrder:
    """The listing order that a ``Server`` response header stands for; UNKNOWN for a name that tells nothing."""
    words = server_header.replace("/", " ").lower().split()
    return SERVER_ORDERS.get(words[0], ListingOrder.UNKNOWN) if words else ListingOrder.UNKNOWN


def order_of_pair(before: str, after: str) -> ListingOrder:
    """What two keys listed one after the other show: UNKNOWN when both orders would list them so."""
    ascending = before < after
    by_directory = before.replace("/", "\0") < after.replace("/", "\0")
    if ascending == by_directory:
        return ListingOrder.UNKNOWN
    return ListingOrder.BYTES if ascending else ListingOrder.DIRECTORY


def start_of_directory(directory: str) -> str:
    """Where to ask for a directory (with its ``/``): bytes above its name, and below all that is in it."""
    return f"{directory[:-1]}!"


def order_shown(directory: str, asked: str, found: str | None) -> ListingOrder | None:
    """What it shows that `found` is the first key behind `asked`, for a directory that has keys.

    `asked` is `start_of_directory`, or a key between that and the directory. None: nothing yet, ask behind `found`.
    UNKNOWN: the server does not begin where it is asked to.
    """
    if found is None or found > directory:
        return ListingOrder.BYTES if found is not None and found.startswith(directory) else ListingOrder.DIRECTORY
    if found == directory:
        return ListingOrder.BYTES
    return None if found > asked else ListingOrder.UNKNOWN


def first_directory(objects: Iterable[RemoteObject], prefix: str) -> str | None:
    """The first directory below `prefix` that keys show, with its ``/``."""
    return next((found for remote in objects if (found := top_level(remote.key, prefix)) is not None), None)


def order_of_page(objects: Sequence[RemoteObject]) -> ListingOrder:
    """The first evidence in a page; a page out of byte order counts as DIRECTORY whatever explains it."""
    evidence = ListingOrder.UNKNOWN
    before = ""
    for remote in objects:
        key = remote.key
        if key < before:
            return ListingOrder.DIRECTORY
        if evidence is ListingOrder.UNKNOWN and "/" in key:
            evidence = order_of_pair(before, key)
        before = key
    return evidence


def is_ascending(objects: Sequence[RemoteObject], start_after: str) -> bool:
    """Whether the keys ascend strictly from `start_after`: what a merge by range needs."""
    before = start_after
    for remote in objects:
        if remote.key <= before:
            return False
        before = remote.key
    return True


def last_of_prefix(prefix: str) -> str | None:
    """An upper bound (not a key of its own) for all keys with this prefix; None for the empty prefix."""
    return prefix + _LAST_CHARACTER * 2 if prefix else None


def key_range(shard: Shard) -> tuple[str, str | None]:
    """``(after, upto]`` in byte order: the tightest range that holds the whole shard."""
    # Every key with the prefix is above the string just below it, and the prefix itself may be a key.
    after = max(shard.start_after, _just_below(shard.prefix))
    bounds = [bound for bound in (shard.end, last_of_prefix(shard.prefix)) if bound is not None]
    return after, min(bounds) if bounds else None


def _just_below(prefix: str) -> str:
    """The greatest practical string below `prefix`, so that an exclusive bound still lets `prefix` itself in."""
    if not prefix:
        return ""
    head, last = prefix[:-1], ord(prefix[-1])
    if last == 0:
        return head
    below = last - 1 if last - 1 not in range(0xD800, 0xE000) else 0xD7FF
    return head + chr(below) + _LAST_CHARACTER * 4


def minimal_prefixes(prefixes: Iterable[str]) -> list[str]:
    """The prefixes without those that another one covers, in order; no prefix at all means everything."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept or [""]


def top_level(key: str, prefix: str) -> str | None:
    """The common prefix that a listing of one level would fold `key` into; None for a key of the level itself."""
    slash = key.find("/", len(prefix))
    return None if slash < 0 else key[: slash + 1]
