"""Starting another Scaler service as a child process that reports its addresses and never outlives its parent.

The parent's half is `ChildService`, the child's half is `die_with_parent` (and `Readiness` for the report). Only the
standard library is used, because the client's local cluster starts services too, without pydantic.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.readiness import READY_FD_VARIABLE

if TYPE_CHECKING:
    import subprocess

PARENT_PID_VARIABLE = "SCALER_PARENT_PID"

_PR_SET_PDEATHSIG = 1

_REPORT_BYTES_MAX = 65_536


class ChildService:
    """One running service, started with `python -m <module>`. Make it with `ChildService.start`."""

    def __init__(self, module: str, process: subprocess.Popen[bytes], ready_fd: int) -> None:
        self.module = module
        self.process = process
        self._ready_fd = ready_fd

    @classmethod
    def start(
        cls,
        module: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> ChildService:
        """Starts `python -m module arguments…` with this interpreter, in a process group of its own.

        A group of its own keeps Ctrl-C in a terminal from reaching the child beside its parent: the parent stops its
        children in order. `environment` is added to that of this process; without `stdin` there is nothing to read.
        """
        # Services that start no other do without.
        import subprocess

        read_fd, write_fd = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={
                    **os.environ,
                    **(environment or {}),
                    READY_FD_VARIABLE: str(write_fd),
                    PARENT_PID_VARIABLE: str(os.getpid()),
                },
                pass_fds=(write_fd,),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return cls(module, process, read_fd)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended; one that has is reaped by asking."""
        return self.process.poll() is None

    def wait_ready(self, timeout_s: float = 30.0) -> dict[str, Address]:
        """The addresses the child reports once it answers on them, by role. May be called once.

        Raises `ServiceError` when the child ends first, or says nothing for `timeout_s` seconds; it is then terminated.
        """
        try:
            report = self._read_report(time.monotonic() + timeout_s)
        finally:
            os.close(self._ready_fd)
            self._ready_fd = -1
        if report.endswith(b"\n"):
            return {role: Address.parse(text) for role, text in json.loads(report).items()}
        import subprocess

        try:
            # The pipe's end comes before the process can be reaped; a child that closed it and lives on is not ready.
            status = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self.terminate(1.0)
            raise ServiceError(f"{self.module} did not become ready within {timeout_s:g} s") from None
        raise ServiceError(f"{self.module} ended before it was ready: {describe_exit(status)}")

    def _read_report(self, deadline: float) -> bytes:
        """Everything up to the first line's end, or less when the pipe ends or the deadline passes before."""
        report = b""
        poller = select.poll()
        poller.register(self._ready_fd, select.POLLIN)
        while not report.endswith(b"\n") and len(report) < _REPORT_BYTES_MAX:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                break
            chunk = os.read(self._ready_fd, 4096)
            if not chunk:
                break
            report += chunk
        return report

    def terminate(self, timeout_s: float = 10.0) -> int:
        """Ends the child in stages: SIGTERM, and SIGKILL after `timeout_s` seconds. Returns its exit status.

        Idempotent. After SIGKILL the whole process group is killed, so that nothing the child started stays behind.
        """
        import subprocess

        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def describe_exit(status: int) -> str:
    """An exit status as `subprocess` reports it, in words: `exit status 2`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def die_with_parent() -> None:
    """Called by a service as it starts: it is then asked to stop (SIGTERM) when the process that started it dies.

    Does nothing in a process that no other Scaler process started. Linux only, like the services themselves.
    """
    parent_text = os.environ.pop(PARENT_PID_VARIABLE, None)
    if parent_text is None:
        return
    parent_pid = int(parent_text)

    def on_parent_thread_ended(_number: int, _frame: object) -> None:
        # The kernel signals the end of the parent's *thread* that started us. Threads come and go; only when we have
        # been given to another process is the parent gone.
        if os.getppid() != parent_pid:
            # Its threads end one after another, each with a signal; a second SIGTERM would cut our own stopping short.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR2, on_parent_thread_ended)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR2), 0, 0, 0) != 0:
        raise ServiceError(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    # The parent may have died between starting us and the call above, which then arms nothing.
    if os.getppid() != parent_pid:
        sys.exit(128 + signal.SIGTERM)
