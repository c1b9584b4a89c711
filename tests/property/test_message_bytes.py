"""The parser of messages raises nothing but `Poison`, whatever the bytes, and loses nothing of a key."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st

from ingest.broker.messages import Parser
from ingest.errors import Poison
from ingest.plan.event_names import EventKind
from ingest.source.paths import normalise_key

parser = Parser("statements", normalise_key)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60).filter(
    lambda key: len(key.encode()) <= 1024
)
words = st.sampled_from(
    [
        "s3_path", "Records", "s3", "bucket", "object", "key", "name", "eventName", "eventTime", "detail",
        "detail-type", "specversion", "type", "data", "data_base64", "size", "eTag", "Event", "s3:TestEvent",
        "statements", "s3://statements/a", "Message", "payload", "eventSource", "ceph:s3", "a%2Fb+c", "obs", "ObjectCreated:Put", "Object Deleted", "1.0", "2026-01-01T00:00:00Z",
    ]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | words
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)
headers = st.lists(st.tuples(st.sampled_from(["ce_specversion", "ce_type", "x"]), st.binary(max_size=10)), max_size=3)


@given(st.binary(max_size=200) | documents.map(lambda found: json.dumps(found).encode()), headers)
def test_nothing_but_poison_is_ever_raised(value: bytes, sent: list[tuple[str, bytes]]) -> None:
    with suppress(Poison):
        for event in parser.parse(value, sent).events:
            assert event.bucket == "statements"
            assert event.key
            assert all(isinstance(field, str) for field in event.fields.values())


def shaped(key: str, event: str) -> list[Any]:
    """The same event in each form that says exactly which key."""
    entity = {"bucket": {"name": "statements"}, "object": {"key": key}}
    coded = {"bucket": {"name": "statements"}, "object": {"key": quote_plus(key)}}
    record = {"eventName": f"s3:ObjectCreated:{event}", "s3": coded}
    bridge = {"detail-type": "Object Created", "detail": entity}
    cloud = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    return [
        {"s3_path": f"s3://statements/{quote(key)}"},
        {"Records": [record]},
        bridge,
        {**cloud, "data": {"Records": [record]}},
        {**cloud, "data": bridge},
        {**cloud, "data": entity},
    ]


@given(keys)
def test_every_form_gives_the_key_back(key: str) -> None:
    for message in shaped(key, "Put"):
        (event,) = parser.parse(json.dumps(message).encode()).events
        assert (event.kind, event.key) == (EventKind.CREATED, key), message


@given(keys)
def test_a_literal_path_is_among_what_is_tried(key: str) -> None:
    (event,) = parser.parse(json.dumps({"s3_path": f"s3://statements/{key}"}).encode()).events
    assert key in (event.key, *event.other_keys)


def as_text(inner: object) -> object:
    return json.dumps(inner)


ENVELOPES: list[Callable[[Any], Any]] = [
    as_text,
    lambda inner: [inner],
    lambda inner: {"Type": "Notification", "Message": as_text(inner)},
    lambda inner: {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": as_text(inner)}}]},
    lambda inner: {"Messages": [{"Body": as_text(inner)}]},
    lambda inner: {"schema": None, "payload": inner},
    lambda inner: {"op": "c", "before": None, "after": inner},
    lambda inner: {"specversion": "1.0", "type": "t", "data": inner},
    lambda inner: {"specversion": "1.0", "type": "t", "data_base64": b64encode(json.dumps(inner).encode()).decode()},
]
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])


@given(keys, st.lists(st.sampled_from(ENVELOPES), max_size=2), encodings)
def test_no_envelope_changes_what_is_in_it(key: str, wrapped: list[Callable[[Any], Any]], encoding: str) -> None:
    for message in shaped(key, "Put"):
        bare = parser.parse(json.dumps(message).encode()).events
        whole = reduce(lambda inner, envelope: envelope(inner), wrapped, message)
        assert parser.parse(json.dumps(whole).encode(encoding)).events == bare
