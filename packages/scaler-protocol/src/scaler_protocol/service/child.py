"""Starting another Scaler service as a child process that reports its addresses and never outlives its parent.

The parent's half is `ChildService`, the child's half is `die_with_parent` (and `Readiness` for the report). Only the
standard library is used, because the client's local cluster starts services too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import runpy
import select
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Literal, NoReturn

from scaler_protocol.address import Address
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.listeners import LISTENER_VARIABLE
from scaler_protocol.service.module_path import service_command, service_environment
from scaler_protocol.service.readiness import READY_FD_VARIABLE, Readiness
from scaler_protocol.service.reports import Reports
from scaler_protocol.service.standard_streams import inherited_stream, pipe

if TYPE_CHECKING:
    import subprocess

PARENT_PID_VARIABLE = "SCALER_PARENT_PID"

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_NAME_BYTES_MAX = 15


class ChildService:
    """One running service, a `python -m <module>`. Make it with `ChildService.start` or `fork`."""

    def __init__(self, name: str, process: subprocess.Popen[bytes] | ForkedProcess, ready_fd: int) -> None:
        self.name = name
        """The name that errors use."""
        self.process = process
        self._reports = Reports(ready_fd)

    @classmethod
    def start(
        cls,
        module: str,
        arguments: Sequence[str] = (),
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        late_address: bool = False,
        listener: int | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> ChildService:
        """Starts `python -m module arguments…` with this interpreter, in a process group of its own.

        In its own group the child does not get a terminal's Ctrl-C, because the parent stops its children in order.
        `name` is used in errors (default: the module). `environment` is added to that of this process. With
        `late_address` the child is started with the address `-`, and `give_address` sends the address. `listener` is the
        descriptor of a listening socket for the child (see `service.listeners`).
        """
        # Imported here, because services that start no other do not need it.
        import subprocess

        read_fd, write_fd = pipe()
        try:
            process = subprocess.Popen(
                service_command(module, arguments),
                env={
                    **service_environment(module, environment),
                    READY_FD_VARIABLE: str(write_fd),
                    PARENT_PID_VARIABLE: str(os.getpid()),
                    **({} if listener is None else {LISTENER_VARIABLE: str(listener)}),
                },
                pass_fds=(write_fd,) if listener is None else (write_fd, listener),
                stdin=subprocess.PIPE if late_address else subprocess.DEVNULL,
                stdout=inherited_stream(1) if stdout is None else stdout,
                stderr=inherited_stream(2) if stderr is None else stderr,
                process_group=0,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return cls(name or module, process, read_fd)

    @classmethod
    def fork(cls, module: str, arguments: Sequence[str] = ()) -> ChildService:
        """As `start` with `late_address`, in a fork of this process, which has imported most modules already.

        The fork has everything that this process holds, but only the calling thread. So call this at the start of a
        service, before it has threads or sockets (ZeroMQ's threads are not seen). If there are other threads, it starts
        the child as `start` does.
        """
        if threading.active_count() > 1:
            return cls.start(module, arguments, late_address=True)
        read_fd, write_fd = pipe()
        input_read_fd, input_write_fd = pipe()
        parent_pid = os.getpid()
        # Imported objects stay. If the collector examined them, the child would get a copy of every page they are on.
        gc.collect()
        gc.freeze()
        for stream in (sys.stdout, sys.stderr):
            # A process may have been started without it.
            if stream is not None:
                stream.flush()
        try:
            pid = os.fork()
            if pid == 0:
                _become_service(module, arguments, input_read_fd, write_fd, parent_pid)
        except OSError:
            os.close(read_fd)
            os.close(input_write_fd)
            raise
        finally:
            os.close(write_fd)
            os.close(input_read_fd)
        # The child does the same. Whichever is first, the group exists when this returns.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return cls(module, ForkedProcess(pid, open(input_write_fd, "wb", buffering=0)), read_fd)

    def give_address(self, address: object) -> None:
        """Send the child the address that it waits for."""
        assert self.process.stdin is not None
        # If the child has ended, `wait_ready` says so, with its reason.
        with contextlib.suppress(BrokenPipeError), self.process.stdin as standard_input:
            standard_input.write(f"{address}\n".encode())

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended. If it has, this reaps it."""
        return self.process.poll() is None

    def wait_ready(self, timeout_s: float = 30.0) -> dict[str, Address]:
        """Wait until the child is ready; return the addresses on which it answers, by role.

        Raises `ServiceError` if the child ends first (with its last words), or if it is not ready within `timeout_s` seconds
        (with what it waits for). In the second case the child is terminated.
        """
        self._wait_for("ready", timeout_s)
        return {role: Address.parse(text) for role, text in (self._reports.addresses or {}).items()}

    def wait_started(self, timeout_s: float = 30.0) -> None:
        """Wait until all parts of the child run that need no other service. Raises as `wait_ready`."""
        self._wait_for("started", timeout_s)

    def _wait_for(self, kind: Literal["started", "ready"], timeout_s: float) -> None:
        if self._reports.wait(kind, timeout_s):
            return
        # The pipe's end comes before the process can be reaped. A child that closed the pipe and lives is not ready.
        if not self._reports.ended or not self._ends_within(1.0):
            self.terminate(1.0)
            waits = f": {self._reports.status}" if self._reports.status else ""
            raise ServiceError(f"{self.name} did not become ready within {timeout_s:g} s{waits}")
        said = f"\n{self._reports.failure}" if self._reports.failure else ""
        raise ServiceError(f"{self.name} ended before it was ready: {describe_exit(self.process.wait())}{said}")

    def terminate(self, timeout_s: float = 10.0) -> int:
        """Ends the child in stages: SIGTERM, and SIGKILL after `timeout_s` seconds. Returns its exit status.

        Idempotent. After SIGKILL the whole process group is killed, so that none of the child's processes remains.
        """
        self._reports.close()
        self.process.terminate()
        if self.process.stdin is not None:
            # After the signal, so that a child which waits for its address reports no error.
            self.process.stdin.close()
        if not self._ends_within(timeout_s):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    def join(self, timeout_s: float | None = None) -> int:
        """Wait until the child ends by itself; return its exit status. Raises TimeoutError after `timeout_s` seconds."""
        if not self._ends_within(timeout_s):
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s")
        return self.process.wait()

    def _ends_within(self, timeout_s: float | None) -> bool:
        """Wait for its end. `Popen.wait` with a timeout would poll."""
        if self.process.poll() is not None:
            return True
        try:
            pidfd = os.pidfd_open(self.process.pid)
        except ProcessLookupError:
            # Another thread has reaped it just now.
            return True
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))
        finally:
            os.close(pidfd)


