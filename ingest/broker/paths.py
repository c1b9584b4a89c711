"""The ways to write where an object is, as ``s3://bucket/key``."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ingest.errors import Poison
from ingest.plan.identity import canonical_endpoint

_SCHEMES = re.compile(r"s3[an]?://", re.IGNORECASE)
_ARN = re.compile(r"arn:[a-z-]+:s3:(::)?")
"""What precedes bucket and key; of an access point, whose bucket nobody can tell, a region and an account do."""


def as_s3_path(text: str, bucket: str, endpoint: str) -> str:
    """``s3a://``, ``s3n://``, an ARN, and the URL of an object of `bucket` at `endpoint`; anything else as it is.

    A URL's query is left out: it signs the request that the URL was made for.

    Raises:
        Poison: an ARN that names no bucket.
    """
    if (found := _SCHEMES.match(text) or _ARN.match(text)) is not None:
        if found.re is _ARN and not found[1]:
            raise Poison("bad_path", "the ARN is not one of a bucket's object")
        return f"s3://{text[found.end() :]}"
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or not endpoint:
        return text
    try:
        host = urlsplit(text).netloc.rpartition("@")[2]
    except ValueError:
        return text
    path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")[2]
    secure = scheme.lower() == "https"
    place, wanted = canonical_endpoint(host, secure=secure), canonical_endpoint(endpoint, secure=secure)
    if place == wanted:
        return f"s3://{path}"
    return f"s3://{bucket}/{path}" if place == f"{bucket}.{wanted}".lower() else text
