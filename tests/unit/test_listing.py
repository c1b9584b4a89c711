"""A listing is believed only when it proves itself; every way it may lie is a row here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from ingest.errors import ConnectionLost, ListingUntrusted
from ingest.http.exchange import Headers
from ingest.model import RemoteObject, Shard
from ingest.plan.etags import EMPTY_MD5, Shape
from ingest.source import listing
from ingest.source.entries import read_entries
from ingest.source.listing import Listed, pages, parse_page

MD5 = "5d41402abc4b2a76b9719d911017c592"
MODIFIED = "<LastModified>2026-11-24T07:10:18.000Z</LastModified>"
REST = f"{MODIFIED}<ETag>&quot;{MD5}&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
SEAWEED_REST = (
    f"<ETag>&#34;{MD5}&#34;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
    "<LastModified>2026-11-24T07:10:18Z</LastModified>"
)
ENTRY = f"<Contents><Key>a</Key>{REST}</Contents>"
PROOF = "<Name>statements</Name><Prefix></Prefix><IsTruncated>false</IsTruncated>"
SECOND = "2026-11-24T07:10:18Z"
URL = "<EncodingType>url</EncodingType>"


class RawPage(NamedTuple):
    body: bytes
    server: str
    headers: Headers = Headers()


def entry(key: str, rest: str = REST) -> str:
    return f"<Contents><Key>{key}</Key>{rest}</Contents>"


def document(
    *inside: str, root: str = "ListBucketResult", head: str = '<?xml version="1.0" encoding="UTF-8"?>\n'
) -> bytes:
    inner = "".join(inside)
    return f'{head}<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{root}>'.encode()


def parsed(body: bytes, shard: Shard | None = None) -> Listed:
    return parse_page(RawPage(body, "Server"), bucket="statements", shard=shard or Shard(), start_after="")


def page_of(*keys: str, token: str = "") -> bytes:
    cut = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>"
    return document("<Name>statements</Name><Prefix/>", truncated, cut, *map(entry, keys))


def test_an_entry_becomes_an_object() -> None:
    remote = RemoteObject("a", 5, MD5, datetime(2026, 11, 24, 7, 10, 18, tzinfo=UTC), "STANDARD")
    listed = parsed(document(PROOF, ENTRY))
    assert listed.page.objects == [remote]
    assert isinstance(listed.page.objects[0], RemoteObject)
    assert (listed.page.complete, listed.token, listed.server) == (True, "", "Server")


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(REST, id="aws and minio"),
        pytest.param(SEAWEED_REST, id="seaweedfs"),
        pytest.param(REST.replace("&quot;", '"'), id="plain quotes"),
        pytest.param(REST.replace("<Size>", "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>"), id="checksums"),
        pytest.param(REST + "<Owner><ID>1</ID><DisplayName>x</DisplayName></Owner><Type>Normal</Type>", id="ceph"),
        pytest.param(f"\n  {REST}\n  ", id="indented"),
        pytest.param(REST.replace("18.000Z", "18+00:00"), id="offset"),
        pytest.param(REST.replace("07:10:18.000Z", "09:10:18+02:00"), id="another offset"),
        pytest.param(REST.replace("<StorageClass>STANDARD</StorageClass>", ""), id="no storage class"),
        pytest.param(
            REST + "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>", id="more"
        ),
    ],
)
def test_every_layout_reads_the_same(rest: str) -> None:
    assert (
        read_entries(document(PROOF, entry("a", rest) * 3)).objects == read_entries(document(PROOF, ENTRY * 3)).objects
    )


@pytest.mark.parametrize(
    ("written", "name", "weak"),
    [
        pytest.param(f"<ETag>&quot;{MD5}&quot;</ETag>", MD5, False, id="an MD5"),
        pytest.param(f"<ETag>{MD5}</ETag>", MD5, False, id="without quotes"),
        pytest.param(f"<ETag>&quot;&quot;{MD5}&quot;&quot;</ETag>", MD5, False, id="two pairs of quotes"),
        pytest.param(f"<ETag>&amp;quot;{MD5}&amp;quot;</ETag>", MD5, False, id="escaped twice"),
        pytest.param(f"<ETag> &quot;{MD5}&quot;\n</ETag>", MD5, False, id="white space"),
        pytest.param(f"<ETag>W/&quot;{MD5}&quot;</ETag>", MD5, True, id="weak"),
        pytest.param(f"<ETag>W/{MD5}</ETag>", MD5, True, id="weak, without quotes"),
        pytest.param(f"<ETag>&quot;{MD5}-gzip&quot;</ETag>", MD5, False, id="of a compressing proxy"),
        pytest.param("<ETag></ETag>", f"@{SECOND}", False, id="empty"),
        pytest.param("<ETag>&quot;&quot;</ETag>", f"@{SECOND}", False, id="empty, in quotes"),
        pytest.param("<ETag/>", f"@{SECOND}", False, id="an empty element"),
        pytest.param("", f"@{SECOND}", False, id="none"),
        pytest.param(f"<ETag>&quot;{'0' * 32}-1&quot;</ETag>", f"{'0' * 32}-1@{SECOND}", False, id="zeros"),
        pytest.param(f"<ETag>&quot;{EMPTY_MD5}&quot;</ETag>", f"{EMPTY_MD5}@{SECOND}", False, id="of no bytes"),
        pytest.param("<ETag>&quot;1a;2,b&quot;</ETag>", f"1a;2,b@{SECOND}", False, id="no MD5"),
        pytest.param(f"<ETag>&quot;{'x' * 1024}&quot;</ETag>", f"{'x' * 1024}@{SECOND}", False, id="a kilobyte"),
    ],
)
def test_an_etag_is_read_however_it_is_written(written: str, name: str, weak: bool) -> None:
    """Where it names no version, the moment of the last change stands behind it."""
    found = read_entries(document(PROOF, entry("a", re.sub("<ETag>.*</ETag>", written, REST)) * 2))
    assert [remote.etag for remote in found.objects] == [name, name]
    assert found.weak is weak


def test_an_etag_that_is_no_md5_here_names_no_version() -> None:
    found = read_entries(document(PROOF, ENTRY * 2), {Shape.WHOLE})
    assert {remote.etag for remote in found.objects} == {f"{MD5}@{SECOND}"}


@pytest.mark.parametrize("namespace", ["", ' xmlns="http://doc.s3.amazonaws.com/2006-03-01"'])
def test_the_namespace_does_not_matter(namespace: str) -> None:
    body = f"<ListBucketResult{namespace}>{PROOF}{ENTRY}</ListBucketResult>".encode()
    assert [remote.key for remote in parsed(body).page.objects] == ["a"]


def sized(text: str) -> bytes:
    return document(PROOF, entry("a", REST.replace(">5<", f">{text}<")))


def dated(text: str) -> bytes:
    return document(PROOF, entry("a", REST.replace("2026-11-24T07:10:18.000Z", text)))


LIES: Sequence[tuple[str, bytes, str]] = [
    ("empty", b"", "the answer is empty"),
    ("blank", b"  \n", "the answer is empty"),
    ("HTML", b"<!DOCTYPE html><html><body>Sign in</body></html>", "the answer is HTML"),
    ("XHTML", b"<html><body/></html>", "the answer is HTML"),
    ("JSON", b'{"Contents": []}', "not complete XML"),
    ("an error in a 200", b"<Error><Code>InternalError</Code><Message>oops</Message></Error>", "InternalError oops"),
    ("another document", document(root="ListAllMyBucketsResult"), "a <ListAllMyBucketsResult> document"),
    ("cut in the middle", document(PROOF, ENTRY)[:-40], "not complete XML"),
    ("cut between entries", document(PROOF, ENTRY * 2)[: -len(ENTRY) - 19], "not complete XML"),
    ("something behind", document(PROOF, ENTRY) + b"<x/>", "not complete XML"),
    ("two documents", document(PROOF) + document(PROOF), "not complete XML"),
    ("DTD", document(PROOF, ENTRY, head="<!DOCTYPE x>"), "document type"),
    ("entities", document(PROOF, entry("&k;"), head='<!DOCTYPE x [<!ENTITY k "a">]>'), "document type"),
    (
        "external entity",
        document(PROOF, entry("&k;"), head='<!DOCTYPE x [<!ENTITY k SYSTEM "file:///etc/passwd">]>'),
        "document type",
    ),
    ("DTD behind", document(PROOF, ENTRY) + b"<!DOCTYPE x>", "document type"),
    ("DTD in UTF-16", '<!DOCTYPE x [<!ENTITY k "a">]><ListBucketResult/>'.encode("utf-16"), "not UTF-8"),
    ("DTD in UTF-16, no mark", document(PROOF, head="<!DOCTYPE x>").decode().encode("utf-16-le"), "not complete XML"),
    ("undefined entity", document(PROOF, entry("&nbsp;")), "not complete XML"),
    ("control character", document(PROOF, entry("a\x01b")), "not complete XML"),
    ("noncharacter", document(PROOF, entry("a\uffffb")), "not complete XML"),
    ("NUL", document(PROOF, entry("a\0b")), "not complete XML"),
    ("bytes between entries", document(PROOF, ENTRY, "]]>", ENTRY), "not complete XML"),
    ("another bucket", document(PROOF.replace("statements", "other"), ENTRY), "bucket 'other'"),
    ("no bucket", document("<IsTruncated>false</IsTruncated>"), "bucket None"),
    ("no IsTruncated", document("<Name>statements</Name>", ENTRY), "whether it is complete"),
    ("odd IsTruncated", document(PROOF.replace("false", "no"), ENTRY), "whether it is complete"),
    ("two IsTruncated", document(PROOF, "<IsTruncated>true</IsTruncated>"), "twice"),
    ("two names", document(PROOF, "<Name>statements</Name>"), "twice"),
    ("truncated, no token", document(PROOF.replace("false", "true"), ENTRY), "without a token"),
    (
        "truncated, empty token",
        document(PROOF.replace("false", "true"), "<NextContinuationToken/>", ENTRY),
        "without a token",
    ),
    ("fewer than counted", document(PROOF, "<KeyCount>2</KeyCount>", ENTRY), "counts 2 keys and holds 1"),
    ("odd count", document(PROOF, "<KeyCount>many</KeyCount>", ENTRY), "counts 'many' keys"),
    ("unknown encoding", document(PROOF, "<EncodingType>base64</EncodingType>", ENTRY), "encoded by 'base64'"),
    ("another prefix", document(PROOF.replace("<Prefix>", "<Prefix>b/"), ENTRY), "prefix 'b/'"),
    ("folded", document(PROOF, "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), "nobody asked for"),
    ("empty common prefix", document(PROOF, "<CommonPrefixes><Prefix/></CommonPrefixes>"), "prefix is empty"),
    ("no key", document(PROOF, f"<Contents>{REST}</Contents>"), "lacks its key"),
    ("empty key", document(PROOF, entry("")), "lacks its key"),
    ("two keys", document(PROOF, f"<Contents><Key>a</Key><Key>b</Key>{REST}</Contents>"), "twice"),
    ("markup in a key", document(PROOF, entry("a<b/>c")), "more than text"),
    ("empty entry", document(PROOF, "<Contents/>"), "lacks its key"),
    ("no size", document(PROOF, entry("a", REST.replace("<Size>5</Size>", ""))), "lacks its key, size"),
    ("negative size", sized("-5"), "entry of 'a' has '-5' for its size"),
    ("odd digits", sized("\u0665"), "entry of 'a' has '\\u0665' for its size"),
    ("more than a database holds", sized("9" * 19), "for its size"),
    ("endless size", sized("9" * 5_000), f"entry of 'a' has '{'9' * 60}'… (5000 characters) for its size"),
    ("no date", document(PROOF, entry("a", REST.replace(MODIFIED, ""))), "lacks its key, size or date"),
    ("impossible date", dated("2026-13-24T07:10:18.000Z"), "entry of 'a' has '2026-13-24T07:10:18.000Z' for its date"),
    ("year 0", dated("0000-01-01T00:00:00Z"), "for its date"),
    ("before the first year", dated("0001-01-01T00:00:00+23:00"), "for its date"),
    ("after the last year", dated("9999-12-31T23:59:59-23:00"), "'9999-12-31T23:59:59-23:00' for its date"),
    ("odd date", dated("to\u202eday"), "entry of 'a' has 'to\\u202eday' for its date"),
    ("long key", document(PROOF, entry("k" * 2_000, REST.replace(">5<", ">x<"))), "'… (2000 characters) has 'x'"),
    ("endless count", document(PROOF, f"<KeyCount>{'9' * 5_000}</KeyCount>", ENTRY), "(5000 characters) keys"),
]


@pytest.mark.parametrize(("body", "says"), [pytest.param(body, says, id=name) for name, body, says in LIES])
def test_a_lie_is_refused_and_named(body: bytes, says: str) -> None:
    with pytest.raises(ListingUntrusted) as caught:
        parsed(body)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "shard", "says"),
    [
        (document("<Name>statements</Name><IsTruncated>false</IsTruncated>", ENTRY), Shard("b/"), "holds 'a'"),
        (document(PROOF), Shard("b/"), "for prefix ''"),
        (page_of("a/b"), Shard(level=True), "below the one level"),
        (
            document(PROOF.replace("<Prefix>", "<Prefix>b/"), "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"),
            Shard("b/", level=True),
            "holds 'c/'",
        ),
    ],
)
def test_an_answer_to_another_question_is_refused(body: bytes, shard: Shard, says: str) -> None:
    with pytest.raises(ListingUntrusted, match=says):
        parsed(body, shard)


@pytest.mark.parametrize("written", ["a b/", "a%20b/", "a+b/"])
def test_the_echoed_prefix_may_be_encoded(written: str) -> None:
    body = document(PROOF.replace("<Prefix>", f"<Prefix>{written}"), URL, entry("a%20b/c"))
    assert [remote.key for remote in parsed(body, Shard("a b/")).page.objects] == ["a b/c"]


HIDING_PLACES = {
    "comment": ("<!--", "-->"),
    "CDATA": ("<![CDATA[", "]]>"),
    "processing instruction": ("<?x ", "?>"),
    "element": ("<Other>", "</Other>"),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_entries_that_are_no_entries_are_not_taken(place: str) -> None:
    before, behind = HIDING_PLACES[place]
    assert read_entries(document(PROOF, before, ENTRY * 2, behind)).objects == []


def test_entries_in_an_attribute_are_refused() -> None:
    with pytest.raises(ListingUntrusted, match="not complete XML"):
        parsed(document(PROOF, '<Other of="', ENTRY, '"/>'))


def test_escapes_are_decoded_only_when_the_answer_says_so() -> None:
    key = "a+b%20c%2Bd"
    assert [remote.key for remote in parsed(document(PROOF, entry(key))).page.objects] == [key]
    assert [remote.key for remote in parsed(document(PROOF, URL, entry(key))).page.objects] == ["a b c+d"]


@pytest.mark.parametrize("written", ["%FF", "%C3", "%ED%A0%80", "%C0%AF", "%zz", "%", "%2", "caf%E9.pdf"])
@pytest.mark.parametrize("rest", [REST, f" {REST}"], ids=["uniform", "any"])
def test_an_undecodable_escape_is_reported_as_written(written: str, rest: str) -> None:
    page = parsed(document(PROOF, URL, "<KeyCount>3</KeyCount>", *(entry(k, rest) for k in ("a+b", written, "c")))).page
    assert [remote.key for remote in page.objects] == ["a b", "c"]
    assert page.undecodable == [written.encode()]


def test_a_key_that_is_not_utf8_is_reported_by_its_bytes() -> None:
    body = document(PROOF, "<KeyCount>3</KeyCount>", entry("a"), entry("caf@.pdf"), entry("z")).replace(b"@", b"\xe9")
    page = parsed(body).page
    assert [remote.key for remote in page.objects] == ["a", "z"]
    assert page.undecodable == [b"caf\xe9.pdf"]


def test_a_common_prefix_that_is_not_utf8_is_reported_by_its_bytes() -> None:
    folded = "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>@/</Prefix></CommonPrefixes>"
    page = parsed(document(PROOF, folded).replace(b"@", b"\xe9"), Shard(level=True)).page
    assert page.prefixes == ["a/"]
    assert page.undecodable == [b"\xe9/"]


def test_bytes_that_are_not_utf8_elsewhere_are_refused() -> None:
    with pytest.raises(ListingUntrusted, match="not UTF-8"):
        parsed(document(PROOF, "<Delimiter>@</Delimiter>", ENTRY).replace(b"@", b"\xe9"))


class Server:
    """Answers by token, and remembers what was asked."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, *, token: str, start_after: str) -> RawPage:
        self.asked.append(token)
        await asyncio.sleep(0)
        return RawPage(self.answers[token], "")


