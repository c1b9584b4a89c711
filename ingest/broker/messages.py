"""What a message of the topic says: which objects came or went. Pure, and safe on any bytes.

Read are ``{"s3_path": "s3://bucket/key", ...}`` and the notifications of `notices`, in any of `envelopes`. A message
may be about many objects, and each is judged by itself: what is about another bucket is passed over, what cannot be
read is poison, by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from ingest.broker.envelopes import Document, documents, read_json
from ingest.broker.notices import Notice, etag_hint, read_notice
from ingest.broker.paths import as_s3_path
from ingest.errors import IngestError, Poison
from ingest.plan import spellings
from ingest.plan.event_names import EventKind, kind_of_type
from ingest.plan.storable import LONGEST_KEY, is_storable, storable_text

MOST_MESSAGE_BYTES = 1 << 20
"""Of one message; Kafka's own default limit is the same."""
UNREADABLE = "ingest_unreadable"
"""The header of a letter whose message could not even be taken apart: its text says why."""
_OURS = frozenset({"s3_path", "file", "etag"})
"""Names that the delivery's form uses itself."""


class Letter(NamedTuple):
    """A message as it came: where it stood, and every byte of it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Event(NamedTuple):
    """One object that came or went. `etag`, `size` and `modified` are set where the message says them, readably.

    `fields` are the message's own further ones, as text. `other_keys` are what else the path may mean: tried in turn
    where `key` does not exist.
    """

    kind: EventKind
    bucket: str
    key: str
    etag: str | None = None
    size: int | None = None
    modified: datetime | None = None
    fields: Mapping[str, str] = {}
    other_keys: tuple[str, ...] = ()
    is_ambiguous: bool = False
    """Nothing says which of the keys is meant, should several exist."""


@dataclass
class Reading:
    """What one message says."""

    events: list[Event] = field(default_factory=list)
    """In the message's order."""
    foreign: list[str] = field(default_factory=list)
    """For each part that is about another bucket, that bucket."""
    unclear: set[str] = field(default_factory=set)
    """Names of events that nobody here knows."""
    fault: Poison | None = None
    """What was wrong with the first part that could not be read."""


@dataclass(frozen=True)
class Parser:
    """Reads messages about `bucket`; `normalise` turns (path, bucket) into a key, or raises an `IngestError`.

    `endpoint` is the server's host and port: a URL of an object there is a path, too.
    """

    bucket: str
    normalise: Callable[[str, str], str]
    endpoint: str = ""

    def parse(self, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Reading:
        """What the message says.

        Raises:
            Poison: nothing of it can be read. Nothing else is ever raised.
        """
        reading = Reading()
        for part in documents(_opened(value, headers), _binary_type(headers)):
            try:
                if isinstance(part, Poison):
                    raise part
                self._add(reading, part)
            except Poison as error:
                reading.fault = reading.fault or error
        if reading.fault is not None and not reading.events:
            raise reading.fault
        return reading

    def _add(self, reading: Reading, document: Document) -> None:
        if "s3_path" in document.found:
            reading.events.append(self._path_event(document))
            return
        notice = read_notice(document)
        if notice is None:
            return
        if notice.bucket != self.bucket:
            reading.foreign.append(notice.bucket)
            return
        reading.events.append(self._notice_event(notice))
        if notice.kind is EventKind.UNCLEAR:
            reading.unclear.add(notice.name)

    def _path_event(self, document: Document) -> Event:
        found, type_ = document
        written = found["s3_path"]
        if not isinstance(written, str):
            raise Poison("wrong_type", "s3_path: not a text")
        text = as_s3_path(written, self.bucket, self.endpoint)
        scheme, separator, rest = text.partition("://")
        if separator and scheme.lower() == "s3":
            bucket, _, literal = rest.partition("/")
            self._require_ours(bucket)
        elif separator:
            raise Poison("bad_path", "the path is neither s3://bucket/key nor a key")
        else:
            literal = text.removeprefix("/").removeprefix(f"{self.bucket}/")
        try:
            # Line ends around a path are a slip of whoever wrote it; where there is nothing else, they are the key.
            key = self.normalise(text, self.bucket) if literal.strip("\r\n") else literal
        except IngestError as error:
            raise Poison("bad_path", error.message) from None
        others = (literal,) if separator else (literal, text, text.removeprefix("/"))
        return Event(
            kind_of_type(type_),
            self.bucket,
            _checked(key),
            etag_hint(found.get("etag")),
            fields={storable_text(name): _as_text(said) for name, said in found.items() if name not in _OURS},
            other_keys=_others(key, others),
        )

    def _notice_event(self, notice: Notice) -> Event:
        try:
            if notice.in_record:
                keys = spellings.of_record(notice.key, notice.source)
            else:
                keys = spellings.of_literal(notice.key)
        except UnicodeDecodeError:
            raise Poison("bad_path", "the key is not UTF-8") from None
        said = (notice.etag, notice.size, notice.modified)
        key = _checked(keys[0])
        others = _others(key, keys)
        doubt = bool(others) and notice.in_record and not spellings.is_known(notice.source)
        return Event(notice.kind, self.bucket, key, *said, other_keys=others, is_ambiguous=doubt)

    def _require_ours(self, bucket: str) -> None:
        # Who writes a path asks for this object, unlike who announces to everybody what happened.
        if bucket != self.bucket:
            raise Poison("other_bucket", f"the message names bucket {bucket[:100]!r}, and S3_BUCKET is {self.bucket!r}")


def _opened(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> object:
    unreadable = dict(headers).get(UNREADABLE)
    if unreadable is not None:
        raise Poison("unreadable", unreadable.decode(errors="replace"))
    if not value:
        raise Poison("empty", "the message has no value")
    if len(value) > MOST_MESSAGE_BYTES:
        raise Poison("too_large", f"the message has {len(value)} bytes, and may have {MOST_MESSAGE_BYTES}")
    return read_json(value)


def _binary_type(headers: Sequence[tuple[str, bytes]]) -> str:
    """Of a CloudEvent whose attributes are headers."""
    said = dict(headers)
    return (said.get("ce_type") or b"").decode(errors="replace") if "ce_specversion" in said else ""


def _others(key: str, others: Sequence[str]) -> tuple[str, ...]:
    """Those of `others` that a bucket might hold."""
    return tuple(dict.fromkeys(other for other in others if other != key and _fault_of(other) is None))


def _checked(key: str) -> str:
    fault = _fault_of(key)
    if fault is not None:
        raise fault
    return key


def _fault_of(key: str) -> Poison | None:
    if not key:
        return Poison("empty_key", "the message names no object")
    if "\0" in key:
        return Poison("bad_path", "the key holds a NUL, which no catalog can hold")
    return None if is_storable(key) else Poison("bad_path", f"the key has more than {LONGEST_KEY} bytes")


def _as_text(said: Any) -> str:
    return storable_text(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, separators=(",", ":")))
