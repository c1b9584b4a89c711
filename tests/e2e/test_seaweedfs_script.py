"""The script that puts another server in MinIO's place, run as its container would: its user may read, and only that."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ingest.demo.server import free_port
from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Certificates

SCRIPT = Path(__file__).resolve().parents[2] / "docker" / "seaweedfs.sh"


@asynccontextmanager
async def stand_in(home: Path, certificates: Certificates) -> AsyncIterator[int]:
    port = free_port()
    for name in ("secrets", "certs", "data"):
        (home / name).mkdir()
    (home / "secrets" / "minio_root_password").write_text("root-password\n")
    (home / "secrets" / "s3_secret_key").write_text("secret-of-ingest\n")
    (home / "certs" / "public.crt").symlink_to(certificates.chain)
    (home / "certs" / "private.key").symlink_to(certificates.key)
    others = [f"-{option}={free_port()}" for option in ("s3.port", "master.port", "volume.port", "filer.port")]
    weed = home / "weed"  # the ports of the container's own are taken here by others
    weed.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name("weed")}" "$@" {" ".join(others)}\n')
    weed.chmod(0o755)
    arguments = ("secrets", "certs", "data", "127.0.0.1", str(port))
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "sh", str(SCRIPT), *arguments, cwd=home, env={"PATH": f"{home}:/usr/bin:/bin"}, stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


async def test_the_bucket_and_its_reader_are_there(tmp_path: Path, certificates: Certificates) -> None:
    async with stand_in(tmp_path, certificates) as port:
        settings = {
            "S3_ENDPOINT": f"https://127.0.0.1:{port}",
            "S3_BUCKET": "statements",
            "S3_ACCESS_KEY": "ingest",
            "S3_SECRET_KEY": "secret-of-ingest",
            "S3_CA_BUNDLE": str(certificates.ca),
        }
        root = settings | {"S3_ACCESS_KEY": "root-of-minio", "S3_SECRET_KEY": "root-password"}
        async with asyncio.timeout(60):
            while (made := await run_ingest("check", "--upload", variables=root, cwd=tmp_path)).code != 0:
                pass  # a command takes its time by itself
        assert "was put and removed" in made.stdout
        read = await run_ingest("check", variables=settings, cwd=tmp_path)
        assert read.code == 0, read.output
        written = await run_ingest("check", "--upload", variables=settings, cwd=tmp_path)
        assert written.code == 1
        assert "AccessDenied" in written.stdout
