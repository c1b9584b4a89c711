"""``ingest`` as processes of their own that start in milliseconds: forked from one that has imported everything.

It reads orders from its standard input, one JSON object a line, and writes there what becomes of its children. Each
child notes the labels of `ingest.system.failpoints` that it passes in a file, so that a test learns which places there are and
whether a command waits for another one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ingest.system.failpoints as crashpoints

_passed: Callable[[str], None] = crashpoints.failpoint


_children: set[int] = set()
"""Those that have not ended."""


def _here(label: str) -> None:
    _passed(label)


def _import_everything() -> None:
    import ingest
    from tests.faults import small_batches

    for module in pkgutil.walk_packages(ingest.__path__, "ingest."):
        if not module.name.startswith("ingest.demo") and not module.name.rpartition(".")[2].startswith("_"):
            importlib.import_module(module.name)
    for name in ("ingest.__main__", "uvloop", "aiohttp", "asyncpg", "aiokafka", "sqlalchemy.dialects.sqlite"):
        importlib.import_module(name)
    small_batches.apply()


def _noting(path: str) -> Callable[[str], None]:
    """What the environment orders, after a line in the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ordered = crashpoints._chosen()

    def passed(label: str) -> None:
        os.write(descriptor, f"{label}\n".encode())
        ordered(label)

    return passed


def _become(order: dict[str, Any]) -> int:
    """The command of an order; returns its exit code."""
    global _passed  # noqa: PLW0603 - one process, one command
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    _passed = _noting(order["trace"])
    sys.argv = ["ingest", *order["arguments"]]
    from ingest.__main__ import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _news() -> list[dict[str, int]]:
    """Of every child that ended or was stopped since."""
    found: list[dict[str, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if os.WIFSTOPPED(status):
            found.append({"stopped": pid})
        else:
            found.append({"ended": pid, "code": os.waitstatus_to_exitcode(status)})
            _children.discard(pid)


def serve(client: socket.socket) -> None:
    """Carries out orders until the client has gone."""
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(client, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    orders = client.makefile("rb", buffering=0)
    client.sendall(b"{}\n")
    while True:
        for key, _ in selector.select():
            if key.fileobj is woken:
                woken.recv(4096)
                for news in _news():
                    client.sendall(json.dumps(news).encode() + b"\n")
            elif line := orders.readline():
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (client, woken, waking):
                        one.close()
                    os._exit(_become(json.loads(line)))
                _children.add(pid)
                client.sendall(json.dumps({"started": pid}).encode() + b"\n")
            else:
                return


if __name__ == "__main__":
    crashpoints.failpoint = _here
    _import_everything()
    gc.collect()
    gc.freeze()
    try:
        with suppress(ConnectionError):  # the client went without a word
            serve(socket.socket(fileno=0))
    finally:
        for child in _children:  # not yet reaped: the numbers are still theirs
            os.kill(child, signal.SIGKILL)
