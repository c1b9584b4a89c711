"""What each server's event names mean for an object's bytes: with ``s3:`` and without, and the names nobody knows."""

from __future__ import annotations

import pytest

from ingest.plan.event_names import EventKind, kind_of, kind_of_type

TABLE: dict[EventKind | None, tuple[str, ...]] = {
    EventKind.CREATED: (
        "ObjectCreated:Put", "ObjectCreated:Post", "ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload",
        "ObjectCreated:*", "objectcreated:put", "ObjectRestore:Completed", "Object Created", "Object Restore Completed",
        "ObjectSynced:Create", "ObjectCreated:PutObject", "ObjectReplication:ObjectCreated", "OBJECT_FINALIZE",
        "PutObject", "CopyObject", "CompleteMultipartUpload", "com.amazonaws.s3.ObjectCreated:Put",
        "google.cloud.storage.object.v1.finalized", "oss:ObjectCreated:PutObject", "obs:ObjectCreated:Put",
        "cos:ObjectCreated:Put",
    ),
    EventKind.REMOVED: (
        "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "ObjectRemoved:NoOP", "Object Deleted",
        "ObjectRemoved:DeleteAllVersions", "LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated",
        "LifecycleDelMarkerExpiration:Delete", "ObjectLifecycle:Expiration:Current", "ObjectLifecycle:Expiration:Delete",
        "ObjectLifecycle:Expiration:NonCurrent", "ObjectLifecycle:Expiration:NoncurrentDelete",
        "ObjectLifecycle:Expiration:DeleteMarkerCreated", "ObjectLifecycle:Expiration:*", "ObjectSynced:Delete",
        "ObjectSynced:DeletionMarkerCreated", "ObjectRemoved:DeleteObjects", "DeleteObject", "LifecycleDeletion",
        "ObjectReplication:ObjectRemoved", "OBJECT_DELETE", "OBJECT_ARCHIVE", "google.cloud.storage.object.v1.deleted",
        "google.cloud.storage.object.v1.archived",
    ),
    None: (
        "ObjectAccessed:Get", "ObjectAccessed:Head", "ObjectTagging:Put", "ObjectAcl:Put", "ObjectRestore:Post",
        "ObjectRestore:Delete", "Object Restore Initiated", "Object Restore Expired", "Object Tags Added",
        "Object ACL Updated", "Object Storage Class Changed", "Object Access Tier Changed", "LifecycleTransition",
        "ObjectLifecycle:Transition:Current", "ObjectLifecycle:Expiration:AbortMultipartUpload",
        "ObjectTransition:Complete", "IntelligentTiering", "Replication:OperationFailedReplication",
        "ILM:Transition", "ReducedRedundancyLostObject", "TestEvent", "Scanner:ManyVersions", "Scanner:BigPrefix", "Scanner:*",
        "BucketCreated:*", "BucketRemoved:*", "ObjectDownloaded:GetObject", "OBJECT_METADATA_UPDATE",
    ),
    EventKind.UNCLEAR: (
        "Something:New", "ObjectAppended:Put", "ObjectSynced:*", "Object Whatever", "", "Restore",
        "ObjectCreated:InitiateMultipartUpload", "ObjectCreated:UploadPart", "ObjectModified:AppendObject",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in TABLE.items() for name in names])
def test_what_a_name_means(kind: EventKind | None, name: str) -> None:
    assert kind_of(name) is kind
    assert kind_of(f"s3:{name}") is kind


def test_a_cloud_events_type_only_says_whether_it_went() -> None:
    said = {"aws.s3.object.created": EventKind.CREATED, "com.example.Removed": EventKind.REMOVED, "": EventKind.CREATED}
    assert {type_: kind_of_type(type_) for type_ in said} == said
