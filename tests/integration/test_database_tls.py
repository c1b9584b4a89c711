"""``sslmode`` in DATABASE_URL, on both ways to PostgreSQL: what is asked for on the wire, and who is believed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
import trustme
from sqlalchemy import text

from ingest.catalog.schema import schema
from ingest.catalog.schema.engine import create_engine
from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.url import Target
from ingest.errors import DatabaseError
from ingest.testing.connections import listening
from tests.fixtures.catalogs import opened_once
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Certificates

Ask = Callable[[str], Awaitable[None]]
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


@dataclass
class Front:
    """Speaks TLS, or refuses it, in front of the tests' PostgreSQL, which has none."""

    socket: str
    tls: ssl.SSLContext | None
    port: int = 0
    asked: list[bool] = field(default_factory=list)
    """For each connection whether it began with a request for TLS."""
    encrypted: int = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        self.asked.append(first == SSL_REQUEST)
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            if first == SSL_REQUEST:
                writer.write(b"S" if self.tls else b"N")
                await writer.drain()
                if self.tls:
                    await writer.start_tls(self.tls)
                    self.encrypted += 1
                first = await reader.readexactly(8)
            there, back = await asyncio.open_unix_connection(self.socket)
            back.write(first)
            try:
                await asyncio.gather(pump(reader, back), pump(there, writer))
            finally:
                back.close()
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def fronted(postgres_url: str, certificates: Certificates | None) -> AsyncIterator[Front]:
    tls = None
    if certificates is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates.chain, certificates.key)
    directory = parse_qs(urlsplit(postgres_url).query)["host"][0]
    socket = next(path for path in Path(directory).iterdir() if path.name.startswith(".s.PGSQL") and path.is_socket())
    front = Front(str(socket), tls)
    async with listening(front.carry) as front.port:
        yield front


@pytest_asyncio.fixture
async def front(postgres_url: str, certificates: Certificates) -> AsyncIterator[Front]:
    async with fronted(postgres_url, certificates) as made:
        yield made


@pytest_asyncio.fixture
async def plain(postgres_url: str) -> AsyncIterator[Front]:
    async with fronted(postgres_url, None) as made:
        yield made


def url_of(front: Front, postgres_url: str, host: str = "localhost", **parameters: object) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"postgresql+asyncpg://postgres@{host}:{front.port}{urlsplit(postgres_url).path}?{query}"


async def by_driver(url: str) -> None:
    async with open_driver(Target.of(url)) as driver:
        assert await driver.fetch("SELECT 1") == [(1,)]


async def by_engine(url: str) -> None:
    engine = create_engine(url)
    try:
        with Target.of(url).translated():
            async with engine.connect() as connection:
                assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    finally:
        await engine.dispose()


EACH_WAY = pytest.mark.parametrize("ask", [by_driver, by_engine])


@EACH_WAY
@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [("disable", False), ("prefer", True), ("require", True), ("verify-ca", True), ("verify-full", True)],
)
async def test_each_mode(
    front: Front, postgres_url: str, certificates: Certificates, ask: Ask, mode: str, encrypted: bool
) -> None:
    await ask(url_of(front, postgres_url, sslmode=mode, sslrootcert=certificates.ca))
    assert front.asked == [encrypted]
    assert front.encrypted == encrypted


@EACH_WAY
async def test_a_server_without_tls(plain: Front, postgres_url: str, ask: Ask) -> None:
    """`prefer` makes do without; `require` does not."""
    await ask(url_of(plain, postgres_url, sslmode="prefer"))
    with pytest.raises(DatabaseError, match="SSL"):
        await ask(url_of(plain, postgres_url, sslmode="require"))
    assert plain.asked == [True, True]  # where it is refused, the same connection goes on without


@EACH_WAY
@pytest.mark.parametrize(("mode", "believed"), [("require", True), ("verify-ca", True), ("verify-full", False)])
async def test_a_certificate_of_another_host(
    tmp_path: Path, postgres_url: str, ask: Ask, mode: str, believed: bool
) -> None:
    authority = trustme.CA()
    theirs = Certificates(tmp_path / "ca.pem", tmp_path / "chain.pem", tmp_path / "key.pem")
    issued = authority.issue_cert("db.example.com")
    authority.cert_pem.write_to_path(str(theirs.ca))
    issued.cert_chain_pems[0].write_to_path(str(theirs.chain))
    issued.private_key_pem.write_to_path(str(theirs.key))
    async with fronted(postgres_url, theirs) as front:
        url = url_of(front, postgres_url, sslmode=mode, sslrootcert=theirs.ca)
        if believed:
            await ask(url)
        else:
            with pytest.raises(DatabaseError, match="certificate"):
                await ask(url)


@EACH_WAY
async def test_a_certificate_of_an_unknown_authority(tmp_path: Path, front: Front, postgres_url: str, ask: Ask) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(DatabaseError, match="certificate"):
        await ask(url_of(front, postgres_url, sslmode="verify-ca", sslrootcert=tmp_path / "other.pem"))
    assert not front.encrypted


async def test_a_catalog_behind_tls(front: Front, postgres_url: str, certificates: Certificates) -> None:
    """Migrated by SQLAlchemy, read by the driver."""
    url = url_of(front, postgres_url, sslmode="verify-full", sslrootcert=certificates.ca)
    await schema.upgrade(url)
    await opened_once(url)
    assert all(front.asked)
    assert front.encrypted == len(front.asked)


@pytest.mark.parametrize("arguments", [("db", "upgrade"), ("db", "check"), ("sync",), ("status",)])
@pytest.mark.parametrize(
    "url", ["postgresql://u:PwCanary@127.0.0.1:1/x?foo=bar", "sqlite+aiosqlite://PwCanary"], ids=["unknown", "no file"]
)
async def test_what_is_not_known_is_wrong_usage(tmp_path: Path, url: str, arguments: tuple[str, ...]) -> None:
    bucket = {"S3_ENDPOINT": "127.0.0.1:1", "S3_BUCKET": "statements", "S3_ACCESS_KEY": "ours", "S3_SECRET_KEY": "hush"}
    done = await run_ingest(*arguments, variables={"DATABASE_URL": url, **bucket}, cwd=tmp_path)
    assert done.code == 2, done.stderr
    assert "DATABASE_URL" in done.stderr
    assert "Canary" not in done.output