async def listed_keys(ask: listing.Ask, shard: Shard | None = None) -> list[list[str]]:
    return [[remote.key for remote in found.page.objects] async for found in pages(ask, "statements", shard or Shard())]


async def test_pages_follow_their_tokens_to_the_end() -> None:
    server = Server({"": page_of("a", "b", token="1"), "1": page_of("c", token="2"), "2": page_of()})
    found = [listed.page async for listed in pages(server, "statements", Shard())]
    assert [(page.start_after, page.last_key, page.complete) for page in found] == [
        ("", "b", False),
        ("b", "c", False),
        ("c", "c", True),
    ]


async def test_one_page_is_fetched_ahead_and_no_more() -> None:
    server = Server({str(n or ""): page_of(f"{n}", token=str(n + 1)) for n in range(9)})
    async with aclosing(pages(server, "statements", Shard())) as found:
        assert (await anext(found)).page.last_key == "0"
        for _ in range(5):
            await asyncio.sleep(0)
        assert server.asked == ["", "1"]
        await anext(found)
        await asyncio.sleep(0)
        assert server.asked == ["", "1", "2"]


async def test_leaving_early_ends_the_request_under_way() -> None:
    cancelled = asyncio.Event()

    async def ask(*, token: str, start_after: str) -> RawPage:
        if token:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return RawPage(page_of("a", token="1"), "")

    async with aclosing(pages(ask, "statements", Shard())) as found:
        await anext(found)
        await asyncio.sleep(0)
    assert cancelled.is_set()


