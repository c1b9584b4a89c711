"""A server with sample statements in it, and how the command line is pointed at it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest.demo.server import ACCESS_KEY, SECRET_KEY, Server, serve
from ingest.demo.statements import statements
from ingest.settings import VARIABLES, Settings
from ingest.source.client import S3Client

BUCKET = "statements"
_PUTS_AT_ONCE = 16


@dataclass(frozen=True)
class Place:
    """Where a demo lives: its server, and the directory of its copies and catalog."""

    server: Server
    directory: Path
    more: Mapping[str, str] = field(default_factory=dict)
    """Further variables, for example where the events come from."""

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "endpoint": self.server.endpoint,
                "bucket": BUCKET,
                "access_key": ACCESS_KEY,
                "secret_key": SECRET_KEY,
                "data_dir": self.data_dir,
            }
        )

    @property
    def variables(self) -> dict[str, str]:
        """The variables that make the command line use this place, as they stand in ``.env``."""
        return {
            "S3_ENDPOINT": self.server.endpoint,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "S3_BUCKET": BUCKET,
            "INGEST_DATA_DIR": str(self.data_dir),
            **self.more,
        }

    @property
    def environment(self) -> dict[str, str]:
        """A whole environment for a command: nobody's own settings are in it, so their catalog is never touched."""
        names = {variable.name for variable in VARIABLES.values()}
        names |= {f"{name}_FILE" for name in names}
        foreign = {name for name in os.environ if name in names or name.startswith("AWS_")}
        return {name: value for name, value in os.environ.items() if name not in foreign} | self.variables


@asynccontextmanager
async def stocked(
    directory: Path, count: int, show: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[tuple[Place, S3Client]]:
    """A server with `count` sample statements in its bucket, and a client to change them.

    Raises:
        IngestError: the server does not come up or does not take them.
    """
    async with serve(directory / "server", BUCKET, show=show) as server:
        place = Place(server, directory)
        async with S3Client(place.settings) as client:
            limit = asyncio.Semaphore(_PUTS_AT_ONCE)

            async def put(key: str, body: bytes) -> None:
                async with limit:
                    await client.put(key, body)

            await asyncio.gather(*(put(key, body) for key, body in statements(count)))
            yield place, client


@asynccontextmanager
async def served(directory: Path, count: int) -> AsyncIterator[Place]:
    """As `stocked`, for whoever only wants to know where it is."""
    async with stocked(directory, count) as (place, _):
        yield place
