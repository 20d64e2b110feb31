"""The client runs where POSIX-only modules and names do not exist, as on Windows."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

OUR_MODULES = 31
"""As many modules of the client and the protocol as `import scaler` may load. Each takes about a millisecond."""

PROGRAM = """
import os, select, signal, socket, sys

ABSENT = ("fcntl", "pwd", "grp", "termios", "resource", "tty", "pty", "syslog", "crypt", "spwd", "uvloop")

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"{name} does not exist here")

sys.meta_path.insert(0, Refuse())
for name in ABSENT:
    sys.modules[name] = None
for module, names in (
    (os, ("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getpgid", "setsid", "killpg", "uname",
          "sched_getaffinity", "wait", "waitid", "pidfd_open", "eventfd", "memfd_create")),
    (select, ("poll", "epoll")),
    (signal, ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGALRM", "alarm", "setitimer", "pthread_kill",
              "pthread_sigmask", "sigwait")),
    (socket, ("sendmsg", "recvmsg", "send_fds", "recv_fds")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

import math
from scaler import Client, SchedulerClusterCombo
from scaler.testing import InProcessCluster

with InProcessCluster() as cluster, Client(cluster.address, timeout_seconds=20) as client:
    assert client.submit(math.sqrt, 16).result(20) == 4
    assert client.map(lambda x: x * 2, range(100)) == list(range(0, 200, 2))
    assert client.get({"a": 1, "b": (abs, "a")}, ["b"]) == {"b": 1}
    assert client.submit(len, bytes(300_000)).result(20) == 300_000
    reference = client.send_object([1, 2, 3])
    assert client.submit(sum, reference).result(20) == 6
    assert client.submit(math.sqrt, 1).cancel() in (True, False)
assert not {"fcntl", "pwd", "grp", "termios", "resource", "uvloop"} & {n for n, m in sys.modules.items() if m is not None}
assert not {"pydantic", "fastapi", "psutil"} & set(sys.modules)
print("it runs")
"""

ON_WINDOWS = """
import importlib, math, pkgutil
import scaler, scaler_protocol
from scaler import Client, SchedulerClusterCombo
from scaler.testing import InProcessCluster

SERVICES = ("scaler_protocol.service", "scaler_protocol.testing.store_server")
EXTRAS = ("scaler.dask", "scaler.joblib")
count = 0
for package in (scaler_protocol, scaler):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda name: None):
        # Services are for Linux.
        if found.name.startswith(SERVICES) or found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            assert found.name.startswith(EXTRAS) and error.name in ("dask", "joblib"), (found.name, error)
        count += 1
assert count > 200, count

with InProcessCluster() as cluster, Client(cluster.address, timeout_seconds=20) as client:
    assert client.submit(math.sqrt, 16).result(20) == 4
    assert client.map(lambda x: x * 2, range(100)) == list(range(0, 200, 2))
    assert client.submit(len, bytes(300_000)).result(20) == 300_000
try:
    SchedulerClusterCombo(1)
except OSError as error:
    print(error)
"""


def test_the_client_needs_nothing_posix_only() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, timeout=50, check=False
    )
    assert run.stdout.strip() == "it runs", run.stderr


def test_the_client_runs_where_the_system_calls_itself_windows() -> None:
    program = (Path(__file__).parent / "as_on_windows.py").read_text(encoding="utf-8") + ON_WINDOWS
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert run.stdout.strip() == "schedulers and workers run on Linux only; here, connect a Client to one", run.stderr


def test_import_is_light() -> None:
    """What only a connected client needs is imported with the first one."""
    program = "import sys, scaler; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    imported = set(run.stdout.split())
    heavy = {"capnp", "zmq", "cloudpickle", "numpy", "joblib", "dask", "pydantic", "fastapi", "psutil"}
    # Of the standard library: each of these takes from three to twenty milliseconds.
    slow = {"asyncio", "subprocess", "multiprocessing", "dataclasses", "inspect", "pathlib", "urllib.parse", "socket"}
    assert not (heavy | slow) & imported
    # What an interpreter has loaded when it starts depends on its version; what is ours does not.
    assert len([name for name in imported if name.partition(".")[0] in ("scaler", "scaler_protocol")]) <= OUR_MODULES
