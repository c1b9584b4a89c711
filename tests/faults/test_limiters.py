"""A real nginx that permits so many requests a second, or so many at once, in front of a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.demo.server import free_port
from tests.faults.rig import run_sync
from tests.fixtures.servers import Bucket

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx (Debian: nginx-light)")

CONFIGURATION = """
daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1;
events {{}}
http {{
  access_log {home}/access.log;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  limit_req_zone $server_port zone=rate:1m rate=100r/s;
  limit_conn_zone $server_port zone=level:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{ {limit} proxy_pass {upstream}; proxy_set_header Host $http_host; }}
  }}
}}
"""


@asynccontextmanager
async def nginx(home: Path, upstream: str, limit: str) -> AsyncIterator[str]:
    """Its endpoint, once it listens."""
    home.mkdir()
    port = free_port()
    configuration = home / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(home=home, port=port, upstream=upstream, limit=limit))
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(NGINX, "-c", str(configuration), "-p", str(home))
    try:
        async with asyncio.timeout(20):
            while not (home / "pid").exists() or not (home / "pid").read_text().strip():  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize(
    "limit",
    [
        "limit_req zone=rate burst=5 nodelay;",
        "limit_req zone=rate burst=5 nodelay; limit_req_status 429; add_header Retry-After 0 always;",
        "limit_req zone=rate;",
        "limit_conn level 3;",
        "limit_conn level 1; limit_conn_status 429;",
    ],
)
async def test_all_arrive_at_the_pace_that_it_permits(weed: Bucket, tmp_path: Path, limit: str) -> None:
    objects = {f"k/{number:03}": os.urandom(2_048) for number in range(100)}
    await weed.put(objects)
    async with nginx(tmp_path / "nginx", weed.endpoint, limit) as endpoint:
        report = await run_sync(weed.settings(tmp_path / "data", endpoint=endpoint))
    assert (report.exit_code, report.counts.downloaded, report.counts.failed) == (0, len(objects), 0), report.error
    answers = [line.split('" ')[1].split()[0] for line in (tmp_path / "nginx/access.log").read_text().splitlines()]
    refused = len(answers) - answers.count("200")
    assert 0 < refused < len(objects)
