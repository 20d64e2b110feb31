"""All processors of an agent, and the template they are forked from."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable

from scaler_protocol.service.reactor import Reactor
from scaler_worker.core import effects, events
from scaler_worker.fences.plan import Cause
from scaler_worker.fences.removal import remove_folder
from scaler_worker.processor.kept_output import KeptBytes
from scaler_worker.processor.options import ProcessorOptions
from scaler_worker.processor.protocol import (
    DESCRIPTORS,
    EXITED,
    FORK_FAILED_STATUS,
    FORKED,
    IMPORTED_AHEAD,
    REPORT,
    START,
    STOPPED,
)
from scaler_worker.shell.arriving_records import RELAY_BYTES_MAX, ArrivingRecords, UnsentMessages
from scaler_worker.shell.figures import ProcessMeter
from scaler_worker.shell.object_cache import remake_object_folder
from scaler_worker.shell.output_shelf import Kept, OutputShelf
from scaler_worker.shell.processor_link import ProcessorLink
from scaler_worker.shell.template_process import TemplateProcess

logger = logging.getLogger(__name__)

REPORTS_PER_TURN = 64

REMOVE_SECONDS = 2.0
"""How long an agent that gives up may take to remove what is left of its objects."""


class ProcessorPool:
    """Starts, finds and removes processors. `report` takes the events, `give_up` why there can be none.

    `is_behind` says whether the scheduler has not taken all that was sent to it. `note_stderr` is given what processors write to
    their standard error, with their process ids.
    """

    def __init__(
        self,
        options: ProcessorOptions,
        template: TemplateProcess,
        reactor: Reactor,
        report: Callable[[events.Event], None],
        give_up: Callable[[str], None],
        is_behind: Callable[[], bool],
        note_stderr: Callable[[int, bytes], None] = lambda _pid, _data: None,
    ) -> None:
        self._options = options
        self._reactor = reactor
        self._report = report
        self._note_stderr = note_stderr
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, ProcessorLink] = {}
        self._meters: dict[int, ProcessMeter] = {}
        self._pids: set[int] = set()
        """Of those that run. The gate's thread looks whether one is in it."""
        self._storage_address = ""
        self._sampled_until = 0.0
        self._sampling_rate = 0
        self._imported: set[str] = set()
        self._template = template
        # A record is in the memory of its processor before it leaves.
        self._arriving = ArrivingRecords(record_bytes_max=options.fences.memory_bytes or RELAY_BYTES_MAX)
        self._unsent = UnsentMessages(is_behind)
        workers = max(len(options.worker_names), 1)
        self._shelf = OutputShelf(options.kept_output_bytes * workers)
        self._instruct_template()

    def _instruct_template(self) -> None:
        self._socket = self._template.socket
        self._template.instruct(self._options)
        self._loop.add_reader(self._socket.fileno(), self._read_reports)

    # --- processors

    def start(self, number: int, slot: int) -> None:
        """Have the template fork a processor for the worker in `slot`."""
        link = ProcessorLink(
            number,
            slot,
            self._reactor,
            self._report,
            self._import_ahead,
            self._arriving,
            self._unsent,
            self._options.kept_output_bytes,
            self._note_stderr,
        )
        self._links[number] = link
        try:
            socket.send_fds(self._socket, [START.pack(number, slot)], link.child_descriptors)
        except OSError as error:
            # Also when the template has just died: its end is noticed next.
            logger.warning("cannot ask for a processor: %s", error)
            self._remove(number, None, 0)
        finally:
            assert len(link.child_descriptors) == DESCRIPTORS
            for descriptor in link.child_descriptors:
                os.close(descriptor)
        if self._storage_address:
            link.tell_storage_address(self._storage_address)
        if self._sampled_until:
            left = self._sampled_until - time.monotonic()
            if left > 0:
                link.sample(left, self._sampling_rate)

    def find(self, number: int) -> ProcessorLink | None:
        """Return the link of a processor, or None."""
        return self._links.get(number)

    def is_processor(self, pid: int) -> bool:
        """Whether this is the process id of a processor. From any thread."""
        return pid in self._pids

    def tell_storage_address(self, address: str) -> None:
        """Tell all processors, also later ones, where object storage is."""
        self._storage_address = address
        for link in self._links.values():
            link.tell_storage_address(address)

    def sample(self, seconds: float, rate: int) -> None:
        """Have all processors, also later ones, sample what their tasks run, for so long from now."""
        self._sampled_until = time.monotonic() + seconds if seconds > 0 else 0.0
        self._sampling_rate = rate
        for link in self._links.values():
            link.sample(seconds, rate)

    def give_back_idle(self) -> None:
        """Return memory to the system that records for processors have not needed since the last call."""
        for link in self._links.values():
            link.give_back_idle()

    def figures(self) -> dict[int, events.ProcessorFigures]:
        """Measure every processor; CPU is that since the last call. And let a template go on that a task has stopped."""
        self._template.let_go_on()
        return {number: events.ProcessorFigures(*meter.read()) for number, meter in self._meters.items()}

    def measure_memory(self, effect: effects.MeasureMemory) -> None:
        """Report how much memory tasks have taken."""
        used = {}
        for number, index in effect.tasks:
            link = self._links.get(number)
            taken = link.memory_used(index) if link is not None else None
            # Also of one that has not begun, which is asked about again.
            used[number] = (index, taken or 0)
        self._report(events.MemoryMeasured(used))

    def output_of(self, number: int, client: bytes) -> bytes:
        """Return what is kept of a task's output, as `OutputReply` has it. `client`: empty for any."""
        running = []
        for link in self._links.values():
            content = link.kept_output()
            if content is not None:
                running.append(self._kept(link, content))
        return self._shelf.find(running, number, client)

    def _kept(self, link: ProcessorLink, content: KeptBytes, ended: str = "") -> Kept:
        names = self._options.worker_names
        return Kept(names[link.slot] if link.slot < len(names) else "", link.pid, ended, content)

    def close(self) -> None:
        """End everything, at once. Blocks for up to some seconds; afterwards nothing is left."""
        self._loop.remove_reader(self._socket.fileno())
        # The template kills all processors with what they started, and removes the object cache.
        if not self._template.close():
            for link in self._links.values():
                link.kill()
            self._template.kill()
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._arriving.close()

    def _import_ahead(self, module_name: str) -> None:
        """Tasks make clients: let processors to come have the module already, for a tree of tasks needs many of them."""
        # Names come from tasks; the template, which may be root's, gets none that it would not import.
        if module_name in IMPORTED_AHEAD and module_name not in self._imported:
            self._imported.add(module_name)
            with contextlib.suppress(OSError):
                self._socket.send(module_name.encode())

    # --- the template speaks

    def _read_reports(self) -> None:
        for _ in range(REPORTS_PER_TURN):
            try:
                packet = self._socket.recv(REPORT.size)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._on_template_died()
                return
            what, number, pid, status, peak_bytes, cause = REPORT.unpack(packet)
            if what == FORKED:
                link = self._links.get(number)
                if link is not None:
                    link.pid = pid
                    self._pids.add(pid)
                    self._meters[number] = ProcessMeter(pid)
            elif what == EXITED:
                if status == FORK_FAILED_STATUS and not pid:
                    logger.error("the system does not allow another process")
                self._remove(number, status, peak_bytes, Cause(cause))
            elif what == STOPPED:
                link = self._links.get(number)
                if link is not None:
                    link.was_stopped = True

    def _remove(self, number: int, status: int | None, peak_bytes: int, cause: Cause = Cause.NONE) -> None:
        link = self._links.pop(number, None)
        self._meters.pop(number, None)
        if link is not None:
            self._pids.discard(link.pid)
            why = self._options.fences.explain(cause)
            # CPU time is each task's own. Memory may be held by the tasks before it, so that one deserves a new process.
            content = link.kept_output()
            ended = link.end(status, peak_bytes, why, exceeded=cause is Cause.CPU_TIME)
            if content is not None:
                self._shelf.keep(self._kept(link, content, ended.reason))
            self._report(ended)

    def _remake_folders(self) -> bool:
        """Make the folders for objects again that were removed together with the template; without them, the agent ends."""
        for folder in self._options.host_folders:
            try:
                remake_object_folder(folder, self._options.fences.account)
            except OSError as error:
                for other in self._options.host_folders:
                    if other != folder:
                        remove_folder(other, REMOVE_SECONDS)
                self._give_up(f"there is no folder for the objects of tasks any more: {error}")
                return False
        return True

    def _on_template_died(self) -> None:
        """All processors died with it. Start another, and let the agent start processors anew."""
        logger.error("the process that processors are forked from has died; starting another")
        self._loop.remove_reader(self._socket.fileno())
        self._template.kill()
        self._template = TemplateProcess(self._template.environment)
        self._socket = self._template.socket
        if not self._remake_folders():
            return
        self._instruct_template()
        self._imported.clear()
        for number, link in list(self._links.items()):
            link.kill()
            self._remove(number, None, 0)
