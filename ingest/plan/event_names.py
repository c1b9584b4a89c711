"""What the name of an event says became of an object's bytes, in the words of every server that sends such names.

A name is a hint like all that an event says: the bucket is asked in any case. It decides whether an object that is not
there is waited for (created), or is gone (all others); and whether there is anything to ask at all.
"""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    CREATED = "created"
    """There are bytes to come: an object that is not there yet is waited for."""
    REMOVED = "removed"
    UNCLEAR = "unclear"
    """A name that nobody here knows, and that may concern bytes: the bucket says what became of the object."""


_PREFIXES = ("s3:", "oss:", "obs:", "cos:", "com.amazonaws.s3.", "google.cloud.storage.object.v1.")

_NOTHING: tuple[str, ...] = (
    # read, or changed in all but its bytes
    "objectaccessed", "objectdownloaded", "objecttagging", "objectacl", "object tags", "object acl",
    "object_metadata_update", "metadataupdated",
    # moved between storage classes, or copied elsewhere
    "objecttransition", "lifecycletransition", "objectlifecycle:transition", "intelligenttiering",
    "object storage class", "object access tier", "objectrestore", "object restore", "replication", "ilm:",
    "reducedredundancylostobject",
    # an upload that came to nothing, a bucket as a whole, a scanner's warnings, a greeting
    "objectlifecycle:expiration:abortm", "bucketcreated", "bucketremoved", "scanner", "testevent",
)  # fmt: skip
_CREATED: tuple[str, ...] = (
    "objectcreated", "object created", "objectrestore:completed", "object restore completed", "objectsynced:create",
    "objectreplication:objectcreated", "putobject", "copyobject", "completemultipartupload", "object_finalize",
    "finalized",
)  # fmt: skip
_REMOVED: tuple[str, ...] = (
    "objectremoved", "object deleted", "lifecycleexpiration", "lifecycledelmarkerexpiration",
    "objectlifecycle:expiration", "objectsynced:delet", "objectreplication:objectremoved", "deleteobject",
    "lifecycledeletion", "object_delete", "object_archive", "deleted", "archived",
)  # fmt: skip
_UNCLEAR: tuple[str, ...] = ("objectcreated:initiatemultipartupload", "objectcreated:uploadpart")
"""Called creations by OSS, and the object may never come."""

_MEANINGS: dict[str, EventKind | None] = {
    **dict.fromkeys(_NOTHING),
    **dict.fromkeys(_CREATED, EventKind.CREATED),
    **dict.fromkeys(_REMOVED, EventKind.REMOVED),
    **dict.fromkeys(_UNCLEAR, EventKind.UNCLEAR),
}
_LONGEST_FIRST = sorted(_MEANINGS, key=len, reverse=True)


def kind_of(name: str) -> EventKind | None:
    """What became of the object; None where its bytes are left alone. The longest known beginning decides.

    AWS (also EventBridge), MinIO, Ceph, OSS, OBS, R2 and Google Cloud Storage, with ``s3:`` before it or without.
    """
    plain = name.strip().lower()
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    known = next((known for known in _LONGEST_FIRST if plain.startswith(known)), None)
    return _MEANINGS[known] if known is not None else EventKind.UNCLEAR


def kind_of_type(type_: str) -> EventKind:
    """The same for the type of a CloudEvent, whose words are anybody's: all it is asked is whether the object went."""
    lowered = type_.lower()
    return EventKind.REMOVED if "removed" in lowered or "deleted" in lowered else EventKind.CREATED
