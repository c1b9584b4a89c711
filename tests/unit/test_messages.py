"""Each form of message that is read, and each kind of poison, by name."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from ingest.broker.messages import MOST_MESSAGE_BYTES, Event, Parser
from ingest.errors import Poison
from ingest.plan.event_names import EventKind
from ingest.source.paths import normalise_key

parser = Parser("statements", normalise_key, "minio.example.com:9000")


def read(message: object, *headers: tuple[str, bytes]) -> list[Event]:
    return parser.parse(as_bytes(message), headers).events


def as_bytes(message: object) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode()


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


def sns(message: object) -> dict[str, Any]:
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:::t", "Message": json.dumps(message)}


def wrapped(message: object, times: int) -> object:
    """JSON text in JSON, so many times; lists, since text doubles its escapes."""
    return json.dumps(message) if times == 1 else [wrapped(message, times - 1)] if times else message


PLAIN = {"s3_path": "s3://statements/a b.pdf"}
FORMS = [
    ("plain", PLAIN, [(EventKind.CREATED, "a b.pdf")]),
    ("plain, url-encoded", {"s3_path": "s3://statements/a%20b.pdf"}, [(EventKind.CREATED, "a b.pdf")]),
    ("plain, plus stays plus", {"s3_path": "s3://statements/a+b.pdf"}, [(EventKind.CREATED, "a+b.pdf")]),
    ("plain, capital scheme", {"s3_path": "S3://statements/a.pdf"}, [(EventKind.CREATED, "a.pdf")]),
    ("plain, with a slash", {"s3_path": "/statements/a.pdf"}, [(EventKind.CREATED, "a.pdf")]),
    ("plain, bucket and key", {"s3_path": "statements/a.pdf"}, [(EventKind.CREATED, "a.pdf")]),
    ("plain, key alone", {"s3_path": "2026/a.pdf"}, [(EventKind.CREATED, "2026/a.pdf")]),
    ("S3 notification", {"Records": [record("a+b%C3%A4.pdf")]}, [(EventKind.CREATED, "a bä.pdf")]),
    ("MinIO", {"EventName": "s3:ObjectCreated:Put", "Key": "statements/x", "Records": [record("x", "s3:ObjectCreated:Put")]},
     [(EventKind.CREATED, "x")]),
    ("several records", {"Records": [record("a"), record("b", "ObjectRemoved:Delete"), record("c", "ObjectTagging:Put")]},
     [(EventKind.CREATED, "a"), (EventKind.REMOVED, "b")]),
    ("lifecycle", {"Records": [record("a", "LifecycleExpiration:Delete")]}, [(EventKind.REMOVED, "a")]),
    ("MinIO, read", {"Records": [record("a", "s3:ObjectAccessed:Get")]}, []),
    ("one bare record", record("a%2Bb"), [(EventKind.CREATED, "a+b")]),
    ("EventBridge", bridge("a+b%20c"), [(EventKind.CREATED, "a+b%20c")]),
    ("EventBridge, deleted", bridge("a", "Object Deleted"), [(EventKind.REMOVED, "a")]),
    ("EventBridge, tagged", bridge("a", "Object Tags Added"), []),
    ("CloudEvent around a path", cloud(PLAIN), [(EventKind.CREATED, "a b.pdf")]),
    ("CloudEvent around records", cloud({"Records": [record("a")]}), [(EventKind.CREATED, "a")]),
    ("CloudEvent around one record", cloud(record("a", "ObjectRemoved:Delete")), [(EventKind.REMOVED, "a")]),
    ("CloudEvent around EventBridge", cloud(bridge("a")), [(EventKind.CREATED, "a")]),
    ("CloudEvent around the detail", cloud(bridge("a")["detail"], "aws.s3.object.deleted"), [(EventKind.REMOVED, "a")]),
    ("CloudEvent in Base64", encoded(PLAIN), [(EventKind.CREATED, "a b.pdf")]),
    ("Ceph, as it is", {"Records": [{**record("x%2Fy+z.pdf"), "eventSource": "ceph:s3"}]}, [(EventKind.CREATED, "x%2Fy+z.pdf")]),
    ("Ceph, not even UTF-8 if decoded", {"Records": [{**record("%ff"), "eventSource": "ceph:s3"}]}, [(EventKind.CREATED, "%ff")]),
    ("a space was never encoded", {"Records": [record("a b+c%20.pdf")]}, [(EventKind.CREATED, "a b+c%20.pdf")]),
    ("Ceph, expired", {"Records": [record("a", "s3:ObjectLifecycle:Expiration:Current")]}, [(EventKind.REMOVED, "a")]),
    ("MinIO's other news", {"Records": [record("", f"s3:{name}") for name in ("BucketCreated:*", "BucketRemoved:*", "Scanner:BigPrefix")]}, []),
    ("another name", {"Records": [record("a", "s3:Something:New")]}, [(EventKind.UNCLEAR, "a")]),
    ("no name", {"Records": [{"s3": record("a")["s3"]}]}, [(EventKind.UNCLEAR, "a")]),
    ("others' records", {"Records": [record("a", bucket="elsewhere"), record("b"), record("\0", bucket="x")]}, [(EventKind.CREATED, "b")]),
    ("others' records alone", {"Records": [record("a", bucket="elsewhere")]}, []),
    ("others' EventBridge", {**bridge("a"), "detail": {"bucket": {"name": "x"}, "object": {"key": "a"}}}, []),
    ("bare list", [record("a"), record("b", "ObjectRemoved:Delete")], [(EventKind.CREATED, "a"), (EventKind.REMOVED, "b")]),
    ("list of CloudEvents", [cloud(PLAIN), cloud(record("b"))], [(EventKind.CREATED, "a b.pdf"), (EventKind.CREATED, "b")]),
    ("JSON in JSON in JSON", json.dumps(json.dumps(PLAIN)), [(EventKind.CREATED, "a b.pdf")]),
    ("sixteen envelopes", wrapped(PLAIN, 16), [(EventKind.CREATED, "a b.pdf")]),
    ("SNS", sns({"Records": [record("a")]}), [(EventKind.CREATED, "a")]),
    ("SNS around EventBridge", sns(bridge("a", "Object Deleted")), [(EventKind.REMOVED, "a")]),
    ("SNS around a test event", sns({"Service": "Amazon S3", "Event": "s3:TestEvent"}), []),
    ("SNS, a subscription", {"Type": "SubscriptionConfirmation", "Message": "You have chosen ..."}, []),
    ("SNS by Lambda", {"Records": [{"EventSource": "aws:sns", "Sns": sns(record("a"))}]}, [(EventKind.CREATED, "a")]),
    ("SQS by Lambda", {"Records": [{"eventSource": "aws:sqs", "body": json.dumps({"Records": [record("a")]})}]}, [(EventKind.CREATED, "a")]),
    ("SQS around SNS", {"Messages": [{"MessageId": "1", "Body": json.dumps(sns(record("a")))}]}, [(EventKind.CREATED, "a")]),
    ("Kafka Connect", {"schema": {"type": "struct"}, "payload": PLAIN}, [(EventKind.CREATED, "a b.pdf")]),
    ("Kafka Connect, text", {"schema": {"type": "string"}, "payload": json.dumps(PLAIN)}, [(EventKind.CREATED, "a b.pdf")]),
    ("Debezium", {"payload": {"op": "c", "before": None, "after": PLAIN}}, [(EventKind.CREATED, "a b.pdf")]),
    ("Debezium, a row went", {"payload": {"op": "d", "before": PLAIN, "after": None}}, []),
    ("CloudEvent around text", cloud(json.dumps(PLAIN)), [(EventKind.CREATED, "a b.pdf")]),
    ("OBS", {"Records": [{"eventName": "ObjectCreated:Post", "eventSource": "OBS", "obs": record("a")["s3"]}]}, [(EventKind.CREATED, "a")]),
    ("OSS", {"events": [{"eventName": "ObjectRemoved:DeleteObject", "eventSource": "acs:oss", "oss": record("a")["s3"]}]}, [(EventKind.REMOVED, "a")]),
    ("R2", {"action": "PutObject", "bucket": "statements", "object": {"key": "a+b"}}, [(EventKind.CREATED, "a+b")]),
    ("R2, deleted", {"action": "DeleteObject", "bucket": "statements", "object": {"key": "a"}}, [(EventKind.REMOVED, "a")]),
    ("Cloud Storage", cloud({"kind": "storage#object", "bucket": "statements", "name": "a"}, "google.cloud.storage.object.v1.finalized"),
     [(EventKind.CREATED, "a")]),
    ("Cloud Storage, metadata", cloud({"kind": "storage#object", "bucket": "statements", "name": "a"}, "google.cloud.storage.object.v1.metadataUpdated"), []),
    ("s3a", {"s3_path": "s3a://statements/a"}, [(EventKind.CREATED, "a")]),
    ("s3n", {"s3_path": "S3N://statements/a"}, [(EventKind.CREATED, "a")]),
    ("ARN", {"s3_path": "arn:aws:s3:::statements/2026/a.pdf"}, [(EventKind.CREATED, "2026/a.pdf")]),
    ("ARN, China", {"s3_path": "arn:aws-cn:s3:::statements/a"}, [(EventKind.CREATED, "a")]),
    ("URL", {"s3_path": "https://minio.example.com:9000/statements/a%20b?X-Amz-Signature=abc"}, [(EventKind.CREATED, "a b")]),
    ("URL, dot", {"s3_path": "https://Minio.example.com.:9000/statements/a"}, [(EventKind.CREATED, "a")]),
    ("URL, virtual", {"s3_path": "http://statements.MinIO.example.com:9000/2026/a"}, [(EventKind.CREATED, "2026/a")]),
    ("byte order mark", b"\xef\xbb\xbf" + json.dumps(PLAIN).encode(), [(EventKind.CREATED, "a b.pdf")]),
    ("UTF-16", json.dumps(PLAIN).encode("utf-16"), [(EventKind.CREATED, "a b.pdf")]),
    ("UTF-16, without its mark", json.dumps(PLAIN).encode("utf-16-be"), [(EventKind.CREATED, "a b.pdf")]),
    ("a schema registry's", b"\0\0\0\0\7" + json.dumps(PLAIN).encode(), [(EventKind.CREATED, "a b.pdf")]),
    ("test event", {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "statements"}, []),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_every_form(message: object, expected: list[tuple[EventKind, str]]) -> None:
    assert [(event.kind, event.key) for event in read(message)] == expected


def test_binary_cloud_events_say_their_type_in_headers() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"com.example.deleted"), ("content-type", b"application/json")]
    (event,) = read(PLAIN, *headers)
    assert (event.kind, event.key) == (EventKind.REMOVED, "a b.pdf")


def test_other_fields_are_kept_as_text() -> None:
    message = {**PLAIN, "account": "ACC-1", "amount": 12.5, "tags": ["ä", None], "file": "ours", "etag": '"abc"'}
    (event,) = read(message)
    assert event.fields == {"account": "ACC-1", "amount": "12.5", "tags": '["ä",null]'}
    assert event.etag == "abc"


def test_a_notification_says_which_version() -> None:
    (event,) = read({"Records": [record("a", size=7, eTag="abc")]})
    assert (event.etag, event.size, event.modified is not None) == ("abc", 7, True)


@pytest.mark.parametrize(
    "said",
    [{"size": "1"}, {"size": -1}, {"size": 2**63}, {"size": True}, {"size": 1.0}, {"size": {}}, {"size": 10**400},
     {"eTag": 7}, {"eTag": "a\0b"}, {"eTag": "x" * 900_000}, {"eTag": "ä"}, {"eTag": ["a"]}, {"eTag": ""}, {"eTag": '""'}],
    ids=lambda said: repr(said)[:30],
)  # fmt: skip
def test_a_hint_that_cannot_be_read_is_no_hint(said: dict[str, Any]) -> None:
    (event,) = read({"Records": [record("a", **said)]})
    assert (event.key, event.etag, event.size) == ("a", None, None)


@pytest.mark.parametrize(
    "at", ["", "2026-01-05T10:00:00", "yesterday", 1767607200, None, "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", []]
)  # fmt: skip
def test_a_time_that_cannot_be_read_is_no_time(at: object) -> None:
    for message in ({"Records": [{**record("a"), "eventTime": at}]}, {**bridge("a"), "time": at}):
        (event,) = read(message)
        assert (event.key, event.modified) == ("a", None)


def test_etags_lose_their_quotes_and_weakness() -> None:
    (event,) = read({"Records": [record("a", eTag='W/"abc"', sequencer=7, versionId=[])]})
    assert event.etag == "abc"


def test_each_part_of_a_message_is_judged_by_itself() -> None:
    parts = [record("a"), 7, record("%ff"), record("b", bucket="elsewhere"), record("c", "s3:Something:New"), {}]
    reading = parser.parse(as_bytes({"Records": parts}))
    assert [event.key for event in reading.events] == ["a", "c"]
    assert (reading.foreign, reading.unclear) == (["elsewhere"], {"s3:Something:New"})
    assert reading.fault is not None
    assert reading.fault.reason == "wrong_type"


@pytest.mark.parametrize(
    ("source", "written", "expected", "ambiguous"),
    [
        ("aws:s3", "a+b%2Fc", ("a b/c", "a+b%2Fc"), False),
        ("minio:s3", "a%2Bb", ("a+b", "a%2Bb"), False),
        ("ceph:s3", "a+b%2Fc", ("a+b%2Fc", "a b/c"), False),
        ("", "a+b%2Fc", ("a b/c", "a+b%2Fc"), True),
        ("", "a b+c", ("a b+c", "a b c"), True),
        ("", "2026/a.pdf", ("2026/a.pdf",), False),
    ],
)
def test_a_records_key_is_read_in_both_ways(
    source: str, written: str, expected: tuple[str, ...], ambiguous: bool
) -> None:
    (event,) = read({"Records": [{**record(written), "eventSource": source}]})
    assert ((event.key, *event.other_keys), event.is_ambiguous) == (expected, ambiguous)


def test_a_key_that_is_written_as_it_is_may_be_encoded_all_the_same() -> None:
    (event,) = read(bridge("a+b%20c"))
    assert (event.key, event.other_keys) == ("a+b%20c", ("a b c",))


def test_fields_hold_nothing_that_no_database_keeps() -> None:
    (event,) = read({**PLAIN, "no\0te": "a\0b", "list": ["\0"], "etag": "\0"})
    assert event.fields == {"no\ufffdte": "a\ufffdb", "list": '["\\u0000"]'}
    assert event.etag is None


def test_what_a_path_may_also_mean_is_tried_later() -> None:
    (event,) = read({"s3_path": "s3://statements/50%25.pdf"})
    assert (event.key, event.other_keys) == ("50%.pdf", ("50%25.pdf",))


POISON = [
    ("empty", b""),
    ("too_large", b" " * (MOST_MESSAGE_BYTES + 1)),
    ("not_utf8", b'{"s3_path": "\xff"}'),
    ("not_json", b"{not json"),
    ("not_json", b'{"s3_path": NaN}'),
    ("not_json", b'{"s3_path": "\\ud800"}'),
    ("not_json", b"[" * 100_000),
    ("wrong_type", b"[]"),
    ("wrong_type", {"s3_path": 7}),
    ("wrong_type", {"Records": []}),
    ("wrong_type", {"Records": [{"eventName": "ObjectCreated:Put"}]}),
    ("wrong_type", {"Records": [{**record("a"), "s3": {"bucket": {"name": "statements"}, "object": {"key": 7}}}]}),
    ("wrong_type", {"Records": [{**record("a"), "s3": {"bucket": 7, "object": {"key": "a"}}}]}),
    ("wrong_type", {"Records": {"0": record("a")}}),
    ("wrong_type", [7]),
    ("wrong_type", b"7"),
    ("wrong_type", json.dumps("no JSON inside")),
    ("wrong_type", cloud(None)),
    ("wrong_type", cloud("text")),
    ("wrong_type", {**cloud(None), "data_base64": "%%%"}),
    ("unknown_form", {}),
    ("unknown_form", {"path": "s3://statements/a"}),
    ("unknown_form", wrapped(PLAIN, 17)),
    ("unknown_form", cloud({"other": 1})),
    ("other_bucket", {"s3_path": "s3://elsewhere/a"}),
    ("empty_key", {"s3_path": ""}),
    ("empty_key", {"s3_path": "s3://statements/"}),
    ("empty_key", {"s3_path": "s3://statements"}),
    ("empty_key", {"Records": [record("")]}),
    ("bad_path", {"s3_path": "https://statements/a"}),
    ("bad_path", {"s3_path": "https://elsewhere.example.com/statements/a"}),
    ("bad_path", {"s3_path": "https://minio.example.com:\u00b2/statements/a"}),
    ("bad_path", {"s3_path": f"https://minio.example.com:{'9' * 5000}/statements/a"}),
    ("bad_path", {"s3_path": "arn:aws:s3:eu-west-1:123:accesspoint/mine/object/a"}),
    ("other_bucket", {"s3_path": "s3a://elsewhere/a"}),
    ("other_bucket", {"s3_path": "https://minio.example.com:9000/elsewhere/a"}),
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
