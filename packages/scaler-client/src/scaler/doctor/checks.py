"""The checks: what is installed here, whether a scheduler answers, and what its workers say."""

from __future__ import annotations

import os
import platform
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from statistics import median

from scaler import errors
from scaler.client.client import Client
from scaler.client.security import read_keys
from scaler.doctor.findings import Findings, Here, SchedulerFound, WorkersFound
from scaler_protocol.address import reached_beside
from scaler_protocol.errors import WireError
from scaler_protocol.version import PROTOCOL_VERSION, PYTHON_VERSION, SOFTWARE_VERSION

DISTRIBUTIONS = ("protocol", "client", "scheduler", "objstore", "worker", "adapters", "ui")
SMALL_TASKS = 20
"""How many are timed, one after another."""
VALUE_BYTES = 1_000_000
"""Of the value that a worker reads from object storage."""
_POLL_SECONDS = 0.1


def look_here() -> Findings:
    """Return what is installed in this environment. Different versions of the distributions are a problem."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[f"scaler-{name}"] = version(f"scaler-{name}")
        except PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    here = Here(SOFTWARE_VERSION, PROTOCOL_VERSION, platform.python_version(), system, found)
    findings = Findings(here)
    other = [f"{name} {one}" for name, one in found.items() if one != SOFTWARE_VERSION]
    if other:
        findings.problems.append(
            f"distributions of different versions: {', '.join(other)} beside {SOFTWARE_VERSION}; install them all anew"
        )
    return findings


def look_at_cluster(findings: Findings, address: str, security: str | None, timeout_seconds: float) -> None:
    """Connect to the scheduler, count its workers, and run a few small tasks.

    Raises ValueError or TypeError for an address or keys that cannot be used.
    """
    # What a client loads when it is made would be counted as its connection.
    import_module("scaler.client.operations")
    started = time.monotonic()
    try:
        client = Client(address, timeout_seconds=timeout_seconds, security=security)
    except errors.ScalerError as error:
        findings.problems.append(str(error))
        return
    with client:
        welcome = client.operations.engine.welcome
        assert welcome is not None, "a client is made when the scheduler has answered"
        connected = client.operations.engine.address_in_use
        findings.scheduler = SchedulerFound(
            connected,
            welcome.software_version,
            welcome.protocol_version,
            time.monotonic() - started,
            reached_beside(welcome.object_storage_address, connected),
            reached_beside(welcome.monitor_address, connected),
        )
        if welcome.software_version != SOFTWARE_VERSION:
            findings.notes.append(
                f"the scheduler has Scaler {welcome.software_version}, this side {SOFTWARE_VERSION}; update the older one"
            )
        findings.workers = WorkersFound()
        _count_workers(findings, findings.scheduler.monitor, client.operations.security, timeout_seconds)
        if findings.workers.count == 0:
            findings.problems.append(
                f"no workers are connected, so tasks wait: start some with `scaler_cluster {connected} -n 4`"
            )
        else:
            _run_tasks(findings, findings.workers, client, timeout_seconds)


def _count_workers(findings: Findings, address: str, security: str | None, timeout_seconds: float) -> None:
    """Count the workers in what the scheduler publishes to monitors."""
    from scaler_protocol.monitoring.topics import FIGURES
    from scaler_protocol.transport.subscriber import Subscriber
    from scaler_protocol.wire.codec import decode
    from scaler_protocol.wire.messages import MonitorSnapshot

    workers = findings.workers
    assert workers is not None
    if not address:
        findings.notes.append("the scheduler has no monitor address, so its workers cannot be counted")
        return
    try:
        subscriber = Subscriber(address, (FIGURES,), security=read_keys(security, "monitor", "operator"))
    except (ValueError, WireError) as error:
        findings.notes.append(f"workers cannot be counted: {error}")
        return
    deadline = time.monotonic() + timeout_seconds
    try:
        while time.monotonic() < deadline and not subscriber.watch.refusal:
            frames = subscriber.receive(_POLL_SECONDS)
            try:
                message = None if frames is None else decode(frames[1:])
            except WireError:
                continue
            if isinstance(message, MonitorSnapshot):
                workers.count = sum(agent.workers for agent in message.agents)
                workers.hosts = len({agent.hostname for agent in message.agents})
                return
    finally:
        subscriber.close()
    why = subscriber.watch.refusal or f"no figures came within {timeout_seconds:g} s"
    findings.notes.append(f"workers cannot be counted at {address}: {why}")


def _send_value(findings: Findings, client: Client, timeout_seconds: float) -> None:
    """Have a worker read a value that lies in object storage."""
    assert findings.scheduler is not None
    try:
        with client.send_object(os.urandom(VALUE_BYTES)) as reference:
            client.submit(len, reference).result(timeout_seconds)
    except (FutureTimeoutError, errors.ScalerError) as error:
        why = str(error) if isinstance(error, errors.ScalerError) else f"it took more than {timeout_seconds:g} s"
        findings.problems.append(
            f"a value of {VALUE_BYTES:,} bytes has not come to a worker by object storage at "
            f"{findings.scheduler.object_storage or 'no address'}: {why}"
        )


def _run_tasks(findings: Findings, workers: WorkersFound, client: Client, timeout_seconds: float) -> None:
    """Ask a worker for its versions, then time small tasks."""
    try:
        workers.python = client.submit(platform.python_version).result(timeout_seconds)
        workers.scaler = client.submit(version, "scaler-protocol").result(timeout_seconds)
        taken = []
        for number in range(SMALL_TASKS):
            started = time.monotonic()
            client.submit(abs, -number).result(timeout_seconds)
            taken.append(time.monotonic() - started)
        workers.round_trip_seconds = median(taken)
        _send_value(findings, client, timeout_seconds)
    except FutureTimeoutError:
        findings.problems.append(f"no worker has run a small task within {timeout_seconds:g} s: are all of them busy?")
    except Exception as error:
        # Whatever a task raises is something that is wrong with a worker.
        findings.problems.append(f"a small task failed: {type(error).__name__}: {error}")
    if workers.python and workers.python.rpartition(".")[0] != PYTHON_VERSION:
        findings.problems.append(
            f"workers run Python {workers.python}, this side {platform.python_version()}: functions that are sent by value need "
            f"the same minor version"
        )
    if workers.scaler and workers.scaler != SOFTWARE_VERSION:
        findings.notes.append(
            f"workers have Scaler {workers.scaler}, this side {SOFTWARE_VERSION}; update the older one"
        )
