"""The agent's hold on its template, the process that processors are forked from.

It takes as long to import what it needs as the agent does, so it is started before the agent reads its settings or imports
anything else: this module must stay light. What its processors are to do it is told later, in its first packet.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from dataclasses import asdict
from typing import TYPE_CHECKING

from scaler_protocol.service.module_path import service_command, service_environment
from scaler_worker.fences.environment import EnvironmentFilter
from scaler_worker.processor.protocol import OWN_HASH_SEED

if TYPE_CHECKING:
    from scaler_worker.processor.options import ProcessorOptions

_MODULE = "scaler_worker.processor"

HASH_SEED = "1"
"""Equal texts have equal hashes on all hosts, so that tasks may divide data by hash. An agent's environment may say otherwise."""

TEMPLATE_END_SECONDS = 5.0
"""How long the template may take to kill processors and clean up."""


class TemplateProcess:
    """A running template. It ends, and all processors with it, when `socket` is closed, however this process ends."""

    def __init__(self, environment: EnvironmentFilter | None = None) -> None:
        self.environment = environment or EnvironmentFilter()
        """What it and its processors see of this process's environment."""
        self._is_instructed = False
        self.socket, self._process = self._start()

    def _start(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = [str(theirs.fileno())]
            variables = self.environment.filtered(service_environment(_MODULE))
            if "PYTHONHASHSEED" not in variables:
                variables["PYTHONHASHSEED"] = HASH_SEED
                arguments.append(OWN_HASH_SEED)
            process = subprocess.Popen(
                service_command(_MODULE, arguments),
                env=variables,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # Out of reach of signals for the terminal's foreground group: the agent ends its processors in order.
                start_new_session=True,
            )
        ours.setblocking(False)
        return ours, process

    def filter_environment(self, environment: EnvironmentFilter) -> None:
        """Hide variables from it. One that has seen others is replaced, as what it has seen stays in its memory."""
        if environment != self.environment:
            self.kill()
            self.environment = environment
            self.socket, self._process = self._start()

    def instruct(self, options: ProcessorOptions) -> None:
        """Say what its processors are to do; from here on it can be asked for some."""
        self._is_instructed = True
        # Where it has died already, whoever reads from `socket` is told.
        with contextlib.suppress(OSError):
            self.socket.send(json.dumps(asdict(options)).encode())

    def close(self) -> bool:
        """Let it end, and return whether it did: blocks for up to `TEMPLATE_END_SECONDS`. Idempotent."""
        self.socket.close()
        if not self._is_instructed:
            # Nothing to clean up, and it may have to import for a while before it would notice.
            self._process.kill()
        try:
            self._process.wait(TEMPLATE_END_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def let_go_on(self) -> None:
        """A task may have sent SIGSTOP to what it takes for the program that started it. Without that, this does nothing."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, and wait for that. Its processors end with it, but may leave files behind."""
        self.socket.close()
        self._process.kill()
        self._process.wait()