async def test_a_failed_request_ends_the_listing_with_its_own_error() -> None:
    async def ask(*, token: str, start_after: str) -> RawPage:
        if token:
            raise ConnectionLost("cut")
        return RawPage(page_of("a", token="1"), "")

    with pytest.raises(ConnectionLost):
        await listed_keys(ask)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
async def test_tokens_that_go_in_circles_end_the_listing(length: int) -> None:
    pages_by_token = {str(n): page_of(f"{n}", token=str((n + 1) % length)) for n in range(length)}
    with pytest.raises(ListingUntrusted, match="repeats"):
        await listed_keys(Server({"": page_of("first", token="0"), **pages_by_token}))


async def test_a_server_that_ignores_the_token_is_found_out() -> None:
    counter = iter(range(100))

    async def ask(*, token: str, start_after: str) -> RawPage:
        return RawPage(page_of("a", "b", token=f"fresh{next(counter)}"), "")

    with pytest.raises(ListingUntrusted, match="repeats a page"):
        await listed_keys(ask)


async def test_empty_pages_are_followed_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await listed_keys(Server({"": page_of(token="1"), "1": page_of(token="2"), "2": page_of("a")})) == [
        [],
        [],
        ["a"],
    ]
    monkeypatch.setattr(listing, "MOST_EMPTY_PAGES", 10)
    counter = iter(range(100))

    async def ask(*, token: str, start_after: str) -> RawPage:
        return RawPage(page_of(token=f"fresh{next(counter)}"), "")

    with pytest.raises(ListingUntrusted, match="without a key"):
        await listed_keys(ask)


@pytest.mark.parametrize(
    ("end", "expected"),
    [("b", [["a", "b"]]), ("bb", [["a", "b"], []]), ("c", [["a", "b"], ["c"]]), ("z", [["a", "b"], ["c", "d"], ["e"]])],
)
async def test_a_shard_stops_at_its_end(end: str, expected: list[list[str]]) -> None:
    server = Server({"": page_of("a", "b", token="1"), "1": page_of("c", "d", token="2"), "2": page_of("e")})
    assert await listed_keys(server, Shard(end=end)) == expected


async def test_a_page_out_of_order_is_never_cut() -> None:
    server = Server({"": page_of("a", "z", "b", token="1"), "1": page_of("c")})
    assert await listed_keys(server, Shard(end="m")) == [["a", "z", "b"], ["c"]]
