"""A bucket on raw sockets that holds keys exactly, also those that no other test server takes. Every body is ``x``."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from tests.fixtures.raw_server import Script, Visit

ETAG = "9dd4e461268c8034f5c8564e155c67a6"
_HEAD = f'ETag: "{ETAG}"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n'


def listing(keys: Sequence[str], bucket: str = "statements") -> bytes:
    entry = (
        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;"
        + ETAG
        + "&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )
    entries = "".join(entry.format(quote(key, safe="/")) for key in sorted(keys))
    head = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>{bucket}</Name><Prefix></Prefix>'
    fields = f"<KeyCount>{len(keys)}</KeyCount><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    return f"{head}{fields}{entries}</ListBucketResult>".encode()


def bucket_of(keys: Sequence[str]) -> Script:
    """Lists `keys` whatever is asked, and answers any other GET or HEAD with an object."""

    async def answer(visit: Visit) -> None:
        if b"list-type=2" in visit.head:
            await visit.answer(listing(keys))
        elif visit.head.startswith(b"HEAD"):
            await visit.send(f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{_HEAD}\r\n".encode())
        else:
            await visit.answer(b"x", headers=_HEAD)

    return answer
