"""What a message of the topic says: which objects came or went. Pure, and safe on any bytes.

Read are ``{"s3_path": "s3://bucket/key", ...}``, bucket notifications of S3 and MinIO, AWS EventBridge events, and
CloudEvents (structured, or binary with ``ce_*`` headers) around any of these. Anything else is poison, by name.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ingest.errors import IngestError, Poison

MOST_BYTES = 1 << 20
"""Of one message; Kafka's own default limit is the same."""
MOST_KEY_BYTES = 1024
"""S3 API: "The name for a key is a sequence of Unicode characters whose UTF-8 encoding is at most 1,024 bytes"."""
UNREADABLE = "ingest_unreadable"
"""The header of a letter whose message could not even be taken apart: its text says why."""
_OURS = frozenset({"s3_path", "file", "etag"})
"""Names that the delivery's form uses itself."""
_CREATED = ("ObjectCreated:", "ObjectRestore:Completed", "Object Created", "Object Restore Completed")
_REMOVED = ("ObjectRemoved:", "LifecycleExpiration:", "Object Deleted")
_OTHER = ("Object", "Lifecycle", "Replication:", "ReducedRedundancyLostObject", "IntelligentTiering", "TestEvent")
"""Known to happen to objects without changing their bytes: read, tagged, replicated, …"""


class Letter(NamedTuple):
    """A message as it came: where it stood, and every byte of it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Kind(StrEnum):
    CREATED = "created"
    REMOVED = "removed"


class Event(NamedTuple):
    """One object that came or went. `etag`, `size` and `modified` are set where the message says them.

    `fields` are the message's own further ones, as text. `other_keys` are what else the path may mean: tried in turn
    where `key` does not exist.
    """

    kind: Kind
    bucket: str
    key: str
    etag: str | None = None
    size: int | None = None
    modified: datetime | None = None
    fields: Mapping[str, str] = {}
    other_keys: tuple[str, ...] = ()


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)


class _Path(_Model):
    s3_path: str
    etag: object = None


class _Bucket(_Model):
    name: str


class _Object(_Model):
    key: str
    size: int | None = Field(default=None, ge=0)
    e_tag: str | None = Field(default=None, alias="eTag")
    etag: str | None = None  # EventBridge spells it so


class _Entity(_Model):
    bucket: _Bucket
    object: _Object


class _Record(_Model):
    event_name: str = Field(alias="eventName")
    event_time: AwareDatetime | None = Field(default=None, alias="eventTime", strict=False)
    s3: _Entity


class _Notification(_Model):
    records: list[_Record] = Field(alias="Records", min_length=1)


class _Bridge(_Model):
    detail_type: str = Field(alias="detail-type")
    time: AwareDatetime | None = Field(default=None, strict=False)
    detail: _Entity


class _CloudEvent(_Model):
    specversion: str
    type: str
    data: Any = None
    data_base64: str | None = None


@dataclass(frozen=True)
class Parser:
    """Reads messages about `bucket`; `normalise` turns (path, bucket) into a key, or raises an `IngestError`."""

    bucket: str
    normalise: Callable[[str, str], str]

    def parse(self, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> list[Event]:
        """The message's events, in its order; none where it says nothing of an object's bytes.

        Raises:
            Poison: it cannot be read, or is not about our bucket. Nothing else is ever raised.
        """
        unreadable = dict(headers).get(UNREADABLE)
        if unreadable is not None:
            raise Poison("unreadable", unreadable.decode(errors="replace"))
        if not value:
            raise Poison("empty", "the message has no value")
        if len(value) > MOST_BYTES:
            raise Poison("too_large", f"the message has {len(value)} bytes, and may have {MOST_BYTES}")
        found = _read_json(value)
        binary_type = dict(headers).get("ce_type") if any(name == "ce_specversion" for name, _ in headers) else None
        try:
            if binary_type is not None:
                return self._read(found, binary_type.decode(errors="replace"))
            if "specversion" in found:
                return self._read_cloud_event(_CloudEvent.model_validate(found))
            return self._read(found, "")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Poison("wrong_type", f"{where[:200]}: {first['msg']}") from None

    def _read_cloud_event(self, event: _CloudEvent) -> list[Event]:
        if event.data_base64 is not None:
            try:
                inner = b64decode(event.data_base64, validate=True)
            except ValueError:
                raise Poison("wrong_type", "data_base64 is not Base64") from None
            return self._read(_read_json(inner), event.type)
        if not isinstance(event.data, dict):
            raise Poison("wrong_type", "the CloudEvent has no data object")
        return self._read(event.data, event.type)

    def _read(self, found: dict[str, Any], type_: str) -> list[Event]:
        """`type_` is the CloudEvent's around it, or empty."""
        if "s3_path" in found:
            return [self._path_event(_Path.model_validate(found), type_)]
        if "Records" in found:
            records = _Notification.model_validate(found).records
            return [event for record in records if (event := self._record_event(record)) is not None]
        if "s3" in found:
            event = self._record_event(_Record.model_validate(found))
            return [event] if event is not None else []
        if "detail" in found:
            bridge = _Bridge.model_validate(found)
            return self._bridge_events(bridge.detail, bridge.detail_type, bridge.time)
        if "bucket" in found and "object" in found:
            return self._bridge_events(_Entity.model_validate(found), type_, None)
        if found.get("Event") == "s3:TestEvent":
            return []
        raise Poison("unknown_form", "the message is none of the known forms, and names no s3_path")

    def _path_event(self, message: _Path, type_: str) -> Event:
        text = message.s3_path
        scheme, separator, rest = text.partition("://")
        if separator and scheme.lower() == "s3":
            bucket, _, literal = rest.partition("/")
            self._require_ours(bucket)
        elif separator:
            raise Poison("bad_path", "the path is neither s3://bucket/key nor a key")
        else:
            literal = text.removeprefix("/").removeprefix(f"{self.bucket}/")
        try:
            key = self.normalise(text, self.bucket) if literal else ""
        except IngestError as error:
            raise Poison("bad_path", error.message) from None
        others = (literal,) if separator else (literal, text, text.removeprefix("/"))
        fields = {name: _as_text(field) for name, field in (message.model_extra or {}).items() if name not in _OURS}
        return Event(
            Kind.REMOVED if _says_removed(type_) else Kind.CREATED,
            self.bucket,
            _checked(key),
            _etag(message.etag) if isinstance(message.etag, str) else None,
            fields=fields,
            other_keys=tuple(dict.fromkeys(other for other in others if other not in ("", key))),
        )

    def _record_event(self, record: _Record) -> Event | None:
        kind = _kind(record.event_name.removeprefix("s3:"))
        self._require_ours(record.s3.bucket.name)
        if kind is None:
            return None
        written = record.s3.object
        try:
            key = unquote_plus(written.key, errors="strict")
        except UnicodeDecodeError:
            raise Poison("bad_path", "the key is not UTF-8") from None
        return self._event(kind, key, written, record.event_time)

    def _bridge_events(self, entity: _Entity, type_: str, at: datetime | None) -> list[Event]:
        # CloudEvents adapters write types such as `aws.s3.object.created`: only whether it is gone is read from them.
        kind = _kind(type_) if type_.startswith("Object ") else Kind.REMOVED if _says_removed(type_) else Kind.CREATED
        self._require_ours(entity.bucket.name)
        return [self._event(kind, entity.object.key, entity.object, at)] if kind is not None else []

    def _event(self, kind: Kind, key: str, written: _Object, at: datetime | None) -> Event:
        etag = _etag(written.e_tag or written.etag)
        return Event(kind, self.bucket, _checked(key), etag, written.size, _in_utc(at))

    def _require_ours(self, bucket: str) -> None:
        if bucket != self.bucket:
            raise Poison("other_bucket", f"the message names bucket {bucket[:100]!r}, and S3_BUCKET is {self.bucket!r}")


