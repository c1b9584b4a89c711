"""ListObjectsV2 answers: parsed fast, and believed only when they prove themselves (DESIGN section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from lxml import etree

from ingest.errors import ListingUntrusted
from ingest.model import Page, RemoteObject, Shard
from ingest.source.reader import RawPage
from ingest.source.responses import parse_error

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_ROOT = "ListBucketResult"


class Listed(NamedTuple):
    """One answer: its page, the token of the next one (empty at the end), and the server's name."""

    page: Page
    token: str
    server: str


Ask = Callable[[str], Awaitable[RawPage]]


async def pages(ask: Ask, bucket: str, shard: Shard) -> AsyncIterator[Listed]:
    """Every page of a shard; `ask` sends the request for a continuation token (empty for the first).

    Raises:
        ListingUntrusted: an answer does not prove itself; nothing may be concluded from its absence of keys.
        SourceError: the request failed.
    """
    token, seen, start_after = "", set(), shard.start_after
    while True:
        raw = await ask(token)
        listed = parse_page(raw, bucket=bucket, shard=shard, start_after=start_after)
        if shard.end is not None and any(remote.key > shard.end for remote in listed.page.objects):
            inside = [remote for remote in listed.page.objects if remote.key <= shard.end]
            listed = listed._replace(page=listed.page._replace(objects=inside, complete=True), token="")
        yield listed
        if not listed.token:
            return
        if listed.token in seen:
            raise ListingUntrusted(f"listing {shard}: the server repeats a continuation token")
        seen.add(listed.token)
        token, start_after = listed.token, listed.page.last_key


def parse_page(raw: RawPage, *, bucket: str, shard: Shard, start_after: str) -> Listed:
    """Parses one answer.

    Raises:
        ListingUntrusted: it is not a complete, well-formed listing of this bucket and prefix.
    """
    root = _root(raw.body, shard)
    tag = _NAMESPACE if root.tag.startswith("{") else ""
    if root.findtext(f"{tag}Name") != bucket:
        raise ListingUntrusted(f"listing {shard}: the answer is for bucket {root.findtext(f'{tag}Name')!r}")
    truncated = root.findtext(f"{tag}IsTruncated")
    token = root.findtext(f"{tag}NextContinuationToken") or ""
    if truncated not in ("true", "false"):
        raise ListingUntrusted(f"listing {shard}: the answer does not say whether it is complete")
    if truncated == "true" and not token:
        raise ListingUntrusted(f"listing {shard}: the answer is cut short without a token to go on")
    decode = _decoded if root.findtext(f"{tag}EncodingType") == "url" else str
    try:
        objects = [_object(element, tag, decode) for element in root.iterchildren(f"{tag}Contents")]
        prefixes = [decode(found.findtext(f"{tag}Prefix") or "") for found in root.iterchildren(f"{tag}CommonPrefixes")]
    except (ValueError, TypeError) as error:
        raise ListingUntrusted(f"listing {shard}: an entry cannot be read ({error})") from error
    for remote in objects:
        if not remote.key.startswith(shard.prefix):
            raise ListingUntrusted(f"listing {shard}: the answer holds {remote.key!r}, which was not asked for")
    complete = truncated == "false"
    page = Page(shard, start_after, objects, complete, prefixes, fingerprint(raw.body))
    return Listed(page, "" if complete else token, raw.server)


def fingerprint(body: bytes) -> bytes:
    """Digests the entries of a page: from the first ``<Contents>`` to the last ``</Contents>``."""
    start, end = body.find(b"<Contents>"), body.rfind(b"</Contents>")
    return hashlib.blake2b(memoryview(body)[start:end] if start >= 0 else b"", digest_size=16).digest()


def _root(body: bytes, shard: Shard) -> Any:
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise ListingUntrusted(f"listing {shard}: the answer holds a document type or entities, which are refused")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ListingUntrusted(f"listing {shard}: the answer is no complete XML ({str(error)[:100]})") from error
    if etree.QName(root).localname != _ROOT:
        code, message = parse_error(body)
        said = f"{code} {message}".strip() or f"a <{etree.QName(root).localname}> document"
        raise ListingUntrusted(f"listing {shard}: the answer is not a listing but {said}")
    return root


def _object(element: Any, tag: str, decode: Callable[[str], str]) -> RemoteObject:
    key = etag = modified = size = None
    storage_class = "STANDARD"
    for child in element:
        name = child.tag[len(tag) :]
        if name == "Key":
            key = decode(child.text or "")
        elif name == "ETag":
            etag = (child.text or "").strip('"')
        elif name == "Size":
            size = int(child.text)
        elif name == "LastModified":
            modified = datetime.fromisoformat(child.text)
        elif name == "StorageClass":
            storage_class = child.text or storage_class
    if not key or etag is None or size is None or size < 0 or modified is None:
        raise ValueError(f"{key!r} lacks its key, etag, size or date")
    return RemoteObject(key, size, etag, modified.astimezone(UTC), storage_class)


def _decoded(text: str) -> str:
    # AWS and MinIO encode a space as "+"; a plus sign itself always comes as %2B.
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
