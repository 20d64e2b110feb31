"""The cluster that attempts are made at."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler_protocol.security.authority import KeyRole
from scaler_protocol.testing.security_directory import add_key, make_security_directory
from tests.integration.attempts.intruders import Cluster
from tests.integration.deployment import Deployment


@pytest.fixture
def cluster(deployment: Deployment, tmp_path: Path) -> Cluster:
    """A scheduler with keys and two workers. Eve has a client's key and a worker's."""
    keys = make_security_directory(tmp_path / "keys")
    add_key(keys, KeyRole.CLIENT, "eve")
    add_key(keys, KeyRole.WORKER, "eve-worker")
    audit_log = tmp_path / "audit.log"
    scheduler = deployment.scheduler("--security-dir", str(keys), "--audit-log", str(audit_log))
    workers = deployment.workers(scheduler, "--security-dir", str(keys))
    return Cluster(scheduler, workers, keys, audit_log)
