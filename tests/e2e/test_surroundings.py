"""Commands among what else is set on a machine: AWS's own files and variables, and certificates that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.process import run_ingest
from tests.fixtures.servers import Bucket

BROKEN = "[default\nthis is no = file [ of that kind\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_PROFILE": "nosuch"},
        {"AWS_CONFIG_FILE": "broken"},
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"},
    ],
    ids=lambda variables: next(iter(variables)),
)
async def test_what_aws_is_told_counts_only_without_keys(
    weed: Bucket, tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "broken").write_text(BROKEN)
    given = weed.variables(tmp_path / "data") | variables | {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    checked = await run_ingest("check", "--upload", variables=given, cwd=tmp_path)
    assert checked.code == 0, checked.output
    without = {name: value for name, value in given.items() if name not in ("S3_ACCESS_KEY", "S3_SECRET_KEY")}
    refused = await run_ingest("sync", variables=without, cwd=tmp_path)
    assert refused.code == 4, refused.output
    assert "the standard AWS chain failed" in refused.stderr
    assert "Traceback" not in refused.output
    assert "defect" not in refused.output


@pytest.mark.parametrize("name", ["S3_CLIENT_CERT", "VERIFY_CLIENT_KEY", "KAFKA_CLIENT_CERT", "S3_CA_BUNDLE"])
async def test_a_certificate_that_cannot_be_used_is_named_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.pem").write_text("nothing here\n")
    variables = {"S3_ENDPOINT": "https://127.0.0.1:1", "S3_BUCKET": "statements", name: str(tmp_path / "text.pem")}
    done = await run_ingest("status", variables=variables, cwd=tmp_path)
    assert done.code == 2, done.output
    assert name in done.stderr
    assert "Traceback" not in done.output
