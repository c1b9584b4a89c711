"""A verification service for demo and tests: a real FastAPI app on a free loopback port, in a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest.errors import IngestError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

_READY_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """One request as the service took it."""

    key: str
    sha256: str
    size: int
    filename: str
    content_type: str
    fields: dict[str, str]
    headers: dict[str, str]


@dataclass
class Trouble:
    """How the service fails on demand: the next `times` requests get `status`, after `delay` seconds."""

    status: int = 503
    times: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass
class VerifyService:
    """A running service. What it received in full, whatever it answered, is in `received`."""

    url: str = ""
    authorization: str = ""
    """Wanted of every request, where not empty."""
    rejects: dict[str, int] = field(default_factory=dict)
    """By the end of the ``s3_path``: the status of the verdict."""
    trouble: Trouble = field(default_factory=Trouble)
    received: list[Received] = field(default_factory=list)
    requests: int = 0

    @property
    def accepted(self) -> list[str]:
        """The keys of what was answered with 200, in order, repetitions included."""
        return list(self._accepted)

    def __post_init__(self) -> None:
        self._accepted: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def fail(self, status: int, times: int = 1, *, delay: float = 0.0, **headers: str) -> None:
        """The next `times` requests fail."""
        self.trouble = Trouble(status, times, headers, delay)

    async def verify(self, request: Request) -> Response:
        from fastapi.responses import JSONResponse
        from starlette.datastructures import UploadFile

        self.requests += 1
        failing = self._is_failing()
        if failing is not None:
            await asyncio.sleep(failing.delay)
            named = {name.replace("_", "-"): value for name, value in failing.headers.items()}
            return JSONResponse({"error": "on demand"}, failing.status, named)
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return JSONResponse({"error": "unauthorized"}, 401)
        async with request.form() as form:
            file = form["file"]
            if not isinstance(file, UploadFile):
                return JSONResponse({"error": "no file"}, 422)
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            digest, size = hashlib.sha256(), 0
            while chunk := await file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
            name, kind = file.filename or "", file.content_type or ""
        key = fields["s3_path"].removeprefix("s3://").partition("/")[2]
        taken = Received(key, digest.hexdigest(), size, name, kind, fields, dict(request.headers))
        with self._lock:
            return JSONResponse(*self._judge(taken))

    def _is_failing(self) -> Trouble | None:
        with self._lock:
            if self.trouble.times <= 0:
                return None
            self.trouble.times -= 1
            return self.trouble

    def _judge(self, taken: Received) -> tuple[dict[str, Any], int]:
        self.received.append(taken)
        verdict = next((status for end, status in self.rejects.items() if taken.fields["s3_path"].endswith(end)), None)
        if verdict is not None:
            return {"verified": False, "reason": "not a statement"}, verdict
        self._accepted.append(taken.key)
        # The same number for every attempt at one version: what the Idempotency-Key is for.
        number = self._numbers.setdefault(taken.headers.get("idempotency-key", ""), len(self._numbers) + 1)
        return {"verified": True, "number": number, "sha256": taken.sha256}, 200

    def app(self) -> FastAPI:
        from fastapi import FastAPI

        app = FastAPI()
        app.add_route("/v1/verify", self.verify, methods=["POST"])  # by name: whatever fields an event brings are taken
        return app


@contextmanager
def verify_service(
    *, port: int = 0, certificate: tuple[Path, Path] | None = None, authorization: str = ""
) -> Iterator[VerifyService]:
    """Runs the service on `port` (0: a free one); `certificate` is (chain, key) in PEM. It answers when entered.

    Raises:
        IngestError: FastAPI is not installed, or the port is taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise IngestError(
            "the demo's verification service is not installed", hint="pip install 'ingest[demo]'"
        ) from error
    service = VerifyService(authorization=authorization)
    chain, key = certificate or (None, None)
    config = uvicorn.Config(
        service.app(), host="127.0.0.1", port=port, log_level="critical", lifespan="off", access_log=False,
        timeout_graceful_shutdown=1, ssl_certfile=chain, ssl_keyfile=key,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="verify-service", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise IngestError("the demo's verification service does not start")
            time.sleep(0.01)
        chosen = server.servers[0].sockets[0].getsockname()[1]
        service.url = f"{'https' if certificate else 'http'}://127.0.0.1:{chosen}/v1/verify"
        yield service
    finally:
        server.should_exit = True
        thread.join(timeout=10)
