"""A processor in the simulation: the child process in which programs run, one at a time.

It obeys the same rules as the real one (indexes, generations, answers in order) and does to its agent what real ones do:
answers in batches or one by one, dies in the middle of a task, ignores a polite cancellation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scaler_protocol.ids import ObjectId
from scaler_protocol.payloads.framing import frame_object, unframe_object
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import carried_rows, report
from scaler_protocol.wire.call_options import CallOptions
from scaler_worker.core import effects, events
from simulation.client import FUNCTIONS
from simulation.clock import Timer
from simulation.columns import arrived_unchanged, figures_of
from simulation.ledger import Entry, SimulationError
from simulation.locality_watch import SAID_BYTES
from simulation.nested_client import NestedClient
from simulation.process import Process
from simulation.programs import Action, Death, Program, is_object, program_number, value_of
from simulation.worker_host import WorkerHost

START_S = (0.05, 0.5)
PIPE_S = (0.00002, 0.0002)
COOPERATION_S = (0.0, 0.3)
CHUNK_FAILURES_EVERY = 16
"""One of so many tasks is a map chunk some of whose items failed."""

FLUSH_SHARE = 0.6


@dataclass(slots=True)
class _Row:
    """One task handed over."""

    index: int
    client: bytes
    number: int
    attempt: int
    depth: int
    program: Program
    inputs: list[bytes | int]
    """Payloads; a number stands for the result of the task with that index here."""
    objects: list[bytes]
    options: CallOptions
    ending: tuple[int, str] | None = None


@dataclass(slots=True)
class _Answer:
    payload: bytes
    status: int
    duration: int
    object_id: bytes = b""
    object_bytes: int = 0
    figures: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Running:
    """The task being run: what it still waits for."""

    row: _Row
    started_at: float
    contents: dict[bytes, bytes] = field(default_factory=dict)
    wanted: list[bytes] = field(default_factory=list)
    timer: Timer | None = None
    children: list[Entry] = field(default_factory=list)
    waiting: bool = False
    """For its children."""
    blocked: bool = False
    """It has said that it waits."""


class Processor(Process):
    """Process `number` of an agent. Its mailbox takes the agent's effects, and callables for its own timers."""

    def __init__(self, host: WorkerHost, number: int) -> None:
        super().__init__(f"{host.name}/processor {number}", host.clock, host.random)
        self._host = host
        self.number = number
        self.pid = 10_000 + number
        self._generation = 0
        self._queue: deque[_Row] = deque()
        self._functions: dict[bytes, bytes] = {}
        self._running: _Running | None = None
        self._begun: int | None = None
        """The task that was begun last: what the real one writes into the page it shares with its agent."""
        self._answers: list[_Answer] = []
        self._kept: dict[int, bytes] = {}
        """Results by index, for the rows behind in their chain."""
        self._first_unanswered = 0
        self._next_index = 0
        self._stopping = False
        self._nested: NestedClient | None = None
        # What the agent and we send each other keeps its order, as on a socket pair.
        self._arrives_at = 0.0
        self._told_at = 0.0
        self.clock.after(self.random.uniform(*START_S), self._ready)

    @property
    def busy(self) -> bool:
        """Whether it runs a task or has one to run."""
        return self._running is not None or bool(self._queue)

    @property
    def client_id(self) -> bytes | None:
        """The client inside, if a task has made one."""
        return None if self._nested is None else self._nested.id

    # --- the pipe

    def receive(self, effect: Any) -> None:
        """Take what the agent sends, a moment later."""
        self._arrives_at = max(self._arrives_at, self.clock.now + self.random.uniform(*PIPE_S))
        self.clock.at(self._arrives_at, lambda: self.post(effect))

    def _tell(self, event: events.Event) -> None:
        self._told_at = max(self._told_at, self.clock.now + self.random.uniform(*PIPE_S))
        self.clock.at(self._told_at, lambda: self._host.post(event))

    def _ready(self) -> None:
        if self.alive:
            self._tell(events.ProcessorReady(self.number, self.pid))

    def die(self, reason: str) -> None:
        """The process ends at once; its agent is told after everything that was written before."""
        if not self.alive:
            return
        self._host.ledger.excuses.processor_ends += 1
        running = self._running
        if running is not None:
            key = (running.row.client, running.row.number)
            self._host.ledger.tell(key, f"{self.name} died while running it: {reason}")
        self._tell(events.ProcessorExited(self.number, self._begun, f"process {self.pid} ended: {reason}"))
        self.end()

    def after_end(self) -> None:
        self._host.processor_ended(self.number)
        if self._running is not None and self._running.timer is not None:
            self._running.timer.cancel()
        if self._nested is not None:
            self._nested.end()

    # --- turns

    def take_turn(self, mail: list[Any]) -> None:
        for event in mail:
            if not self.alive:
                return
            self._handle(event)
        if not self.alive:
            return
        if self._nested is not None:
            self._nested.work()
            if self._running is None or not self._running.blocked:
                self._nested.tell_unfinished()
        self._go_on()

    def next_deadline(self) -> float:
        return self._nested.next_deadline() if self._nested is not None else float("inf")

    def _handle(self, event: Any) -> None:
        if callable(event):
            event()
        elif isinstance(event, effects.SendTasks):
            self._on_tasks(event)
        elif isinstance(event, effects.CancelTask):
            self._on_cancel(event)
        elif isinstance(event, effects.TakeBack):
            self._flush()
            self._tell(events.ProcessorGaveBack(self.number, *self._drop_rest()))
        elif isinstance(event, effects.StopProcessor):
            self._stopping = True
        elif isinstance(event, effects.EndEnvironment):
            # No task of a simulation has one.
            pass
        elif isinstance(event, effects.AnswerObject):
            self._on_object(event)
        elif isinstance(event, effects.DeliverRelay):
            if self._nested is not None:
                self._nested.receive(event)
        else:
            raise SimulationError(f"a processor cannot do {event}")

    def _on_tasks(self, event: effects.SendTasks) -> None:
        for function_id in event.forgotten:
            self._functions.pop(function_id, None)
        self._functions.update(event.functions)
        if event.generation != self._generation:
            return
        tasks = event.tasks
        batch = tasks.batch
        payload = bytes(tasks.payload())
        carried = carried_rows(batch, len(batch.numbers))
        positions, inputs, sources = tasks.inputs()
        sources = sources or [0] * len(inputs)
        at = 0
        for row, (number, attempt, length) in enumerate(
            zip(tasks.numbers, tasks.attempts, tasks.payload_lengths, strict=True)
        ):
            indexes = tasks.function_indexes
            function = batch.functions[indexes[row]] if len(indexes) else batch.functions[0]
            if self._functions.get(function) != dict(FUNCTIONS)[function]:
                raise SimulationError(f"{self.name} was not sent function {function.hex()}", (tasks.client, number))
            objects = [
                object_id
                for position, object_id in zip(batch.object_positions, batch.objects, strict=True)
                if position == tasks.start + row
            ]
            program = self._host.library[program_number(payload[at : at + length])]
            if not arrived_unchanged(carried[tasks.start + row], program.number):
                raise SimulationError(
                    f"{self.name} was sent what another task carries, or nothing", (tasks.client, number)
                )
            row_inputs: list[bytes | int] = [
                event.first_index + row - source if source else value
                for position, value, source in zip(positions, inputs, sources, strict=True)
                if position == row
            ]
            # Inputs that are objects are named among the task's objects too.
            stored_inputs = {unframe_object(value) for value in row_inputs if isinstance(value, bytes)}
            objects = [object_id for object_id in objects if object_id not in stored_inputs]
            self._queue.append(
                _Row(
                    event.first_index + row,
                    tasks.client,
                    number,
                    attempt,
                    batch.depth,
                    program,
                    row_inputs,
                    objects,
                    tasks.asked,
                )
            )
            self._host.ledger.tell((tasks.client, number), f"attempt {attempt} handed to {self.name}")
            at += length
            if _dies(program, Death.READING) and self._running is None and len(self._queue) == 1:
                self._host.ledger.deaths_unstarted[tasks.client, number] += 1
                self.die("exit status 3, while it read a task")
                return

    def _drop_rest(self) -> tuple[int, int]:
        """Drop what has not started; return (generation, next index)."""
        self._generation += 1
        if self._queue:
            next_index = self._queue[0].index
        else:
            next_index = self._running.row.index + 1 if self._running is not None else self._next_index
        self._queue.clear()
        return self._generation, next_index

    def _on_cancel(self, event: effects.CancelTask) -> None:
        running = self._running
        if running is not None and running.row.index == event.index:
            if running.row.ending is None:
                running.row.ending = (event.status, event.text)
                if not running.row.program.stubborn:
                    delay = self.random.uniform(*COOPERATION_S)
                    self.clock.after(delay, lambda: self.post(lambda: self._end_running(running)))
            return
        for row in self._queue:
            if row.index == event.index:
                row.ending = (event.status, event.text)

    # --- running

    def _go_on(self) -> None:
        while self._running is None and self._queue and self.alive:
            row = self._queue.popleft()
            self._next_index = row.index + 1
            self._begun = row.index
            if row.ending is not None:
                self._answer(row, _Answer(row.ending[1].encode(), row.ending[0], 0))
                continue
            if any(isinstance(value, int) and value not in self._kept for value in row.inputs):
                self._answer(row, _Answer(b"", m.Status.SKIPPED, 0))
                continue
            row.inputs = [value if isinstance(value, bytes) else self._kept[value] for value in row.inputs]
            self._start(row)
        if self._running is None and self.alive:
            self._kept.clear()
            self._flush()
            if self._stopping:
                self.die("it was asked to stop")

    def _start(self, row: _Row) -> None:
        running = self._running = _Running(row, self.clock.now)
        self._host.ledger.started((row.client, row.number), self.name)
        if _dies(row.program, Death.LOADING):
            self.die("exit status 3, while it loaded the arguments")
            return
        if self.random.random() < FLUSH_SHARE:
            self._flush()
        stored = [unframe_object(value) for value in row.inputs if isinstance(value, bytes)]
        needed = dict.fromkeys([*row.objects, *(object_id for object_id in stored if object_id is not None)])
        running.wanted = list(needed)
        for object_id in running.wanted:
            self._tell(events.ObjectWanted(self.number, object_id))
        if not running.wanted:
            self._compute(running)

    def _on_object(self, event: effects.AnswerObject) -> None:
        running = self._running
        if running is None or event.id not in running.wanted:
            return
        if event.status != m.Status.SUCCESS:
            self._host.ledger.could_not_run((running.row.client, running.row.number))
            self._finish(running, _Answer(event.text.encode(), event.status, self._elapsed(running)))
            return
        content = self._host.cache.get(event.id)
        if content is None:
            # Dropped from the cache before we could open it.
            self._tell(events.ObjectWanted(self.number, event.id))
            return
        running.wanted.remove(event.id)
        running.contents[event.id] = content
        if not running.wanted:
            self._compute(running)

    def _compute(self, running: _Running) -> None:
        program = running.row.program
        if program.action is Action.NEST and program.children:
            self._nest(running)
            return
        when = self.clock.now + program.duration_s
        if program.action is Action.EXIT:
            running.timer = self.clock.at(when, lambda: self.post(lambda: self._exit(running)))
        else:
            running.timer = self.clock.at(when, lambda: self.post(lambda: self._return(running)))

    def _exit(self, running: _Running) -> None:
        """End the processor, as the running task wants it."""
        if self._running is not running:
            return
        if _dies(running.row.program, Death.ANSWERING):
            # Not sent any more, like the answers before it that wait for company.
            self._running = None
            self._answer(running.row, _Answer(b"never sent", m.Status.SUCCESS, self._elapsed(running)))
        self.die("exit status 3")

    def _return(self, running: _Running) -> None:
        if self._running is not running:
            return
        row = running.row
        options, is_failing = self._host.ledger.options, row.program.action is Action.FAIL
        if options.raises((row.client, row.number), row.options, self.clock.now, always=is_failing):
            self._finish(running, _Answer(b"it raises, this time", m.Status.RETRY, self._elapsed(running)))
            return
        if is_failing:
            self._finish(running, _Answer(b"it raises", m.Status.FAILED, self._elapsed(running)))
            return
        failed = [child for child in running.children if child.end != "success"]
        if failed:
            self._finish(running, _Answer(b"a child failed: " + failed[0].end.encode(), m.Status.FAILED, 0))
            return
        inputs = []
        for value in row.inputs:
            assert isinstance(value, bytes)
            object_id = unframe_object(value) if is_object(value) else None
            inputs.append(value if object_id is None else running.contents[object_id])
        contents = [running.contents[object_id] for object_id in row.objects]
        children = [child.value for child in running.children]
        value = value_of(row.program, inputs, contents, children)
        if row.index % CHUNK_FAILURES_EVERY == 0:
            self._tell(events.ChunkFailures(self.number, row.index, 2, b"the failure of the first"))
        if row.program.large_result:
            stored = ObjectId(self.random.randbytes(16))
            self._host.cache[stored] = value
            answer = _Answer(frame_object(stored), m.Status.SUCCESS, self._elapsed(running), stored, len(value))
            self._finish(running, answer)
        else:
            self._finish(running, _Answer(value, m.Status.SUCCESS, self._elapsed(running)))

    def _end_running(self, running: _Running) -> None:
        """The running task heeds a polite cancellation."""
        if self._running is not running or running.row.ending is None:
            return
        if running.timer is not None:
            running.timer.cancel()
        status, text = running.row.ending
        if self._nested is not None:
            self._nested.cancel(running.children)
        self._finish(running, _Answer(text.encode(), status, self._elapsed(running)))

    def _finish(self, running: _Running, answer: _Answer) -> None:
        self._running = None
        if running.blocked:
            self._unblock(running)
        self._answer(running.row, answer)
        if self.random.random() < FLUSH_SHARE:
            self._flush()

    def _elapsed(self, running: _Running) -> int:
        return int((self.clock.now - running.started_at) * 1e6)

    def _answer(self, row: _Row, answer: _Answer) -> None:
        if self._answers and row.index != self._first_unanswered + len(self._answers):
            # Tasks between were taken back: one message answers consecutive ones.
            self._flush()
        if not self._answers:
            self._first_unanswered = row.index
        if answer.status == m.Status.SUCCESS:
            answer.figures = figures_of(row.number)
        self._answers.append(answer)
        if not answer.status:
            self._kept[row.index] = answer.payload

    def _flush(self) -> None:
        answers, self._answers = self._answers, []
        if not answers:
            return
        stored = [(at, answer) for at, answer in enumerate(answers) if answer.object_id]
        self._tell(
            events.ProcessorResults(
                processor=self.number,
                first_index=self._first_unanswered,
                count=len(answers),
                payload_lengths=[len(answer.payload) for answer in answers],
                payloads=b"".join(answer.payload for answer in answers),
                reported=report(
                    [
                        {
                            **answer.figures,
                            "statuses": answer.status,
                            "durations": answer.duration,
                            "object_bytes": answer.object_bytes * SAID_BYTES,
                        }
                        for answer in answers
                    ]
                )._replace(durations=[answer.duration for answer in answers]),
                object_positions=[at for at, _ in stored],
                objects=tuple(answer.object_id for _, answer in stored),
                object_sizes=[answer.object_bytes for _, answer in stored],
            )
        )

    # --- tasks inside tasks

    def _nest(self, running: _Running) -> None:
        if self._nested is None:
            self._nested = NestedClient(self._host, self.number, self._tell, self._look_at_children)
        children = self._nested.submit(running.row.program, running.row.depth + 1)
        if children is None:
            self._finish(running, _Answer(b"the client inside is disconnected", m.Status.FAILED, 0))
            return
        running.children = children
        running.waiting = True
        if not running.row.program.silent:
            self._flush()
            running.blocked = True
            self._tell(events.ProcessorBlocked(self.number, *self._drop_rest()))

    def _look_at_children(self) -> None:
        running = self._running
        if running is None or not running.waiting or not all(child.end for child in running.children):
            return
        running.waiting = False
        if running.blocked:
            self._unblock(running)
        when = self.clock.now + running.row.program.duration_s
        running.timer = self.clock.at(when, lambda: self.post(lambda: self._return(running)))

    def _unblock(self, running: _Running) -> None:
        assert self._nested is not None
        running.blocked = False
        self._nested.tell_unblocked()


def _dies(program: Program, death: Death) -> bool:
    return program.action is Action.EXIT and program.death is death
