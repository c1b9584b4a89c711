"""Each form of message that is read, and each kind of poison, by name."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from ingest.delivery.messages import MOST_BYTES, Kind, Parser
from ingest.errors import Poison
from ingest.source.paths import normalise_key

parser = Parser("statements", normalise_key)


def record(key: str, event: str = "ObjectCreated:Put", bucket: str = "statements", **said: Any) -> dict[str, Any]:
    return {
        "eventName": event,
        "eventTime": "2026-01-05T10:00:00.000Z",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, **said}},
    }


def bridge(key: str, detail_type: str = "Object Created") -> dict[str, Any]:
    detail = {"bucket": {"name": "statements"}, "object": {"key": key, "size": 5, "etag": "abc"}, "reason": "PutObject"}
    return {"detail-type": detail_type, "source": "aws.s3", "time": "2026-01-05T10:00:00Z", "detail": detail}


def cloud(data: object, type_: str = "com.example.statement") -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, "data": data}


def encoded(data: object) -> dict[str, Any]:
    return {**cloud(None), "data_base64": b64encode(json.dumps(data).encode()).decode()}


PLAIN = {"s3_path": "s3://statements/a b.pdf"}
FORMS = [
    ("plain", PLAIN, [(Kind.CREATED, "a b.pdf")]),
    ("plain, url-encoded", {"s3_path": "s3://statements/a%20b.pdf"}, [(Kind.CREATED, "a b.pdf")]),
    ("plain, plus stays plus", {"s3_path": "s3://statements/a+b.pdf"}, [(Kind.CREATED, "a+b.pdf")]),
    ("plain, capital scheme", {"s3_path": "S3://statements/a.pdf"}, [(Kind.CREATED, "a.pdf")]),
    ("plain, with a slash", {"s3_path": "/statements/a.pdf"}, [(Kind.CREATED, "a.pdf")]),
    ("plain, bucket and key", {"s3_path": "statements/a.pdf"}, [(Kind.CREATED, "a.pdf")]),
    ("plain, key alone", {"s3_path": "2026/a.pdf"}, [(Kind.CREATED, "2026/a.pdf")]),
    ("S3 notification", {"Records": [record("a+b%C3%A4.pdf")]}, [(Kind.CREATED, "a bä.pdf")]),
    ("MinIO", {"EventName": "s3:ObjectCreated:Put", "Key": "statements/x", "Records": [record("x", "s3:ObjectCreated:Put")]},
     [(Kind.CREATED, "x")]),
    ("several records", {"Records": [record("a"), record("b", "ObjectRemoved:Delete"), record("c", "ObjectTagging:Put")]},
     [(Kind.CREATED, "a"), (Kind.REMOVED, "b")]),
    ("lifecycle", {"Records": [record("a", "LifecycleExpiration:Delete")]}, [(Kind.REMOVED, "a")]),
    ("MinIO, read", {"Records": [record("a", "s3:ObjectAccessed:Get")]}, []),
    ("one bare record", record("a%2Bb"), [(Kind.CREATED, "a+b")]),
    ("EventBridge", bridge("a+b%20c"), [(Kind.CREATED, "a+b%20c")]),
    ("EventBridge, deleted", bridge("a", "Object Deleted"), [(Kind.REMOVED, "a")]),
    ("EventBridge, tagged", bridge("a", "Object Tags Added"), []),
    ("CloudEvent around a path", cloud(PLAIN), [(Kind.CREATED, "a b.pdf")]),
    ("CloudEvent around records", cloud({"Records": [record("a")]}), [(Kind.CREATED, "a")]),
    ("CloudEvent around one record", cloud(record("a", "ObjectRemoved:Delete")), [(Kind.REMOVED, "a")]),
    ("CloudEvent around EventBridge", cloud(bridge("a")), [(Kind.CREATED, "a")]),
    ("CloudEvent around the detail", cloud(bridge("a")["detail"], "aws.s3.object.deleted"), [(Kind.REMOVED, "a")]),
    ("CloudEvent in Base64", encoded(PLAIN), [(Kind.CREATED, "a b.pdf")]),
    ("test event", {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "statements"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_every_form(message: object, expected: list[tuple[Kind, str]]) -> None:
    events = parser.parse(json.dumps(message).encode())
    assert [(event.kind, event.key) for event in events] == expected


def test_binary_cloud_events_say_their_type_in_headers() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"com.example.deleted"), ("content-type", b"application/json")]
    (event,) = parser.parse(json.dumps(PLAIN).encode(), headers)
    assert (event.kind, event.key) == (Kind.REMOVED, "a b.pdf")


def test_other_fields_are_kept_as_text() -> None:
    message = {**PLAIN, "account": "ACC-1", "amount": 12.5, "tags": ["ä", None], "file": "ours", "etag": '"abc"'}
    (event,) = parser.parse(json.dumps(message).encode())
    assert event.fields == {"account": "ACC-1", "amount": "12.5", "tags": '["ä",null]'}
    assert event.etag == "abc"


def test_a_notification_says_which_version() -> None:
    (event,) = parser.parse(json.dumps({"Records": [record("a", size=7, eTag="abc")]}).encode())
    assert (event.etag, event.size, event.modified is not None) == ("abc", 7, True)


def test_what_a_path_may_also_mean_is_tried_later() -> None:
    (event,) = parser.parse(json.dumps({"s3_path": "s3://statements/50%25.pdf"}).encode())
    assert (event.key, event.other_keys) == ("50%.pdf", ("50%25.pdf",))


def as_bytes(message: object) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


POISON = [
    ("empty", b""),
    ("too_large", b" " * (MOST_BYTES + 1)),
    ("not_utf8", b'{"s3_path": "\xff"}'),
    ("not_json", b"{not json"),
    ("not_json", b'{"s3_path": NaN}'),
    ("not_json", b'{"s3_path": "\\ud800"}'),
    ("not_json", b"[" * 100_000),
    ("wrong_type", b"[]"),
    ("wrong_type", {"s3_path": 7}),
    ("wrong_type", {"Records": []}),
    ("wrong_type", {"Records": [{"eventName": "ObjectCreated:Put"}]}),
    ("wrong_type", {"Records": [record("a", size="large")]}),
    ("wrong_type", {"Records": [record("a", size=-1)]}),
    ("wrong_type", {"Records": [{**record("a"), "eventTime": "0001-01-01T00:00:00+23:00"}]}),
    ("wrong_type", {**bridge("a"), "time": "9999-12-31T23:59:59-23:00"}),
    ("wrong_type", cloud(None)),
    ("wrong_type", cloud("text")),
    ("wrong_type", {**cloud(None), "data_base64": "%%%"}),
    ("unknown_form", {}),
    ("unknown_form", {"path": "s3://statements/a"}),
    ("unknown_form", cloud({"other": 1})),
    ("unknown_event", {"Records": [record("a", "s3:Something:New")]}),
    ("other_bucket", {"s3_path": "s3://elsewhere/a"}),
    ("other_bucket", {"Records": [record("a", bucket="elsewhere")]}),
    ("other_bucket", {**bridge("a"), "detail": {"bucket": {"name": "x"}, "object": {"key": "a"}}}),
    ("empty_key", {"s3_path": ""}),
    ("empty_key", {"s3_path": "s3://statements/"}),
    ("empty_key", {"s3_path": "s3://statements"}),
    ("empty_key", {"Records": [record("")]}),
    ("bad_path", {"s3_path": "https://statements/a"}),
    ("bad_path", {"s3_path": "s3://statements/a\0b"}),
    ("bad_path", {"Records": [record("%ff")]}),
    ("bad_path", {"s3_path": f"s3://statements/{'a' * 1025}"}),
]


@pytest.mark.parametrize(("reason", "message"), POISON)
def test_every_poison_has_its_name(reason: str, message: object) -> None:
    with pytest.raises(Poison) as raised:
        parser.parse(as_bytes(message))
    assert raised.value.reason == reason


def test_no_value_is_poison() -> None:
    with pytest.raises(Poison, match="no value"):
        parser.parse(None)
