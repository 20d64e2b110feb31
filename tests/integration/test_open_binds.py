"""Services that other machines could reach have keys, or say that they have none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scaler import Client, SchedulerClusterCombo
from scaler.errors import ConnectionRefusedByScheduler
from scaler_objstore.settings import ObjectStorageSettings
from scaler_protocol.address import Address
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_protocol.service.security_settings import checked_binds
from scaler_protocol.testing.security_directory import make_security_directory
from scaler_protocol.transport.endpoints import listen
from scaler_scheduler.main import SchedulerService
from scaler_scheduler.settings import SchedulerSettings
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


def test_monitors_find_what_listens_everywhere_where_its_clients_do(deployment: Deployment, tmp_path: Path) -> None:
    scheduler = deployment.scheduler("--insecure", *STORAGE, address=EVERYWHERE)
    # To another machine, 0.0.0.0 would mean that machine itself.
    reached = str(scheduler.addresses["scheduler"]).replace("0.0.0.0", "127.0.0.3")
    monitors = str(scheduler.addresses["monitor"]).replace("0.0.0.0", "127.0.0.3")
    with Client(reached) as client:
        assert monitors in client._repr_html_()
        with client.trace(tmp_path / "trace.json"):
            pass
    assert "(with a name or address of this machine in place of 0.0.0.0)" in scheduler.log()


@pytest.mark.parametrize("address", [ANY_PORT, "tcp://localhost:0", "tcp://127.0.0.2:0"])
def test_this_machine_alone_needs_no_keys(deployment: Deployment, address: str) -> None:
    assert "WARNING" not in deployment.scheduler(address=address).log()


class Names:
    """Looks a host name up as a server of names that gives another answer each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self._answers = list(answers)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str | None, port: int | None, *_rest: object) -> list[tuple[object, ...]]:
        number = self._answers.pop(0) if host == "changing.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port or 0))]


def test_a_host_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "127.0.0.1", "0.0.0.0")
    settings = ObjectStorageSettings.from_command_line(["tcp://changing.example:0"])
    assert isinstance(settings.address, Address)
    address = checked_binds(settings, {"ADDRESS": settings.address})["ADDRESS"]
    listeners, bound = listen(str(address), 1)
    for listener in listeners:
        listener.close()
    assert bound.startswith("tcp://127.0.0.1:")
    # The other way round it is refused.
    Names(monkeypatch, "192.0.2.1", "127.0.0.1")
    with pytest.raises(ConfigurationError, match=r"ADDRESS: whoever reaches tcp://changing\.example:0"):
        checked_binds(settings, {"ADDRESS": settings.address})


def test_a_scheduler_takes_its_other_addresses_from_the_number_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Names(monkeypatch, "127.0.0.3")
    given = ["tcp://changing.example:2345", *STORAGE, "--monitor-address", "tcp://127.0.0.1:2350"]
    service = SchedulerService()
    service.prepare(SchedulerSettings.from_command_line(given), alone=True)
    checked = service.checked
    assert checked is not None
    assert (str(checked.address), str(checked.monitor_address)) == ("tcp://127.0.0.3:2345", "tcp://127.0.0.1:2350")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b"])
def test_a_host_that_cannot_be_found_is_one_line(deployment: Deployment, host: str) -> None:
    service = deployment.start("scaler_objstore", f"tcp://{host}:0", ready=False)
    assert service.wait_end() == 2
    (line,) = [line for line in service.log().splitlines() if "logging to" not in line]
    assert f"ADDRESS: cannot listen on tcp://{host}:0: " in line


def test_with_keys_insecure_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys), "--insecure", *STORAGE, address=EVERYWHERE)
    assert "--insecure has no effect" in scheduler.log()
    with pytest.raises(ConnectionRefusedByScheduler, match="lets in only peers with keys"):
        Client(f"tcp://127.0.0.1:{scheduler.addresses['scheduler'].port}")


def test_a_combo_says_the_same() -> None:
    with pytest.raises(ServiceError, match="scaler_keys generate"):
        SchedulerClusterCombo(0, address=EVERYWHERE, object_storage_address=ANY_PORT)
    with SchedulerClusterCombo(0, address=EVERYWHERE, object_storage_address=ANY_PORT, insecure=True) as combo:
        assert combo.get_address().startswith("tcp://0.0.0.0:")
