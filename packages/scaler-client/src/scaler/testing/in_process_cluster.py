"""A whole cluster in one process: a scheduler and object storage on real sockets, and threads that run the tasks.

    with InProcessCluster() as cluster, Client(cluster.address) as client:
        assert client.submit(pow, 2, 10).result() == 1024

It starts in milliseconds and needs no other distribution. It keeps the protocol's rules, sessions included, and knows
nothing of workers, capabilities, priorities or limits; tasks share one process and one interpreter lock. A task may wait
for tasks of its own: where none has begun or ended for a moment while some wait, one more thread runs them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from scaler.testing.in_process_locks import InProcessLocks
from scaler_protocol.payloads.execution import Execution, TaskPayloads
from scaler_protocol.payloads.framing import OBJECT
from scaler_protocol.payloads.values import ObjectUnavailableError
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.runtime.task_context import carrying
from scaler_protocol.session import Session
from scaler_protocol.transport.router import RouterListener
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.batch_rows import Carried, carried_rows, report
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.columns import Packed
from scaler_protocol.wire.envelope import UNSEQUENCED, Envelope, Frame, decode_envelope, encode_envelope
from scaler_protocol.wire.object_batches import rows_of
from scaler_protocol.wire.task_lists import pack_numbers

STUCK_SECONDS = 0.1
WORKERS_MAX = 100
ON_ITS_WAY_SECONDS = 20.0
"""A task waits so long for an object that has not come."""


@dataclass(slots=True, eq=False)
class _Task:
    client: _Client
    number: int
    function: bytes
    payload: bytes
    kind: int
    serializer: bytes
    flags: int
    dependencies: Sequence[int] = ()
    """Rows of its graph it waits for, in the order of its inputs."""
    graph: _Graph | None = None
    canceled: bool = False
    carried: Carried = ()


@dataclass(slots=True, eq=False)
class _Graph:
    first: int
    wanted: set[int]
    missing: dict[int, int]
    """Row to number of predecessors that are not done."""
    dependents: dict[int, list[int]]
    tasks: dict[int, _Task]
    results: dict[int, tuple[int, bytes]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Client:
    id: bytes
    session: Session
    execution: Execution
    functions: dict[bytes, bytes] = field(default_factory=dict)
    tasks: dict[int, _Task] = field(default_factory=dict)
    followers: dict[int, list[tuple[_Graph, int]]] = field(default_factory=dict)
    """By number: graphs, and rows in them, that end when that task does."""
    arriving: _Graph | None = None


def figures(number: int, duration: int) -> dict[str, int]:
    """Return the figures of a profiled task, by their columns: its threads share one process, which none can be measured in."""
    return {"cpu_times": duration, "memory_peaks": 1024}


class InProcessCluster:
    """See the module. A context manager; `start` and `stop` by hand otherwise.

    For tests of what goes wrong: `hold` keeps tasks from running, `silent` makes the scheduler deaf and dumb,
    `restart` makes it forget everything, `credit` limits what clients may submit, `store_refuses` fills the storage.
    """

    def __init__(self, *, workers: int = 2, address: str = "tcp://127.0.0.1:0", credit: int = -1) -> None:
        self.credit = credit
        self.protected = False
        self.silent = False
        self.store_refuses = ""
        self._has_come: set[bytes] = set()
        """Objects that were stored, whatever became of them, or deleted."""
        self.received: list[m.Message] = []
        """All messages of clients, for tests to look at."""
        self.objects: dict[bytes, Sequence[Frame]] = {}
        self.shut_down = threading.Event()
        self._incarnation = new_id()
        self._clients: dict[bytes, _Client] = {}
        self._locks = InProcessLocks(self._answer_lock)
        self._queue: queue.Queue[_Task | None] = queue.Queue()
        self._may_run = threading.Event()
        self._may_run.set()
        self._moved_at = time.monotonic()
        """When a task last began or ended, or there was none to begin."""
        self._done: deque[tuple[_Task, int, bytes, int]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._scheduler = RouterListener(address)
        self._store = RouterListener("tcp://127.0.0.1:0")
        self.address = self._scheduler.address
        self._threads = [threading.Thread(target=self._serve, name="in-process-scheduler", daemon=True)]
        self._threads += [self._new_worker() for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads and close the sockets. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._may_run.set()
        for _ in self._threads[1:]:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(5.0)
        self._store.close()
        self._scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what tests do to it

    def hold(self) -> None:
        """Start no further task."""
        self._may_run.clear()

    def resume(self) -> None:
        """Run tasks again."""
        self._may_run.set()

    def restart(self) -> None:
        """Forget all sessions, tasks and functions, as a scheduler that was killed and started again."""

        def forget() -> None:
            self._incarnation = new_id()
            self._clients.clear()
            self._locks = InProcessLocks(self._answer_lock)

        self.call(forget)

    def call(self, function: Callable[[], None]) -> None:
        """Run something in the scheduler's thread, and wait for it."""
        done = threading.Event()
        self._calls.append(function)
        self._calls.append(done.set)
        if not done.wait(5.0):
            raise TimeoutError("the in-process cluster does not answer")

    def grant(self, count: int) -> None:
        """Grant every client so much credit."""
        self.send_all(m.CreditGrant(count))

    def send_all(self, message: m.Message) -> None:
        """Send a message to all clients."""

        def send() -> None:
            for client in self._clients.values():
                self._send(client, message)

        self.call(send)

    def unfinished(self) -> int:
        """Tasks that are not answered."""
        return sum(len(client.tasks) for client in self._clients.values())

    # --- the scheduler's thread

    def _serve(self) -> None:
        while not self._stopping:
            busy = False
            for peer, frames in self._scheduler.receive(64):
                busy = True
                if not self.silent:
                    self._on_message(peer, decode_envelope(frames[0]), decode(frames[1:]))
            for peer, frames in self._store.receive(64):
                busy = True
                if not self.silent:
                    self._on_store_message(peer, decode(frames[1:]))
            while self._calls:
                busy = True
                self._calls.popleft()()
            busy = self._answer() or busy
            self._help_out()
            self._scheduler.flush()
            self._store.flush()
            if not busy:
                self._scheduler.wait(0.001)

    def _on_message(self, peer: bytes, envelope: Envelope, message: m.Message) -> None:
        self.received.append(message)
        if isinstance(message, m.Hello):
            self._on_hello(peer, envelope, message)
            return
        client = self._clients.get(peer)
        if client is None:
            self._scheduler.send(peer, [encode_envelope(UNSEQUENCED), *encode(m.UnknownPeer())])
            return
        now = time.monotonic()
        if not client.session.accept(envelope, now):
            if client.session.gap:
                self._transmit(client, client.session.request_resend(now), m.Heartbeat())
            return
        if isinstance(message, m.Heartbeat):
            self._send_plain(client, m.Heartbeat(echo_seconds=message.sent_at_seconds))
        elif isinstance(message, m.FunctionDefine):
            client.functions.update(zip(message.ids, message.bodies.split(), strict=True))
        elif isinstance(message, m.TaskBatch):
            self._on_tasks(client, message)
        elif isinstance(message, m.GraphSubmit):
            self._on_graph(client, message)
        elif isinstance(message, m.TaskCancel):
            self._on_cancel(client, message)
        elif isinstance(message, m.WorkerListRequest):
            self._send(client, m.WorkerList((self._incarnation,), [0], ("in-process",)))
        elif isinstance(message, m.JobRequest):
            self._send(client, m.JobReply(message.request, "a cluster in one process has no jobs"))
        elif isinstance(message, m.LockRequest):
            self._locks.request(peer, message)
        elif isinstance(message, m.LockRelease):
            self._locks.release(peer, message.lease)
        elif isinstance(message, m.Shutdown):
            self.shut_down.set()
            self._send_plain(client, m.Goodbye("the scheduler is stopping"))
        elif isinstance(message, m.Goodbye):
            self._clients.pop(peer).execution.close()
            self._locks.drop_client(peer)

    def _on_hello(self, peer: bytes, envelope: Envelope, hello: m.Hello) -> None:
        client = self._clients.get(peer)
        resumed = client is not None and hello.scheduler_incarnation == self._incarnation
        if client is None or not resumed:
            client = self._clients[peer] = _Client(
                hello.incarnation, Session(hello.hello_number), Execution(self._fetch, worker_name="in-process")
            )
        else:
            client.session.accept(envelope, time.monotonic())
        welcome = m.Welcome(
            self._incarnation,
            resumed=resumed,
            object_storage_address=self._store.address,
            protected=self.protected,
            task_credit=self.credit,
            hello_number=hello.hello_number,
        )
        self._send_plain(client, welcome)
        if resumed:
            for outgoing in client.session.resend():
                self._transmit(client, *outgoing)

    def _on_tasks(self, client: _Client, batch: m.TaskBatch) -> None:
        assert set(batch.functions) <= client.functions.keys(), "a function is used before it is defined"
        carried = carried_rows(batch, len(batch.numbers))
        for position, (number, payload) in enumerate(zip(batch.numbers, batch.payloads.split(), strict=True)):
            index = batch.function_indexes[position] if len(batch.function_indexes) else 0
            task = _Task(client, number, batch.functions[index], payload, batch.kind, batch.serializer, batch.flags)
            task.carried = carried[position]
            client.tasks[number] = task
            self._queue.put(task)

    def _on_graph(self, client: _Client, submit: m.GraphSubmit) -> None:
        assert set(submit.functions) <= client.functions.keys(), "a function is used before it is defined"
        unknown = [number for number in submit.earlier if number not in client.tasks]
        if unknown:
            text = pack_numbers(unknown)
            for row in submit.wanted:
                number, flags = submit.first_number + row, submit.flags
                self._send_result(_Task(client, number, b"", b"", 0, b"", flags), m.Status.SKIPPED, text, 0)
            return
        if not submit.first_row:
            client.arriving = _Graph(submit.first_number, set(), {}, {}, {})
        graph, before = client.arriving, submit.first_row
        assert graph is not None, "a graph's first portion is missing"
        assert graph.first == submit.first_number, "a portion of another graph came between"
        for position, number in enumerate(submit.earlier):
            # As a row behind the others, which ends when that task ends.
            client.followers.setdefault(number, []).append((graph, len(submit.payloads) + position))
        graph.wanted.update(before + row for row in submit.wanted)
        carried = carried_rows(submit, len(submit.payloads))
        start = 0
        for row_here, payload in enumerate(submit.payloads.split()):
            row = before + row_here
            count = submit.dependency_counts[row_here]
            needed = list(submit.dependencies[start : start + count])
            start += count
            index = submit.function_indexes[row_here] if len(submit.function_indexes) else 0
            graph.tasks[row] = _Task(
                client,
                submit.first_number + row,
                submit.functions[index],
                payload,
                m.TaskKind.CALL,
                submit.serializer,
                submit.flags,
                needed,
                graph,
                carried=carried[row_here],
            )
            graph.missing[row] = len(needed)
            for predecessor in needed:
                graph.dependents.setdefault(predecessor, []).append(row)
            client.tasks[submit.first_number + row] = graph.tasks[row]
        if len(graph.tasks) < (submit.row_count or len(submit.payloads)):
            return
        for row, missing in graph.missing.items():
            if not missing:
                self._queue.put(graph.tasks[row])

    def _on_cancel(self, client: _Client, cancel: m.TaskCancel) -> None:
        if cancel.waiting_only:
            # Whether a thread has begun one is not known here: all count as begun.
            return
        for number in cancel.numbers:
            task = client.tasks.pop(number, None)
            if task is not None:
                task.canceled = True
                self._send_result(task, m.Status.CANCELED, b"", 0)
                self._tell_followers(task, m.Status.CANCELED, b"")

    def _answer(self) -> bool:
        """Send what workers have finished."""
        answered = False
        while self._done:
            answered = True
            task, status, payload, duration = self._done.popleft()
            if task.canceled or task.client.tasks.pop(task.number, None) is None:
                continue
            if task.graph is None:
                self._send_result(task, status, payload, duration)
                self._tell_followers(task, status, payload)
            else:
                self._finish_row(task, task.graph, status, payload, duration)
        return answered

    def _finish_row(self, task: _Task, graph: _Graph, status: int, payload: bytes, duration: int) -> None:
        row = task.number - graph.first
        if row in graph.wanted:
            # The client deletes a large one, which rows may have to read yet.
            given = self._copy_of(payload) if graph.dependents.get(row) else payload
            self._send_result(task, status, given, duration)
        self._row_ended(graph, row, status, payload)
        self._tell_followers(task, status, payload)

    def _tell_followers(self, task: _Task, status: int, payload: bytes) -> None:
        """Let rows of other submits have the result. The client deletes a large one, so they have a copy."""
        for graph, row in task.client.followers.pop(task.number, ()):
            self._row_ended(graph, row, status, self._copy_of(payload))

    def _copy_of(self, payload: bytes) -> bytes:
        """Return a payload with another object of the same content, where it is an object."""
        if payload[:1] != OBJECT or payload[1:] not in self.objects:
            return payload
        copy = new_id()
        self.objects[copy] = self.objects[payload[1:]]
        self._has_come.add(copy)
        return OBJECT + copy

    def _row_ended(self, graph: _Graph, row: int, status: int, payload: bytes) -> None:
        graph.results[row] = (status, payload)
        for dependent in graph.dependents.get(row, ()):
            successor = graph.tasks[dependent]
            if status != m.Status.SUCCESS:
                if successor.number in successor.client.tasks:
                    del successor.client.tasks[successor.number]
                    # Later: behind it there may be more in a row than calls may be nested.
                    self._calls.append(partial(self._finish_row, successor, graph, status, payload, 0))
                continue
            graph.missing[dependent] -= 1
            if not graph.missing[dependent]:
                self._queue.put(successor)

    def _send_result(self, task: _Task, status: int, payload: bytes, duration: int) -> None:
        is_object = payload[:1] == OBJECT and status in (m.Status.SUCCESS, m.Status.FAILED)
        reported = {"statuses": status, "durations": duration}
        if task.flags & m.TaskFlag.PROFILE:
            reported |= figures(task.number, duration)
        batch = m.ResultBatch(
            client=task.client.id,
            numbers=[task.number],
            attempts=[1],
            payloads=Packed.of([payload]),
            object_positions=[0] if is_object else (),
            objects=(payload[1:],) if is_object else (),
            **report([reported])._asdict(),
        )
        self._send(task.client, batch)

    def _answer_lock(self, peer: bytes, answer: m.LockAnswer) -> None:
        client = self._clients.get(peer)
        if client is not None:
            self._send(client, answer)

    def _send(self, client: _Client, message: m.Message) -> None:
        self._transmit(client, *client.session.sequence(message))

    def _send_plain(self, client: _Client, message: m.Message) -> None:
        self._transmit(client, *client.session.plain(message))

    def _transmit(self, client: _Client, envelope: Envelope, message: m.Message) -> None:
        if not self.silent:
            self._scheduler.send(client.id, [encode_envelope(envelope), *encode(message)])

    # --- object storage, in the same thread

    def _on_store_message(self, peer: bytes, message: m.Message) -> None:
        answer: m.Message | None = None
        if isinstance(message, m.ObjectBatch):
            for row in rows_of(message):
                self._on_store_message(peer, row)
        elif isinstance(message, m.Hello):
            answer = m.Welcome(self._incarnation, hello_number=message.hello_number)
        elif isinstance(message, m.ObjectPut):
            if self.store_refuses:
                answer = m.ObjectPutReply(message.request, m.ObjectStatus.STORAGE_FULL, self.store_refuses)
            else:
                self.objects[message.id] = [bytes(buffer) for buffer in message.buffers]
                self._has_come.add(message.id)
                answer = m.ObjectPutReply(message.request)
        elif isinstance(message, m.ObjectGet):
            found = self.objects.get(message.id)
            answer = m.ObjectData(message.request, message.id, list(found or ()), missing=found is None)
        elif isinstance(message, m.ObjectDelete):
            self._has_come.update(message.ids)
            for object_id in message.ids:
                self.objects.pop(object_id, None)
            answer = m.ObjectDeleteReply(message.request)
        if answer is not None:
            self._store.send(peer, [encode_envelope(UNSEQUENCED), *encode(answer)])

    def _fetch(self, object_id: bytes) -> Sequence[memoryview]:
        # The object may be on its way while its task is here already: many megabytes, on a busy machine.
        deadline = time.monotonic() + ON_ITS_WAY_SECONDS
        while object_id not in self._has_come and not self._stopping and time.monotonic() < deadline:
            time.sleep(0.002)
        buffers = self.objects.get(object_id)
        if buffers is None:
            raise ObjectUnavailableError(m.Status.MISSING_OBJECT, f"object {object_id.hex()} is not in storage")
        # A copy: values restored from these buffers may be changed by the task.
        return [memoryview(bytearray(buffer)) for buffer in buffers]

    # --- workers

    def _new_worker(self) -> threading.Thread:
        return threading.Thread(target=self._work, name="in-process-worker", daemon=True)

    def _help_out(self) -> None:
        """Start one more worker where all of them run tasks that may be waiting for those in the queue."""
        now = time.monotonic()
        if self._queue.empty() or not self._may_run.is_set():
            self._moved_at = now
        elif now > self._moved_at + STUCK_SECONDS and len(self._threads) <= WORKERS_MAX:
            self._moved_at = now
            self._threads.append(self._new_worker())
            self._threads[-1].start()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            self._may_run.wait()
            self._moved_at = time.monotonic()
            if task.canceled or self._stopping:
                continue
            began = time.perf_counter()
            status, payload = self._run(task)
            self._moved_at = time.monotonic()
            self._done.append((task, status, payload, int((time.perf_counter() - began) * 1e6)))

    def _run(self, task: _Task) -> tuple[int, bytes]:
        client, graph = task.client, task.graph
        payloads = TaskPayloads(
            function=client.functions[task.function],
            arguments=task.payload,
            inputs=[graph.results[row][1] for row in task.dependencies] if graph is not None else (),
            serializer=client.functions[task.serializer] if task.serializer else b"",
            is_chunk=task.kind == m.TaskKind.MAP_CHUNK,
        )
        with carrying(task.carried):
            status, outcome = client.execution.run(payloads)
        if outcome.object_id:
            self.objects[outcome.object_id] = [bytes(buffer) for buffer in outcome.buffers]
            self._has_come.add(outcome.object_id)
        return status, outcome.payload
