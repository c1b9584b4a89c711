"""The server's clock, from the ``Date`` of whatever it answers: a refusal has one as well. Ours is compared with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from ingest.errors import SourceError, TooManyFiles
from ingest.http.dates import parse_http_date
from ingest.http.exchange import Exchange, Headers
from ingest.http.pool import Pool
from ingest.http.timeouts import Timeouts
from ingest.observe.logs import log
from ingest.plan.clock import NOTED, Reading, moment_of
from ingest.settings.source import SourceSettings
from ingest.source.endpoint import Endpoint

_SECONDS = 10.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Clock:
    """This machine's clock, `ours`, beside the server's. `believed` is the last time that earlier runs vouch for."""

    def __init__(self, believed: datetime | None = None, ours: Callable[[], datetime] = utc_now) -> None:
        self.trusted = False
        """An operator says that it is right."""
        self._believed = believed
        self._ours = ours
        self._reading = Reading(ours())
        self._date = b""
        self._said = False

    @property
    def reading(self) -> Reading:
        return self._reading._replace(now=self._ours(), trusted=self.trusted)

    def now(self) -> datetime:
        """The moment to be recorded for what happens now (see `plan.clock`)."""
        return moment_of(self.reading, self._believed)

    def see(self, headers: Headers) -> None:
        """Compares the clocks once for each second that an answer tells. What a cache keeps tells another time."""
        date = headers.get(b"date", b"")
        if date != self._date and b"age" not in headers:
            self._date = date
            self.compare(parse_http_date(date))

    def compare(self, server: datetime | None) -> None:
        """The server says that it is so late; None: it does not say."""
        if server is None:
            return
        now = self._ours()
        self._reading = Reading(now, now - server)
        if abs(now - server) > NOTED and not self._said:
            self._said = True
            said = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, the server's {server:%Y-%m-%d %H:%M}"
            log().warning("clock_off", message=f"{said}: set this machine's (NTP); the later one is recorded meanwhile")


async def server_time(settings: SourceSettings) -> datetime | None:
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
