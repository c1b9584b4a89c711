"""What a message is wrapped in: an encoding, SNS, SQS, Kafka Connect, CloudEvents, JSON text in JSON, a list.

Each entry of a list is a document by itself, and one that cannot be read says nothing of the others.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json

from ingest.errors import Poison

MOST_DEEP = 16
"""Steps into envelopes, each list and each text being one: SNS in SQS as Lambda writes them takes seven."""
ENTITIES = ("s3", "obs", "oss")
"""What a record calls the bucket and the object that it is about."""
_LISTS = ("Records", "records", "events", "Messages")
_WRAPPERS = ("Message", "Sns", "body", "Body", "payload", "after", "value", "message")
"""In SNS, in SNS as Lambda writes it, in SQS, in Kafka Connect, in Debezium; and what people choose."""
_CONFIRMATIONS = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})
_REGISTRY_BYTES = 5
"""A zero and the number of a schema (four bytes, and small), as the registries' serializers write before the JSON."""


class Document(NamedTuple):
    """One JSON object of a known form. `type` is that of the CloudEvent around it, or empty."""

    found: dict[str, Any]
    type: str = ""


def read_json(value: bytes) -> object:
    """The JSON in a message, in whichever Unicode encoding, with or without a byte order mark.

    Raises:
        Poison: it is no text, or no JSON.
    """
    if value[:2] == b"\0\0" and value[_REGISTRY_BYTES : _REGISTRY_BYTES + 1] in (b"{", b"["):
        value = value[_REGISTRY_BYTES:]
    encoding = json.detect_encoding(value)
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError as error:
        raise Poison("not_utf8", f"the message is not {encoding.upper()} at byte {error.start}") from None
    return _parsed(text, "not_json", "the message")


def documents(found: object, type_: str = "", depth: int = 0) -> Iterator[Document | Poison]:
    """What is in `found`, out of all its envelopes; `Poison` for each part that is of no known form."""
    if depth > MOST_DEEP:
        yield Poison("unknown_form", f"the message is wrapped more than {MOST_DEEP} deep")
    elif isinstance(found, str):
        try:
            inner = _parsed(found, "wrong_type", "the text in the message")
        except Poison as error:
            yield error
        else:
            yield from documents(inner, type_, depth + 1)
    elif isinstance(found, list) and found:
        for one in found:
            yield from documents(one, type_, depth + 1)
    elif not isinstance(found, dict):
        yield Poison("wrong_type", "the message is not a JSON object")
    elif "specversion" in found:
        yield from _cloud_event(found, depth)
    elif _is_form(found):
        yield Document(found, type_)
    else:
        yield from _unwrapped(found, type_, depth)


def _is_form(found: dict[str, Any]) -> bool:
    if any(name in found for name in ("s3_path", "eventName", "detail", *ENTITIES)):
        return True
    return ("bucket" in found and "object" in found) or found.get("kind") == "storage#object"


def _unwrapped(found: dict[str, Any], type_: str, depth: int) -> Iterator[Document | Poison]:
    if found.get("Type") in _CONFIRMATIONS or found.get("Event") == "s3:TestEvent":
        return
    if "after" in found and found.get("op") == "d":
        return  # Debezium: a row was deleted, and no object
    name = next((name for name in (*_LISTS, *_WRAPPERS) if name in found), None)
    if name is None:
        yield Poison("unknown_form", "the message is none of the known forms, and names no s3_path")
    elif name in _LISTS and not (isinstance(found[name], list) and found[name]):
        yield Poison("wrong_type", f"{name}: not a list with entries")
    else:
        yield from documents(found[name], type_, depth + 1)


def _cloud_event(event: dict[str, Any], depth: int) -> Iterator[Document | Poison]:
    type_, inner = event.get("type"), event.get("data")
    if not isinstance(type_, str):
        yield Poison("wrong_type", "the CloudEvent has no type")
        return
    if isinstance(event.get("data_base64"), str):
        try:
            inner = read_json(b64decode(event["data_base64"], validate=True))
        except ValueError:
            yield Poison("wrong_type", "data_base64 is not Base64")
            return
        except Poison as error:
            yield error
            return
    if not isinstance(inner, dict | list | str):
        yield Poison("wrong_type", "the CloudEvent has no data object")
        return
    yield from documents(inner, type_, depth + 1)


def _parsed(text: str, reason: str, what: str) -> object:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise Poison(reason, f"{what} is not JSON: {str(error)[:200]}") from None
