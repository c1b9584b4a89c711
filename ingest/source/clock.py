"""The server's clock, from the ``Date`` of whatever it answers: a refusal has one as well."""

from __future__ import annotations

import asyncio
from datetime import datetime

from ingest.errors import SourceError, TooManyFiles
from ingest.http.exchange import Exchange
from ingest.http.http_date import parse_http_date
from ingest.http.pool import Pool
from ingest.http.timeouts import Timeouts
from ingest.settings import Settings
from ingest.source.endpoint import Endpoint

_SECONDS = 10.0


async def server_time(settings: Settings) -> datetime | None:
    """One HEAD of the bucket, unsigned: it needs no permission and gives no secret away. No redirect is followed.

    None when the server does not answer, or does not say. Whoever needs the server finds out why from the next request.

    Raises:
        SettingsError: a proxy or a certificate is not usable.
    """
    endpoint = Endpoint.from_settings(settings)
    route = endpoint.route(settings.trust)
    pool = Pool(route.dialer(_SECONDS), limit=1, timeouts=Timeouts())
    try:
        async with asyncio.timeout(_SECONDS):
            response = await pool.fetch(Exchange(route.head("HEAD", endpoint.bucket_path, {}), bodyless=True))
    except (SourceError, TooManyFiles, TimeoutError):
        return None
    finally:
        await pool.aclose()
    return parse_http_date(response.headers.get(b"date", b""))
