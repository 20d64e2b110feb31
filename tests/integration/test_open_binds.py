"""Services that other machines could reach have keys, or say that they have none."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler import SchedulerClusterCombo
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration.deployment import ANY_PORT, Deployment

pytestmark = pytest.mark.without_keys("it is about clusters without keys")

EVERYWHERE = "tcp://0.0.0.0:0"
WAYS_OUT = ("scaler_keys generate DIR", "--security-dir DIR", "--insecure")
STORAGE = ("--object-storage-address", "tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("module", "words", "flag"),
    [
        ("scaler_scheduler", (EVERYWHERE, *STORAGE), "ADDRESS"),
        ("scaler_scheduler", (ANY_PORT, "--monitor-address", EVERYWHERE), "--monitor-address"),
        ("scaler_scheduler", (ANY_PORT, "--monitor-address", "tcp://lo:0"), "--monitor-address"),
        ("scaler_objstore", (EVERYWHERE,), "ADDRESS"),
    ],
)
def test_without_keys_they_are_refused_with_the_two_ways_out(
    deployment: Deployment, module: str, words: tuple[str, ...], flag: str
) -> None:
    service = deployment.start(module, *words, ready=False)
    assert service.wait_end() == 2
    (line,) = [line for line in service.log().splitlines() if "could run code here" in line]
    assert f": {flag}: " in line
    assert all(way in line for way in WAYS_OUT)


@pytest.mark.parametrize("module", ["scaler_scheduler", "scaler_objstore"])
def test_insecure_lets_everybody_in_and_says_so(deployment: Deployment, module: str) -> None:
    words = (EVERYWHERE, *STORAGE) if module == "scaler_scheduler" else (EVERYWHERE,)
    service = deployment.start(module, *words, "--insecure")
    assert "WARNING" in service.log()
    assert "may run code here, because of --insecure" in service.log()


def test_with_keys_they_listen_everywhere_without_a_word(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    for module, words in (("scaler_scheduler", (EVERYWHERE, *STORAGE)), ("scaler_objstore", (EVERYWHERE,))):
        service = deployment.start(module, *words, "--security-dir", str(keys))
        assert "may run code" not in service.log()


@pytest.mark.parametrize("address", [ANY_PORT, "tcp://localhost:0", "tcp://127.0.0.2:0"])
def test_this_machine_alone_needs_no_keys(deployment: Deployment, address: str) -> None:
    assert "WARNING" not in deployment.scheduler(address=address).log()


def test_a_combo_says_the_same() -> None:
    with pytest.raises(ServiceError, match="scaler_keys generate"):
        SchedulerClusterCombo(0, address=EVERYWHERE, object_storage_address=ANY_PORT)
    with SchedulerClusterCombo(0, address=EVERYWHERE, object_storage_address=ANY_PORT, insecure=True) as combo:
        assert combo.get_address().startswith("tcp://0.0.0.0:")
