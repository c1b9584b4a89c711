"""The client of `forkserver`: starts commands, and waits for what becomes of them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fixtures.process import environment

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 90.0
"""Seconds that any command here may take."""


@dataclass
class Forked:
    """One command under way, or ended with `code`."""

    server: ForkServer
    pid: int
    output: Path
    trace: Path
    code: int | None = None
    stopped: bool = False

    @property
    def passed(self) -> list[str]:
        """The labels so far, in their order."""
        return self.trace.read_text().split() if self.trace.exists() else []

    @property
    def said(self) -> str:
        """All its output so far; whoever is killed at once has not even made the file."""
        return self.output.read_text() if self.output.exists() else ""

    def until(self, condition: Callable[[], bool], seconds: float = LONGEST) -> bool:
        """Waits until that is so, and returns whether it came to be."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.server.hear(0.01)
        return True

    def held(self) -> bool:
        """Waits until it stands still (True) or has ended."""
        assert self.until(lambda: self.stopped or self.code is not None), self.said
        return self.code is None

    def go_on(self) -> None:
        self.stopped = False
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> int:
        """Waits for its exit code."""
        assert self.until(lambda: self.code is not None), f"{self.pid} hangs: {self.said}"
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        if self.code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.end()


@dataclass
class ForkServer:
    """A running one."""

    socket: socket.socket
    children: dict[int, Forked] = field(default_factory=dict)
    _rest: bytes = b""
    _started: list[int] = field(default_factory=list)
    _numbers: int = 0

    def start(self, arguments: Sequence[str], variables: Mapping[str, str], *, cwd: Path) -> Forked:
        """A command with these settings; its output and its trace lie in `cwd`."""
        self._numbers += 1
        output, trace = cwd / f"{self._numbers}.output", cwd / f"{self._numbers}.trace"
        order = {
            "arguments": arguments,
            "environment": environment(variables),
            "cwd": str(cwd),
            "output": str(output),
            "trace": str(trace),
        }
        self.socket.sendall(json.dumps(order).encode() + b"\n")
        while not self._started:
            self.hear(LONGEST)
        child = Forked(self, self._started.pop(), output, trace)
        self.children[child.pid] = child
        return child

    def hear(self, seconds: float) -> None:
        """Takes what the server has to say, waiting so long for its first word."""
        while select.select([self.socket], [], [], seconds)[0]:
            received = self.socket.recv(1 << 16)
            assert received, "the fork server has gone"
            *lines, self._rest = (self._rest + received).split(b"\n")
            for line in lines:
                self._heard(json.loads(line))
            seconds = 0.0

    def _heard(self, news: dict[str, int]) -> None:
        if "started" in news:
            self._started.append(news["started"])
        elif "stopped" in news:
            self.children[news["stopped"]].stopped = True
        elif "ended" in news:
            child = self.children.pop(news["ended"])
            child.code = news["code"]

    def kill_all(self) -> None:
        for child in list(self.children.values()):
            child.kill()


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # In a session of its own: what stands still in a process group whose leader goes is hung up by the kernel.
        command = [sys.executable, "-m", "tests.faults.forkserver"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), cwd=ROOT, start_new_session=True)
        theirs.close()
        server = ForkServer(ours)
        try:
            assert select.select([ours], [], [], LONGEST)[0]
            yield server
            server.kill_all()
        finally:
            ours.close()
            process.wait(10)
