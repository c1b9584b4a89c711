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
_FIRST_CHARACTER = "\1"
"""Of those that stand in keys: no catalog keeps a NUL (`plan.storable`)."""


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


def is_proven(proofs: int, lapses: int) -> bool:
    """Whether a source that was found out of byte order is listed by ranges again: after one listing that shows byte
    order throughout, after two where that was found wrong before, then four, and so on."""
    return proofs >= 1 << min(max(0, lapses - 1), 6)


def is_ascending(objects: Sequence[RemoteObject], start_after: str) -> bool:
    """Whether the keys ascend strictly from `start_after`: what a merge by range needs."""
    before = start_after
    for remote in objects:
        if remote.key <= before:
            return False
        before = remote.key
    return True


def behind_key(key: str) -> str:
    """The first string behind `key` that can be a key."""
    return key + _FIRST_CHARACTER


def behind_prefix(prefix: str) -> str | None:
    """The first string behind all keys with this prefix; None where nothing can be behind them."""
    head = prefix.rstrip(_LAST_CHARACTER)
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(following if following not in range(0xD800, 0xE000) else 0xE000)


def key_range(shard: Shard) -> tuple[str, str | None]:
    """``[first, behind)`` in byte order: exactly the keys of the shard, but for what lies below its level."""
    first = max(shard.prefix, behind_key(shard.start_after) if shard.start_after else "")
    bounds = [behind_prefix(shard.prefix), None if shard.end is None else behind_key(shard.end)]
    return first, min((bound for bound in bounds if bound is not None), default=None)


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
