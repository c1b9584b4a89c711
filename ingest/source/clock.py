"""The server's clock, from the ``Date`` of whatever it answers: a refusal has one as well."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingest.settings import Settings
from ingest.source.endpoint import Endpoint

_SECONDS = 10.0


async def server_time(settings: Settings) -> datetime | None:
    """One HEAD of the bucket, unsigned: it needs no permission and gives no secret away. No redirect is followed.

    None when the server does not answer, or does not say. Whoever needs the server finds out why from the next request.
    """
    from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
    from yarl import URL

    endpoint, tls = Endpoint.from_settings(settings), settings.trust.context() if settings.secure else None
    url = URL(f"{endpoint.scheme}://{endpoint.host_header}{endpoint.bucket_path}", encoded=True)
    connector = TCPConnector(ssl=tls if tls is not None else True)
    try:
        async with (
            ClientSession(connector=connector, timeout=ClientTimeout(total=_SECONDS), trust_env=True) as session,
            session.head(url, allow_redirects=False) as answer,
        ):
            return parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (ClientError, OSError, KeyError, ValueError, OverflowError):  # a time-out is an OSError
        return None