class ForkedProcess:
    """A child made with `fork`, with the methods of `subprocess.Popen`."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        self.pid = pid
        self.stdin: IO[bytes] | None = stdin
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        status = self._reap(0)
        assert status is not None
        return status

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _become_service(module: str, arguments: Sequence[str], input_fd: int, ready_fd: int, parent_pid: int) -> NoReturn:
    """In a forked child: run as `python -m module arguments…` would. Never returns."""
    status: object = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
            signal.signal(signal_number, signal.SIG_DFL)
        # Log files belong to the parent. Closed as objects, so that none later closes a descriptor that was reused.
        for handler in list(logging.getLogger().handlers):
            logging.getLogger().removeHandler(handler)
            handler.close()
        os.dup2(input_fd, 0)
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in (0, 1, 2, ready_fd):
                # One of them was the descriptor of the listing itself.
                with contextlib.suppress(OSError):
                    os.close(int(name))
        os.environ[READY_FD_VARIABLE] = str(ready_fd)
        os.environ[PARENT_PID_VARIABLE] = str(parent_pid)
        # The command line remains that of the parent, so ps and top distinguish the two by this name.
        ctypes.CDLL(None).prctl(_PR_SET_NAME, module.encode()[:_NAME_BYTES_MAX], 0, 0, 0)
        sys.argv = [module, *arguments]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as leaving:
        status = leaving.code
    except BaseException:
        with contextlib.suppress(Exception):
            Readiness.of_process().failed(traceback.format_exc())
            traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: the frames above this one belong to the parent's code.
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def describe_exit(status: int) -> str:
    """Return an exit status of `subprocess` as words: `exit status 2`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def die_with_parent() -> None:
    """Have this service stopped (SIGTERM) when the process that started it dies. Services call this at their start.

    Does nothing in a process that was not started by Scaler. Linux only, as all services.
    """
    parent_text = os.environ.pop(PARENT_PID_VARIABLE, None)
    if parent_text is None:
        return
    parent_pid = int(parent_text)

    def on_parent_thread_ended(_number: int, _frame: object) -> None:
        # The kernel signals the end of the parent's *thread* that started this process. The parent itself is gone only if
        # this process has another parent now.
        if os.getppid() != parent_pid:
            # Its threads end one after another, each with a signal. A second SIGTERM would interrupt the orderly stop.
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGUSR2, on_parent_thread_ended)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGUSR2), 0, 0, 0) != 0:
        raise ServiceError(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    # If the parent died before the call above, that call has no effect.
    if os.getppid() != parent_pid:
        sys.exit(128 + signal.SIGTERM)
