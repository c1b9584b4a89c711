"""The notifications that servers send about objects: S3, MinIO, Ceph, OBS, OSS, EventBridge, R2, Google Cloud Storage.

Only whom a notice is about has to be readable. What it says beyond that is a hint: one that cannot be read, or that no
catalog could keep, is no hint.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from ingest.broker.envelopes import ENTITIES, Document
from ingest.errors import Poison
from ingest.plan.etags import plain
from ingest.plan.event_names import EventKind, kind_of, kind_of_type
from ingest.plan.storable import is_etag, is_size
from ingest.system.units import as_utc


class Notice(NamedTuple):
    """What one notification says of one object. `key` is as it is written; in records, that is encoded by most."""

    name: str
    kind: EventKind
    bucket: str
    key: str
    in_record: bool = False
    source: str = ""
    """The record's own word for who sent it."""
    etag: str | None = None
    size: int | None = None
    modified: datetime | None = None


def read_notice(document: Document) -> Notice | None:
    """What a document says; None where it leaves every object's bytes alone.

    Raises:
        Poison: it does not say which bucket, or which object.
    """
    found, type_ = document
    if "detail" in found:
        return _read(_mapping(found, "detail"), _word(found, "detail-type"), type_, found.get("time"))
    if any(name in found for name in ("eventName", *ENTITIES)):
        return _read_record(found)
    if "bucket" in found and "object" in found:  # an EventBridge's detail alone, or R2, which names its action
        return _read(found, _word(found, "action"), type_, found.get("eventTime"))
    entity = {"bucket": found.get("bucket"), "object": {"key": found.get("name"), "etag": found.get("etag")}}
    return _read(entity, _word(found, "eventType"), type_, found.get("updated"))


def _read_record(found: dict[str, Any]) -> Notice | None:
    name = _word(found, "eventName")
    kind = kind_of(name)
    if kind is None:
        return None
    entity = _mapping(found, next((entity for entity in ENTITIES if entity in found), ENTITIES[0]))
    notice = _notice(entity, name, kind, found.get("eventTime"))
    return notice._replace(in_record=True, source=_word(found, "eventSource"))


def _read(entity: dict[str, Any], name: str, type_: str, at: object) -> Notice | None:
    kind = kind_of(name or type_)
    if kind is EventKind.UNCLEAR and not name:
        kind = kind_of_type(type_)  # adapters make types of their own, such as `aws.s3.object.created`
    return _notice(entity, name, kind, at) if kind is not None else None


def _notice(entity: dict[str, Any], name: str, kind: EventKind, at: object) -> Notice:
    bucket = entity.get("bucket")
    bucket = bucket if isinstance(bucket, str) else _text(_mapping(entity, "bucket"), "name")
    written = _mapping(entity, "object")
    return Notice(
        name,
        kind,
        bucket,
        _text(written, "key"),
        etag=etag_hint(written.get("eTag")) or etag_hint(written.get("etag")),  # EventBridge spells it so
        size=_size(written.get("size")),
        modified=_moment(at),
    )


def _mapping(found: dict[str, Any], name: str) -> dict[str, Any]:
    inner = found.get(name)
    if not isinstance(inner, dict):
        raise Poison("wrong_type", f"{name}: not a JSON object")
    return inner


def _text(found: dict[str, Any], name: str) -> str:
    text = found.get(name)
    if not isinstance(text, str):
        raise Poison("wrong_type", f"{name}: not a text")
    return text


def _word(found: dict[str, Any], name: str) -> str:
    word = found.get(name)
    return word if isinstance(word, str) else ""


def etag_hint(written: object) -> str | None:
    """What a message says the etag is, without ``W/`` and quotes; None where it cannot be one."""
    if not isinstance(written, str):
        return None
    etag = plain(written)
    return etag if etag and is_etag(etag) else None


def _size(written: object) -> int | None:
    return written if type(written) is int and is_size(written) else None


def _moment(written: object) -> datetime | None:
    """With its zone, and within the years that there are in UTC."""
    try:
        moment = datetime.fromisoformat(written) if isinstance(written, str) else None
        return as_utc(moment) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
