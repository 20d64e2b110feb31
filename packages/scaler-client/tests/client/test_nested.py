"""Clients inside a task: one core, messages through the task's worker, and word of who blocks."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from scaler import Client, Serializer
from scaler.client import nested_engine
from scaler.client.nested_engine import NestedEngine
from scaler.core.effects import Cause
from scaler.errors import ClientQuitException
from scaler.serialization.pickling import dumps, is_plain
from scaler.testing import InProcessCluster
from scaler.worker.agent.processor.processor import Processor
from scaler_protocol.payloads import by_value
from scaler_protocol.runtime.task_context import RelayAttendant, RelayReceiver, set_task_context
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.transport.dealer import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.envelope import Frame


class Context:
    """A processor that carries messages to an in-process cluster, and counts who blocks."""

    environment = b""
    options = b""
    devices: tuple[str, ...] = ()

    def __init__(self, cluster: InProcessCluster) -> None:
        self.scheduler_address = cluster.address
        self.object_storage_address = ""
        self.identity_prefix = b""
        self.security_dir = ""
        self.storage_gate = ""
        self.depth = 1
        self.client = b""
        self.task_number: int | None = 5
        self.task_index = 0
        self.carried: tuple[int, ...] = ()
        self.cancels: list[Callable[[], None]] = []
        self.relayed = 0
        self.blocked = 0
        self.most_blocked = 0
        self.times_blocked = 0
        self.unfinished: list[bool] = []
        """What its clients said of their unanswered tasks, in order."""
        self.attends = False
        self.lets_through = threading.Event()
        """While it is not set, nothing reaches the clients."""
        self.lets_through.set()
        self._links: dict[bytes, DealerLink] = {}
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def report_progress(self, done: float, total: float, note: str) -> None:
        """Nobody listens."""

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        link = self._links[client] = DealerLink(self.scheduler_address, client)

        def receive() -> None:
            while not self._stopping:
                self.lets_through.wait()
                for frames in link.receive(10):
                    receiver(frames)
                if self.attends:
                    attendant()
                link.wait(0.001)

        self._threads.append(threading.Thread(target=receive, daemon=True))
        self._threads[-1].start()

    def on_canceled(self, client: bytes, receiver: Callable[[], None]) -> None:
        self.cancels.append(receiver)

    def relay(self, client: bytes, frames: Sequence[Frame]) -> None:
        self.relayed += 1
        self._links[client].send(frames)

    def prepare_relay(self, client: bytes, messages: Sequence[Sequence[Frame]]) -> None:
        """Everything goes through `relay`."""

    def put_off(self) -> bool:
        return False

    def note_prepared(self) -> None:
        raise AssertionError("nothing was prepared")

    def close_relay(self, client: bytes) -> None:
        self._links.pop(client).close()

    def enter_blocked(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.blocked += 1
        self.times_blocked += 1
        self.most_blocked = max(self.most_blocked, self.blocked)

    def exit_blocked(self) -> None:
        self.blocked -= 1

    def note_unfinished(self, client: bytes, unfinished: bool) -> None:
        self.unfinished.append(unfinished)

    def close(self) -> None:
        # In a processor the engine of its clients lives as long as the process.
        for engine in nested_engine._shared.values():
            if engine._context is not self or engine.steps.closed:
                continue
            engine.steps.do(partial(engine.core.close, Cause.CLOSED, "the test is over"))
            # It looks whether it is closed when it has slept.
            engine.steps.wake()
            engine.objects.close()
        self._stopping = True
        self.lets_through.set()
        for thread in self._threads:
            thread.join(5)
        for link in self._links.values():
            link.close()


@pytest.fixture
def context(cluster: InProcessCluster) -> Iterator[Context]:
    context = Context(cluster)
    set_task_context(context)
    try:
        yield context
    finally:
        set_task_context(None)
        context.close()


class Plain(Serializer):
    @staticmethod
    def serialize(obj: Any) -> bytes:
        return pickle.dumps(obj)

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        return pickle.loads(payload)


def test_an_address_is_not_needed(context: Context, cluster: InProcessCluster) -> None:
    # Tests of other packages may have left some that wait for work.
    before = set(threading.enumerate())
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        assert client.map(abs, range(-50, 0)) == list(range(50, 0, -1))
        assert client.get({"a": (abs, -1), "b": (abs, "a")}, ["b"]) == {"b": 1}
        assert client.address == cluster.address
    assert context.relayed
    # No connection of its own, only the thread that does what tasks want.
    started = [thread.name for thread in threading.enumerate() if thread not in before]
    assert [name for name in started if name.startswith("scaler")] == ["scaler-nested"]


def test_a_large_value_waits_until_the_scheduler_has_said_where_it_goes(context: Context) -> None:
    context.lets_through.clear()
    with Client() as client:
        timer = threading.Timer(0.1, context.lets_through.set)
        timer.start()
        assert client.submit(len, bytes(300_000)).result(5) == 300_000
        timer.join()


def test_tasks_are_one_deeper(context: Context, cluster: InProcessCluster) -> None:
    context.depth = 3
    Client().submit(abs, -1).result(5)
    batch = next(message for message in cluster.received if isinstance(message, m.TaskBatch))
    assert batch.depth == 4


def test_all_clients_share_one_engine(context: Context, cluster: InProcessCluster) -> None:
    first, second = Client(), Client(profiling=True)
    assert first.identity == second.identity
    assert NestedEngine.of(context, None).client_id == first.identity
    future = first.submit(abs, -1)
    assert second.submit(abs, -2).result(5) == 2
    assert future.result(5) == 1
    assert len([message for message in cluster.received if isinstance(message, m.Hello)]) == 1


def test_an_unpickled_client_is_a_nested_one(context: Context, cluster: InProcessCluster) -> None:
    set_task_context(None)
    with Client(cluster.address, profiling=True) as original:
        body = pickle.dumps(original)
        set_task_context(context)
        copy = pickle.loads(body)
        assert isinstance(copy.operations.engine, NestedEngine)
        future = copy.submit(abs, -1)
        assert future.result(5) == 1
        assert future.profiling_info().duration_s >= 0


def test_a_client_is_handed_on_with_the_fast_pickler(cluster: InProcessCluster) -> None:
    class Own(Client):
        pass

    with Client(cluster.address, stream_output=True) as client, Own(cluster.address) as own:
        assert is_plain((client, 3))
        assert dumps((client, 3)) == by_value.dumps((client, 3))
        assert not is_plain(own), "what a class of the program has is not known"
    with Client(cluster.address, serializer=Plain()) as client:
        assert not is_plain(client), "its serializer is a value of the program's"


def resume_once_blocked(context: Context, cluster: InProcessCluster) -> None:
    """Let the cluster go on when the task waits, in another thread."""

    def resume() -> None:
        wait_until(lambda: context.blocked)
        cluster.resume()

    threading.Thread(target=resume, daemon=True).start()


def test_who_waits_is_blocked(context: Context, cluster: InProcessCluster) -> None:
    client = Client()
    cluster.hold()
    futures = [client.submit(abs, -i) for i in range(3)]
    assert context.times_blocked == 0
    resume_once_blocked(context, cluster)
    futures[0].result(5)
    assert (context.blocked, context.most_blocked, context.times_blocked) == (0, 1, 1)
    cf.wait(futures, timeout=5)
    times = context.times_blocked
    for future in futures:
        future.result(5)
    assert context.times_blocked == times


@pytest.mark.parametrize("how", ["wait", "as_completed", "await", "exception"])
def test_whichever_way_one_waits(context: Context, cluster: InProcessCluster, how: str) -> None:
    client = Client()
    cluster.hold()
    future = client.submit(abs, -1)
    resume_once_blocked(context, cluster)
    if how == "wait":
        cf.wait([future], timeout=5)
    elif how == "as_completed":
        list(cf.as_completed([future], timeout=5))
    elif how == "exception":
        future.exception(5)
    else:

        async def run() -> Any:
            return await future

        assert asyncio.run(run()) == 1
    assert future.result(5) == 1
    assert (context.blocked, context.times_blocked) == (0, 1)


def test_other_threads_of_a_task_do_not_block_it(context: Context, cluster: InProcessCluster) -> None:
    client = Client()
    with cf.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: client.submit(abs, -1).result(5)).result(5) == 1
    assert context.times_blocked == 1 if context.times_blocked else True


def test_the_processor_is_told_when_there_are_unanswered_tasks(context: Context, cluster: InProcessCluster) -> None:
    client = Client()
    cluster.hold()
    futures = [client.submit(abs, -i) for i in range(3)]
    wait_until(lambda: context.unfinished == [True])
    cluster.resume()
    cf.wait(futures, timeout=5)
    wait_until(lambda: context.unfinished == [True, False])
    cluster.hold()
    graph = client.get({"a": (abs, -1)}, ["a"], block=False)
    wait_until(lambda: context.unfinished == [True, False, True])
    graph["a"].cancel()
    wait_until(lambda: context.unfinished == [True, False, True, False])


def test_a_client_with_a_connection_of_its_own_tells_the_processor_too(
    context: Context, cluster: InProcessCluster
) -> None:
    cluster.hold()
    with Client(cluster.address) as client:
        client.submit(abs, -1)
        wait_until(lambda: context.unfinished)
    assert context.unfinished == [True, False]
    assert context.relayed == 0


def test_a_client_nobody_waits_in_finds_a_scheduler_that_started_again(
    context: Context, cluster: InProcessCluster
) -> None:
    context.attends = True
    client = Client()
    client.submit(abs, -1).result(5)
    cluster.silent = True
    answered = threading.Event()
    client.submit(abs, -2).add_done_callback(lambda _: answered.set())
    # What was submitted has been received, and nobody has taken it in.
    for _ in range(3):
        cluster.call(lambda: None)
    cluster.restart()
    cluster.silent = False
    assert answered.wait(30)


def test_tasks_leave_at_once_although_nobody_waits(context: Context, cluster: InProcessCluster) -> None:
    client = Client()
    futures = [client.submit(abs, -i) for i in range(5)]
    wait_until(lambda: all(future.done() for future in futures))


def test_disconnecting_leaves_the_other_clients(context: Context, cluster: InProcessCluster) -> None:
    cluster.hold()
    first, second = Client(), Client()
    mine, theirs = first.submit(abs, -1), second.submit(abs, -2)
    first.disconnect()
    assert mine.cancelled()
    with pytest.raises(ClientQuitException):
        mine.exception(1)
    cluster.resume()
    assert theirs.result(5) == 2
    with pytest.raises(ValueError, match="inside one of its tasks"):
        second.shutdown()


def test_what_a_cancelled_task_has_submitted_is_cancelled(context: Context, cluster: InProcessCluster) -> None:
    cluster.hold()
    with Client() as client, Client(detached=True) as detached:
        earlier = client.submit(abs, -1)
        context.task_index += 1
        futures = [client.submit(abs, -2), client.get({"a": (abs, -3), "b": (abs, "a")}, ["b"], block=False)["b"]]
        chained = client.submit(abs, futures[0])
        other = detached.submit(abs, -4)
        for cancel in context.cancels:
            cancel()
        for future in [*futures, chained]:
            with pytest.raises(cf.CancelledError):
                future.result(5)
        assert not earlier.done()
        # The next task has submitted nothing.
        context.task_index += 1
        for cancel in context.cancels:
            cancel()
        cluster.resume()
        assert (earlier.result(5), other.result(5)) == (1, 4)
    wait_until(lambda: cluster.unfinished() == 0)


def test_the_current_processor(context: Context) -> None:
    assert Processor.get_current_processor() is context
    set_task_context(None)
    assert Processor.get_current_processor() is None


def levels(address: str, depth: int) -> int:
    if not depth:
        return 1
    with Client(address) as client:
        answered = threading.Event()
        future = client.submit(levels, address, depth - 1)
        future.add_done_callback(lambda _: answered.set())
        assert answered.wait(10)
        return 1 + int(future.result())


def test_tasks_in_the_cluster_for_tests_may_wait_for_their_own() -> None:
    with InProcessCluster(workers=1) as cluster, Client(cluster.address) as client:
        assert [client.submit(levels, cluster.address, 3).result(20) for _ in range(2)] == [4, 4]


class Packets:
    """A processor's way out, through which a task's thread sends one packet by one operation."""

    def __init__(self, context: Context) -> None:
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._near = near
        self.write = near.send
        self.pending = False
        self._context = context
        self._thread = threading.Thread(target=self._forward, daemon=True)
        self._thread.start()

    def _forward(self) -> None:
        while packet := self._far.recv(1 << 20):
            client, messages = pickle.loads(packet)
            for frames in messages:
                self._context.relay(client, frames)

    def close(self) -> None:
        self._near.close()
        self._thread.join(5)
        self._far.close()


class AheadContext(Context):
    """As a processor: a task's thread may hold tasks back, and send them itself."""

    def __init__(self, cluster: InProcessCluster) -> None:
        super().__init__(cluster)
        self.packets = Packets(self)
        self.left = 0
        self.attendants: list[RelayAttendant] = []

    def open_relay(self, client: bytes, receiver: RelayReceiver, attendant: RelayAttendant, module: str) -> None:
        super().open_relay(client, receiver, attendant, module)
        self.attendants.append(attendant)

    def prepare_relay(self, client: bytes, messages: Sequence[Sequence[Frame]]) -> Any:
        packet = pickle.dumps((client, [[bytes(frame) for frame in frames] for frames in messages]))
        return self.packets, packet, int(socket.MSG_DONTWAIT)

    def put_off(self) -> bool:
        return True

    def note_prepared(self) -> None:
        self.left += 1

    def close(self) -> None:
        self.packets.close()
        super().close()


