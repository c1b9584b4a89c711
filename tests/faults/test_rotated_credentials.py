"""The chain's keys rotate while requests are under way: one walk finds the new ones, and everything is tried again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.plan.concurrency import Concurrency
from ingest.source.credentials import ChainCredentials
from ingest.testing.memory_s3 import Answer, Asked, Deed, refusal
from tests.faults.rig import Rig, rigged

FLIGHT = Concurrency().floor
OBJECTS = {f"k{number:03}": b"%d" % number for number in range(3 * FLIGHT)}
REFUSALS = {
    "key": ("403 Forbidden", "InvalidAccessKeyId"),
    "token": ("400 Bad Request", "ExpiredToken"),
    "secret": ("403 Forbidden", "SignatureDoesNotMatch"),
}


@dataclass
class OrderedHash:
    """A `credential_process` that notes each walk."""

    home: Path

    def __post_init__(self) -> None:
        script = f"echo walked >> {self.home}/walks; cat {self.home}/keys.json"
        (self.home / "chain.sh").write_text(script)
        (self.home / "config").write_text(f"[default]\ncredential_process = sh {self.home}/chain.sh\n")
        self.hand_out("first")

    def hand_out(self, name: str) -> None:
        keys = {"Version": 1, "AccessKeyId": name, "SecretAccessKey": f"secret of {name}", "SessionToken": "token"}
        (self.home / "keys.json").write_text(json.dumps(keys))

    @property
    def walks(self) -> int:
        return len((self.home / "walks").read_text().split())


@pytest.fixture
def chain(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> OrderedHash:
    home = tmp_path_factory.mktemp("chain")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return OrderedHash(home)


def of_the_chain(rig: Rig) -> Rig:
    rig.settings = rig.settings.model_copy(update={"access_key": None, "secret_key": None})
    return rig


def rotating(chain: OrderedHash, answer: Answer) -> Callable[[Asked, Answer], Deed | None]:
    """A whole flight of requests is there when the keys are replaced: all of it is refused, and whatever is signed by the
    old ones from then on."""
    arrived, rotated = 0, asyncio.Event()

    def spoil(asked: Asked, _: Answer) -> Deed | None:
        nonlocal arrived
        old = "Credential=first/" in asked.headers["authorization"]
        if not old or (asked.operation != "get" and not rotated.is_set()):
            return None
        arrived += 1
        if arrived == FLIGHT:
            chain.hand_out("second")
            rotated.set()

        async def refuse(visit, _right) -> None:  # type: ignore[no-untyped-def]
            await rotated.wait()
            await visit.send(answer.head, answer.body)

        return refuse

    return spoil


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS)
async def test_a_whole_flight_is_tried_again_after_one_walk(
    tmp_path: Path, sqlite_url: str, swift: None, chain: OrderedHash, said: tuple[str, str]
) -> None:
    async with rigged(tmp_path, sqlite_url, OBJECTS) as rig:
        rig.server.faults.append(rotating(chain, refusal(*said)))
        report = await of_the_chain(rig).run(0)
        assert (report.counts.downloaded, report.counts.failed) == (len(OBJECTS), 0)
        assert chain.walks == 2
        assert rig.server.count("get") == len(OBJECTS) + FLIGHT


async def test_what_was_under_way_during_a_walk_needs_none_of_its_own(chain: OrderedHash) -> None:
    """Also where it found nothing new: the server was faster than whoever writes the keys."""
    credentials = ChainCredentials()
    await credentials.refresh()
    refused = credentials.current
    assert await asyncio.gather(*(credentials.reload(refused) for _ in range(32))) == [False] * 32
    assert (chain.walks, credentials.current) == (2, refused)
    chain.hand_out("second")
    refused = credentials.current
    assert await asyncio.gather(*(credentials.reload(refused) for _ in range(32))) == [True] * 32
    assert (chain.walks, credentials.current.access_key) == (3, "second")
    credentials.close()