def _read_json(value: bytes) -> dict[str, Any]:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise Poison("not_utf8", f"the message is not UTF-8 at byte {error.start}") from None
    try:
        found = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise Poison("not_json", f"the message is not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise Poison("wrong_type", "the message is not a JSON object")
    return found


def _kind(name: str) -> Kind | None:
    """None for what leaves an object's bytes alone."""
    if name.startswith(_CREATED):
        return Kind.CREATED
    if name.startswith(_REMOVED):
        return Kind.REMOVED
    if name.startswith(_OTHER):
        return None
    raise Poison("unknown_event", f"the event {name[:100]!r} is not known")


def _says_removed(type_: str) -> bool:
    return any(word in type_.lower() for word in ("removed", "deleted"))


def _in_utc(at: datetime | None) -> datetime | None:
    try:
        return at.astimezone(UTC) if at is not None else None
    except OverflowError:
        raise Poison("wrong_type", "the event's time is not within the years 1 to 9999 (UTC)") from None


def _etag(written: str | None) -> str | None:
    return (written or "").strip('"') or None


def _checked(key: str) -> str:
    if not key:
        raise Poison("empty_key", "the message names no object")
    if "\0" in key:
        raise Poison("bad_path", "the key holds a NUL, which no catalog can hold")
    if len(key.encode(errors="surrogatepass")) > MOST_KEY_BYTES:
        raise Poison("bad_path", f"the key has more than {MOST_KEY_BYTES} bytes")
    return key


def _as_text(field: object) -> str:
    return field if isinstance(field, str) else json.dumps(field, ensure_ascii=False, separators=(",", ":"))