@pytest.fixture
def ahead(cluster: InProcessCluster) -> Iterator[AheadContext]:
    context = AheadContext(cluster)
    set_task_context(context)
    try:
        yield context
    finally:
        set_task_context(None)
        context.close()


def test_the_task_s_thread_sends_a_few_tasks_itself(ahead: AheadContext) -> None:
    with Client() as client:
        # The function is made known on the way all others go.
        assert client.submit(abs, -1).result(5) == 1
        relayed = ahead.relayed
        futures = [client.submit(abs, -n) for n in range(5)]
        assert (ahead.left, ahead.relayed) == (0, relayed), "they are held back until it waits"
        assert futures[0].result(5) == 0
        assert ahead.left == 1, "they leave together"
        assert [future.result(5) for future in futures] == [0, 1, 2, 3, 4]
        assert ahead.relayed - relayed >= 5, "each in its own message"
        assert client.submit(abs, -7).result(5) == 7


@pytest.mark.parametrize("how", ["wait", "as_completed", "await", "callback"])
def test_tasks_that_are_held_back_leave_before_any_kind_of_wait(ahead: AheadContext, how: str) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        first, second = client.submit(abs, -2), client.submit(abs, -3)
        assert ahead.left == 0
        if how == "wait":
            cf.wait([second], timeout=5)
        elif how == "as_completed":
            list(cf.as_completed([first, second], timeout=5))
        elif how == "callback":
            answered = threading.Event()
            second.add_done_callback(lambda _: answered.set())
            assert answered.wait(5)
        else:

            async def run() -> Any:
                return await second

            assert asyncio.run(run()) == 3
        assert ahead.left == 1
        assert (first.result(5), second.result(5)) == (2, 3)
        assert ahead.left == 1


