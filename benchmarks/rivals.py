"""The contenders: `ingest`, and what people use today, each with its best flags, and by the command that its users take
for the case: to fill an empty directory they copy, and compare only where there is something to compare with.

To add a rival: a function here that returns a `Contender`, and its place among a case's contenders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.buckets import Spec
from benchmarks.databases import url_of
from benchmarks.workshop import Source
from ingest.demo.server import ACCESS_KEY, SECRET_KEY

HOME = Path(__file__).resolve().parent
TOOLS = HOME / ".venv" / "bin"
OURS = HOME / ".own" / "bin" / "ingest"
"""Installed as a user would have it: without what the tests need, some of which is imported where it is found."""

Command = Callable[[Source, Path], list[str]]
Variables = Callable[[Source, Path], Mapping[str, str]]


@dataclass(frozen=True)
class Contender:
    """One tool with its flags. Its files end in the directory of the bucket's name below the target."""

    name: str
    command: Command
    variables: Variables
    reports: bool = False
    """Whether it prints our own JSON summary."""
    bucket: Spec | None = None
    """Another bucket than the case's, to compare with."""
    postgres: bool = False
    """Whether its catalog is on PostgreSQL, not in the target."""


def environment(contender: Contender, source: Source, target: Path, home: Path) -> dict[str, str]:
    """What a contender sees: nothing of the caller's settings, and no ban on byte code, which slows every start."""
    base = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}
    return {**base, **contender.variables(source, target)}


def ingest(*arguments: str, name: str, bucket: Spec | None = None, postgres: bool = False) -> Contender:
    """An `ingest` command, in the settings that a user would have in ``.env``."""

    def command(_source: Source, _target: Path) -> list[str]:
        return [str(OURS), *arguments, "--json", "--quiet"]

    def variables(source: Source, target: Path) -> dict[str, str]:
        values = {
            "S3_ENDPOINT": source.endpoint,
            "S3_BUCKET": source.bucket,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "INGEST_DATA_DIR": str(target),
        }
        database = {"DATABASE_URL": url_of(source.postgres, target)} if postgres else {}
        return values | database | ({"S3_CA_BUNDLE": str(source.ca)} if source.ca else {})

    return Contender(name, command, variables, reports=True, bucket=bucket, postgres=postgres)


def rclone(*flags: str, name: str = "rclone copy") -> Contender:
    """Compares the MD5 of what it has received with the etag, unless a flag forbids it."""

    def command(source: Source, target: Path) -> list[str]:
        remote = f":s3,provider={source.provider},env_auth=true,endpoint='{source.endpoint}':{source.bucket}"
        trust = ["--ca-cert", str(source.ca)] if source.ca else []
        return [str(TOOLS / "rclone"), "copy", *trust, *flags, remote, str(target / source.bucket)]

    return Contender(name, command, _aws_variables)


def s5cmd(*flags: str, verb: str = "sync", name: str = "") -> Contender:
    """``sync`` or ``cp``. Checks nothing of what it has received."""

    def command(source: Source, target: Path) -> list[str]:
        trust = ["--no-verify-ssl"] if source.ca else []
        start = [str(TOOLS / "s5cmd"), "--endpoint-url", source.endpoint, *trust, *flags]
        return [*start, verb, f"s3://{source.bucket}/*", f"{target / source.bucket}/"]

    return Contender(name or f"s5cmd {verb}", command, _aws_variables)


def aws(*flags: str, verb: str = "sync") -> Contender:
    """``sync`` or ``cp``."""

    def command(source: Source, target: Path) -> list[str]:
        trust = ["--ca-bundle", str(source.ca)] if source.ca else []
        start = [str(TOOLS / "aws"), "--endpoint-url", source.endpoint, *trust, "s3", verb, "--only-show-errors"]
        start += ["--recursive"] if verb == "cp" else []
        return [*start, *flags, f"s3://{source.bucket}", str(target / source.bucket)]

    def variables(source: Source, target: Path) -> dict[str, str]:
        return {**_aws_variables(source, target), "AWS_CONFIG_FILE": str(HOME / "aws.config")}

    return Contender(f"aws s3 {verb}", command, variables)


def _aws_variables(_source: Source, _target: Path) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
