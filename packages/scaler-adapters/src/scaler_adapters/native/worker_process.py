"""A worker process that outlives the adapter that started it, so that the next adapter finds it.

`scaler_protocol.service.child` is for children that end with their parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

import psutil

from scaler_protocol.service.child import PARENT_PID_VARIABLE, describe_exit
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.module_path import service_command, service_environment
from scaler_protocol.service.readiness import READY_FD_VARIABLE
from scaler_protocol.service.reports import Reports
from scaler_protocol.service.standard_streams import pipe

KILL_SECONDS = 5.0
"""How long a process may take to end after SIGKILL. Only a hung system call can delay it."""


class WorkerProcess:
    """A running process, started here or found."""

    def __init__(self, process: psutil.Process | psutil.Popen, ready_fd: int = -1) -> None:
        self._process = process
        self._reports = Reports(ready_fd)

    @classmethod
    def start(cls, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> WorkerProcess:
        """Start `python -m module arguments…` in its own session, with these environment variables added."""
        inherited = {
            name: value
            for name, value in service_environment(module, environment).items()
            if name != PARENT_PID_VARIABLE
        }
        read_fd, write_fd = pipe()
        try:
            process = psutil.Popen(
                service_command(module, arguments),
                env={**inherited, READY_FD_VARIABLE: str(write_fd)},
                pass_fds=(write_fd,),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return cls(process, read_fd)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended. A zombie counts as ended."""
        if isinstance(self._process, psutil.Popen):
            return self._process.poll() is None
        with contextlib.suppress(psutil.NoSuchProcess):
            return bool(self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE)
        return False

    def describe_end(self) -> str:
        """Return how it ended, in words, as far as that is known."""
        status = self._process.poll() if isinstance(self._process, psutil.Popen) else None
        return "it does not exist any more" if status is None else describe_exit(status)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until it reports that it is ready. If it ends first or takes too long, stop it and raise ServiceError."""
        reports = self._reports
        try:
            if reports.wait("ready", timeout_s):
                return
        finally:
            reports.close()
        if reports.ended:
            with contextlib.suppress(psutil.TimeoutExpired):
                # The pipe ends a moment before the process can be waited for.
                status = describe_exit(self._process.wait(1.0) or 0)
                said = f": {'; '.join(reports.failure.splitlines())}" if reports.failure else ""
                raise ServiceError(f"ended before it was ready: {status}{said}")
        self.terminate(1.0)
        waits = f": {reports.status}" if reports.status else ""
        raise ServiceError(f"it was not ready within {timeout_s:g} s{waits}")

    def terminate(self, timeout_s: float) -> None:
        """Stop it with SIGTERM, and its whole process group with SIGKILL after `timeout_s` seconds. Idempotent."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except psutil.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                with contextlib.suppress(psutil.TimeoutExpired):
                    self._process.wait(KILL_SECONDS)
