"""A listing rendered from any keys parses to the same keys, and the fast way reads exactly what the parser reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.http.exchange import Headers
from ingest.model import RemoteObject, Shard
from ingest.plan.etags import named
from ingest.source import entries
from ingest.source.listing import parse_page


class RawPage(NamedTuple):
    body: bytes
    server: str
    headers: Headers = Headers()


MD5 = "d41d8cd98f00b204e9800998ecf8427e"
WRITERS: dict[str, Callable[[str], str]] = {
    "plus": lambda key: quote_plus(key, safe="/"),  # AWS, MinIO, SeaweedFS
    "percent": lambda key: quote(key, safe="/"),  # Ceph, moto
    "everything": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "barely": lambda key: quote(key, safe="/!\"#$()*,:;=?@[]^`{|}~'"),  # a server that escapes as little as it may
}

any_key = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
# What XML 1.0 can carry literally; CR is normalised to LF by every parser, so servers escape it.
xml_character = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
xml_key = st.text(xml_character | st.sampled_from("\t\n%+ "), min_size=1, max_size=40)
tricky_key = st.text(st.sampled_from("ab/%+= &<>]\"'\n=F2é\U0001f4c4"), min_size=1, max_size=12)
moment = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda time: time.replace(microsecond=0)
)


def remote_objects(keys: st.SearchStrategy[str]) -> st.SearchStrategy[list[RemoteObject]]:
    etag = st.sampled_from([MD5, f"{MD5}-7", "opaque-etag"])
    classes = st.sampled_from(["STANDARD", "GLACIER", "STANDARD_IA"])
    return st.lists(st.builds(RemoteObject, keys, st.integers(0, 5 << 40), etag, moment, classes), max_size=8)


def render(objects: list[RemoteObject], write: Callable[[str], str], *, encoded: bool, seaweed: bool = False) -> bytes:
    """A listing as servers write it; `write` spells the keys."""
    parts = ["<Name>statements</Name><Prefix/><IsTruncated>false</IsTruncated>"]
    parts.append("<EncodingType>url</EncodingType>" if encoded else "")
    for remote in objects:
        fields = [
            f"<LastModified>{remote.last_modified.strftime('%Y-%m-%dT%H:%M:%S').zfill(19)}Z</LastModified>",
            f"<ETag>&quot;{remote.etag}&quot;</ETag>",
            f"<Size>{remote.size}</Size><StorageClass>{remote.storage_class}</StorageClass>",
        ]
        ordered = [*fields[1:], fields[0]] if seaweed else fields
        parts.append(f"<Contents><Key>{escape(write(remote.key))}</Key>{''.join(ordered)}</Contents>")
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()


def as_named(remote: RemoteObject) -> RemoteObject:
    return remote._replace(etag=named(remote.etag, remote.size, remote.last_modified))


def parsed(body: bytes) -> list[RemoteObject]:
    page = parse_page(RawPage(body, ""), bucket="statements", shard=Shard(), start_after="").page
    assert page.undecodable == []
    return list(page.objects)


@pytest.mark.parametrize("writer", WRITERS)
@given(objects=remote_objects(any_key | tricky_key), seaweed=st.booleans())
def test_url_encoded_keys_come_back_exactly(writer: str, objects: list[RemoteObject], seaweed: bool) -> None:
    assert parsed(render(objects, WRITERS[writer], encoded=True, seaweed=seaweed)) == list(map(as_named, objects))


@given(objects=remote_objects(xml_key | tricky_key), seaweed=st.booleans())
def test_keys_of_a_server_that_ignores_the_encoding_come_back_exactly(
    objects: list[RemoteObject], seaweed: bool
) -> None:
    assert parsed(render(objects, str, encoded=False, seaweed=seaweed)) == list(map(as_named, objects))


@given(raw=st.lists(st.binary(min_size=1, max_size=12), max_size=8))
def test_every_key_of_bytes_is_listed_or_reported(raw: list[bytes]) -> None:
    written = ["".join(f"%{byte:02X}" for byte in key) for key in raw]
    shells = [RemoteObject(text, 0, MD5, datetime(2026, 1, 1, tzinfo=UTC)) for text in written]
    found = entries.read_entries(render(shells, str, encoded=True))
    expected: list[str] = []
    undecodable: list[bytes] = []
    for key, text in zip(raw, written, strict=True):
        try:
            expected.append(key.decode())
        except UnicodeDecodeError:
            undecodable.append(text.encode())
    assert [remote.key for remote in found.objects] == expected
    assert found.undecodable == undecodable


def outcome(read: Callable[[bytes], entries.Entries | None], body: bytes) -> object:
    try:
        found = read(body)
    except ValueError:
        return "refused"
    return None if found is None else (dict(found.fields), list(found.objects), found.prefixes, found.undecodable)


_XML = '< > & ]]> <!-- --> <![CDATA[ <?x ?> <Contents> </Contents> <Contents/> <Key> </Key> <a> </a> % " <!DOCTYPE_x>'
pieces = st.sampled_from([*(piece.encode() for piece in _XML.split()), b"\0", b"\xff", b"\r", b" ", b"\xef\xbf\xbf"])


@given(
    objects=remote_objects(xml_key),
    encoded=st.booleans(),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), pieces | st.binary(max_size=4)), max_size=4),
)
def test_the_fast_way_reads_and_refuses_what_the_parser_does(
    objects: list[RemoteObject], encoded: bool, edits: list[tuple[float, int, bytes]]
) -> None:
    body = render(objects, WRITERS["percent"] if encoded else str, encoded=encoded)
    for place, removed, inserted in edits:
        at = int(place * len(body))
        body = body[:at] + inserted + body[at + removed :]
    fast = outcome(entries._read_uniform, body)
    if fast is not None:
        assert fast == outcome(entries._read_any, body)