def test_tasks_that_are_held_back_leave_although_nobody_waits(ahead: AheadContext) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        futures = [client.submit(abs, -n) for n in range(3)]
        # As the processor does after some milliseconds.
        for attend in ahead.attendants:
            attend()
        wait_until(lambda: all(future.done() for future in futures))
        assert ahead.left == 0


def test_tasks_submitted_after_a_wait_that_ended_early_follow_those_before(ahead: AheadContext) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        ahead.lets_through.clear()
        first = client.submit(abs, -2)
        with pytest.raises(TimeoutError):
            first.result(0.01)
        second = client.submit(abs, -3)
        with pytest.raises(TimeoutError):
            second.result(0.01)
        assert ahead.left == 2
        ahead.lets_through.set()
        assert (first.result(5), second.result(5)) == (2, 3)


def test_many_tasks_travel_together(ahead: AheadContext) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        futures = [client.submit(abs, -n) for n in range(500)]
        assert [future.result(5) for future in futures] == list(range(500))
        assert ahead.left < 100


def test_what_cannot_be_sent_ahead_goes_the_other_way(ahead: AheadContext) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        left = ahead.left
        # Another thread's message is half sent.
        ahead.packets.pending = True
        assert client.submit(abs, -2).result(5) == 2
        ahead.packets.pending = False
        # Nothing more fits.
        taken, ahead.packets.write = ahead.packets.write, socket.socket().send
        assert client.submit(abs, -3).result(5) == 3
        ahead.packets.write = taken
        assert ahead.left == left
        assert client.submit(abs, -4).result(5) == 4
        assert ahead.left == left + 1


def test_a_task_that_was_sent_ahead_is_cancelled(ahead: AheadContext, cluster: InProcessCluster) -> None:
    with Client() as client:
        assert client.submit(abs, -1).result(5) == 1
        future = client.submit(time.sleep, 0.0)
        assert future.result(5) is None
        left = ahead.left
        future = client.submit(time.sleep, 1.5)
        with pytest.raises(TimeoutError):
            future.result(0.01)
        assert ahead.left == left + 1
        assert future.cancel()
        assert client.submit(abs, -2).result(5) == 2
