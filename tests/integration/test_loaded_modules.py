"""What programs have in memory once they have imported everything they need to serve."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("server", ["scaler_scheduler.server", "scaler_objstore.server"])
def test_servers_do_not_even_load_what_unpickles(server: str) -> None:
    unpickles = (
        "cloudpickle",
        "scaler_protocol.failures",
        "scaler_protocol.payloads.by_value",
        "scaler_protocol.payloads.execution",
        "scaler_protocol.payloads.values",
    )
    program = f"import sys, {server}; sys.exit([name for name in {unpickles} if name in sys.modules] or 0)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        "scaler",
        "scaler.client.client",
        "scaler_scheduler.server",
        "scaler_objstore.server",
        "scaler_worker.cluster",
        "scaler_adapters.service",
        "scaler_ui.web.settings",
    ],
)
def test_programs_without_keys_never_import_cryptography(module: str) -> None:
    program = f"import sys, {module}; sys.exit('nacl imported' if 'nacl' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
