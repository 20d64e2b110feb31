"""The process that processors are forked from, with everything a processor needs already imported.

A processor so starts in milliseconds and shares the memory of its modules with the others. The template has one thread and
runs no user code. It is also what is left when an agent is killed: it then kills the processors with everything they
started, removes the host's object cache, and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass, replace
from functools import partial
from os import _exit
from time import monotonic

from scaler_protocol.runtime.freed_memory import keep_freed_memory
from scaler_protocol.runtime.log_lines import formatter
from scaler_worker.fences.plan import Cause, FenceError
from scaler_worker.fences.processor import ProcessorFences
from scaler_worker.fences.remains import FenceRemains
from scaler_worker.fences.removal import remove_folder
from scaler_worker.processor import module_search, orphans
from scaler_worker.processor.channel import Channel
from scaler_worker.processor.descriptors import moved_out_of_reach
from scaler_worker.processor.kept_output import KeptOutput
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.page import KEPT_AT, RunningPage
from scaler_worker.processor.protocol import (
    DESCRIPTORS,
    EXITED,
    FORK_FAILED_STATUS,
    FORKED,
    IMPORTED_AHEAD,
    MODULE_NAME_BYTES_MAX,
    OPTIONS_BYTES_MAX,
    OWN_HASH_SEED,
    REPORT,
    START,
    STOPPED,
)
from scaler_worker.processor.records import Kind
from scaler_worker.processor.runner import START_FAILED_STATUS, Processor

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1

STOPPED_SECONDS = 5.0
"""A processor that was stopped (SIGSTOP) and is after so long ends: nobody else may run what it was handed."""

END_SECONDS = 4.0
"""How long killing and removing all that is left may take together: the agent waits for a little longer."""

KILL_SECONDS = 2.0
"""How long the end of what tasks have left behind may take."""


@dataclass(slots=True)
class _Child:
    number: int
    pid: int


class Template:
    """Forks processors on request and reports how they end."""

    def __init__(self, agent: socket.socket, options: ProcessorOptions) -> None:
        self._agent = agent
        self._pid = os.getpid()
        self._options = options
        self._remains = FenceRemains(options.fences, self._become_other_child)
        self._wake = -1
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._children: dict[int, _Child] = {}
        """By pidfd."""
        self._stopped: dict[int, float] = {}
        """Since when, by pidfd."""

    def run(self) -> None:
        """Serve until the agent closes its end."""
        poller = select.poll()
        poller.register(self._agent.fileno(), select.POLLIN)
        orphans.become_subreaper()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        poller.register(self._wake, select.POLLIN)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: os.eventfd_write(self._wake, 1))
        agent_gone = False
        while not agent_gone:
            for descriptor, _ in poller.poll(1000 if self._stopped else None):
                if descriptor == self._agent.fileno():
                    agent_gone = not self._serve_agent(poller)
                elif descriptor == self._wake:
                    os.eventfd_read(self._wake)
                    self._look_at_children()
                else:
                    poller.unregister(descriptor)
                    self._reap(descriptor)
            if self._stopped:
                self._kill_stopped()
        self._end()

    def _look_at_children(self) -> None:
        """A child has stopped, or one that became ours has ended."""
        for pidfd, child in self._children.items():
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG) is not None:
                    self._stopped[pidfd] = monotonic()
        orphans.reap({self._remains.child, *(child.pid for child in self._children.values())})
        self._remains.look_after()

    def _kill_stopped(self) -> None:
        for pidfd, since in list(self._stopped.items()):
            child = self._children[pidfd]
            if not orphans.is_stopped(child.pid):
                del self._stopped[pidfd]
            elif monotonic() >= since + STOPPED_SECONDS:
                del self._stopped[pidfd]
                self._report(STOPPED, child.number, child.pid, 0, 0)
                os.kill(child.pid, signal.SIGKILL)

    def _serve_agent(self, poller: select.poll) -> bool:
        """Fork one processor, or import a module; return False when the agent is gone."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._agent, MODULE_NAME_BYTES_MAX, DESCRIPTORS)
        except OSError:
            return False
        if not message:
            return False
        if not descriptors:
            self._import(message.decode(errors="replace"))
            return True
        number, slot = START.unpack(message)
        try:
            pid = os.fork()
        except OSError:
            self._report(EXITED, number, 0, FORK_FAILED_STATUS, 0)
            pid = 0
        else:
            if pid == 0:
                self._become_processor(descriptors, number, slot)
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = _Child(number, pid)
            poller.register(pidfd, select.POLLIN)
            # The child does the same; whoever is first, its group exists when we return.
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
            self._report(FORKED, number, pid, 0, 0)
        finally:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        return True

    def _import(self, module_name: str) -> None:
        """Import what processors to come will need. Not done at the start, because most never need it."""
        if module_name not in IMPORTED_AHEAD:
            return
        try:
            importlib.import_module(module_name)
        except Exception as error:
            # They will find it themselves, or fail in the task, where it belongs.
            logger.info("cannot import %s ahead: %s", module_name, error)
        gc.collect()
        gc.freeze()

    def _become_processor(self, descriptors: list[int], number: int, slot: int) -> None:
        """In the child: never returns."""
        status = 1
        try:
            parent = os.getppid()
            self._die_with(parent)
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._close_descriptors()
            tasks, control, page, standard_error = descriptors
            os.dup2(standard_error, 2)
            if self._options.fences.account is not None:
                # Another user's tasks must not have the agent's own log in their hands, where that is a file.
                os.dup2(standard_error, 1)
                sys.stdout = os.fdopen(1, "w", errors="backslashreplace", closefd=False)
            os.close(standard_error)
            tasks, control = moved_out_of_reach(tasks), moved_out_of_reach(control)
            # The old object knows another kind of file.
            sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
            boxes = RunningPage.boxes_for_processor(page)
            tasks_channel = Channel(socket.socket(fileno=tasks), boxes)
            try:
                ProcessorFences(self._options.fences, number).put_up()
            except FenceError as error:
                logger.error("%s", error)
                tasks_channel.send(Kind.START_FAILED, [str(error).encode("utf-8", "replace")])
                status = START_FAILED_STATUS
                return
            # Another user's process has lost it.
            self._die_with(parent)
            module_search.install(self._options, slot)
            running_page = RunningPage(page)
            kept_output = None
            if self._options.kept_output_bytes:
                # The file is mapped at once: its descriptor is closed then.
                kept_output = partial(KeptOutput, page, KEPT_AT, self._options.kept_output_bytes)
            processor = Processor(
                self._options,
                tasks_channel,
                Channel(socket.socket(fileno=control)),
                running_page,
                kept_output,
            )
            os.close(page)
            gc.unfreeze()
            gc.enable()
            status = processor.run()
        except BaseException:
            logger.exception("the processor failed")
        finally:
            # Not sys.exit: threads and exit handlers of user code could hold the process up for ever. Bound at the import, so
            # that nothing comes back from here to the code of the template, whatever a task has done to modules.
            _exit(status)

    def _become_other_child(self) -> None:
        """In a child that is no processor: nothing of the template is left to it, and it ends with the template."""
        self._die_with(self._pid)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        """In a child: close what only the template uses."""
        self._agent.close()
        os.close(self._wake)
        for pidfd in self._children:
            os.close(pidfd)

    def _die_with(self, parent: int) -> None:
        """In the child: be killed when the template ends."""
        self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent or parent == 1:
            os._exit(1)

    def _reap(self, pidfd: int) -> None:
        """Reap a child, and kill what it has started: the group keeps its number until the child is reaped."""
        child = self._children.pop(pidfd)
        self._stopped.pop(pidfd, None)
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        if code and self._options.task_modules:
            # An import ahead may have ended it, and would end the next one too: from now on tasks import for themselves.
            self._options = replace(self._options, task_modules=())
        cause = self._remains.cause_of(child.number, code, usage.ru_utime + usage.ru_stime)
        self._remains.remove(child.number)
        self._report(EXITED, child.number, child.pid, code, usage.ru_maxrss * 1024, cause)

    def _report(
        self, what: int, number: int, pid: int, status: int, peak_bytes: int, cause: Cause = Cause.NONE
    ) -> None:
        with contextlib.suppress(OSError):
            self._agent.send(REPORT.pack(what, number, pid, status, peak_bytes, cause.value))

    def _end(self) -> None:
        until = monotonic() + END_SECONDS
        for child in self._children.values():
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
        orphans.kill_all(KILL_SECONDS)
        # This one first: what tasks have left in the others may take longer than the agent waits, and the first is in memory.
        for folder in self._options.host_folders:
            remove_folder(folder, until - monotonic())
        self._remains.remove_all((child.number for child in self._children.values()), until)


def main(arguments: list[str]) -> int:
    """`python -m scaler_worker.processor DESCRIPTOR [OWN_HASH_SEED]`; started by the agent only."""
    descriptor, *further = arguments
    if OWN_HASH_SEED in further:
        # It has done its work. Tasks see the environment of their program.
        del os.environ["PYTHONHASHSEED"]
    # Signals sent to the agent's whole group are the agent's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    agent = socket.socket(fileno=int(descriptor))
    agent.set_inheritable(False)
    # Processors are forked from this process, and have its allocator as it is.
    keep_freed_memory()
    gc.collect()
    gc.disable()
    gc.freeze()
    options_text = agent.recv(OPTIONS_BYTES_MAX)
    # An agent that could not start has nothing to tell.
    if options_text:
        options = ProcessorOptions.from_text(options_text)
        _set_up_logging(options)
        Template(agent, options).run()
    return 0


def _set_up_logging(options: ProcessorOptions) -> None:
    handler = logging.StreamHandler()
    handler.setLevel(options.logging_level)
    handler.setFormatter(formatter(options.logging_format))
    # Not the logger: a client that streams output also gets what this worker's own log leaves out.
    logging.basicConfig(level=min(logging.INFO, handler.level), handlers=[handler])
