"""What a processor tells its agent of clients inside its tasks, and when."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest

from scaler_worker.processor.alarm import Alarm
from scaler_worker.processor.channel import TOGETHER_BYTES_MAX, Channel
from scaler_worker.processor.nested_clients import NestedClients
from scaler_worker.processor.records import (
    FALSE,
    SEVERAL_MAX,
    TRUE,
    Kind,
    read_relay,
    read_several,
    relay_parts,
    several_parts,
)
from scaler_worker.processor.result_buffer import ResultBuffer

CLIENT = b"c" * 16
FRAMES = [b"envelope", b"message"]
RESULT = (3, b"Pvalue", 12, None)


class Processor:
    """Its clients, its results, and the agent's end of its channel."""

    def __init__(self) -> None:
        self._agent, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._agent.setblocking(False)
        self._end = end
        self.channel = Channel(end)
        self.alarm = Alarm(0.002)
        self.results = ResultBuffer(self.channel.send)
        self.clients = NestedClients(self.channel, self.channel.send, self.results, lambda: None, self.alarm)
        self.attended = 0
        self.clients.open(CLIENT, lambda frames: None, self._attend, "module")
        assert self.sent() == [[(Kind.RELAY_OPEN, CLIENT + b"module")]]

    def sent(self) -> list[list[tuple[int, bytes]]]:
        """Return what has left since: the records of each packet."""
        found: list[list[tuple[int, bytes]]] = []
        while True:
            try:
                packet = self._agent.recv(1 << 20)
            except BlockingIOError:
                return found
            assert not packet[1]
            found.append(read_several(packet[2:]) if packet[0] == Kind.SEVERAL else [(packet[0], packet[2:])])

    def submit(self, count: int = 1) -> None:
        """As the task's thread that sends tasks itself."""
        prepared = self.clients.prepare(CLIENT, [FRAMES] * count)
        assert prepared is not None
        packet = self.channel.prepare(*prepared)
        assert packet is not None
        self.channel.write(packet)
        self.clients.note_prepared()

    def answer(self) -> None:
        """A result is to be sent."""
        self.results.results.append(RESULT)
        self.results.flush()

    def close(self) -> None:
        self._agent.close()
        self._end.close()

    def _attend(self) -> None:
        self.attended += 1


@pytest.fixture
def processor() -> Iterator[Processor]:
    processor = Processor()
    yield processor
    processor.close()


def kinds(sent: list[list[tuple[int, bytes]]]) -> list[list[int]]:
    return [[kind for kind, _ in packet] for packet in sent]


def test_tasks_that_leave_together_are_one_packet(processor: Processor) -> None:
    processor.submit(2)
    (packet,) = processor.sent()
    assert [kind for kind, _ in packet] == [Kind.RELAY_UNFINISHED] * 2
    assert [read_relay(body) for _, body in packet] == [(CLIENT, FRAMES)] * 2
    processor.submit()
    assert kinds(processor.sent()) == [[Kind.RELAY]], "the agent knows that there are unanswered tasks"


def test_that_a_task_goes_on_travels_with_its_result(processor: Processor) -> None:
    processor.submit()
    assert processor.clients.enter_blocked(), "the agent is to be told"
    processor.clients.note(CLIENT, False)
    processor.clients.exit_blocked()
    assert kinds(processor.sent()) == [[Kind.RELAY_UNFINISHED]]
    processor.answer()
    ((word, result),) = processor.sent()
    assert word == (Kind.UNBLOCKED, FALSE)
    assert result[0] == Kind.ONE_RESULT
    processor.answer()
    assert kinds(processor.sent()) == [[Kind.ONE_RESULT]], "once"
    assert not processor.alarm.is_set


def test_a_task_that_waits_again_at_once_says_nothing(processor: Processor) -> None:
    processor.submit(2)
    assert processor.clients.enter_blocked()
    processor.sent()
    processor.clients.exit_blocked()
    assert not processor.clients.enter_blocked(), "the agent has never heard that the first wait ended"
    processor.clients.note(CLIENT, False)
    processor.clients.exit_blocked()
    assert processor.sent() == []
    processor.answer()
    assert kinds(processor.sent()) == [[Kind.UNBLOCKED, Kind.ONE_RESULT]]


def test_a_task_that_goes_on_for_longer_says_so_after_some_milliseconds(processor: Processor) -> None:
    processor.submit(2)
    processor.clients.enter_blocked()
    processor.sent()
    processor.clients.exit_blocked()
    poller = select.poll()
    poller.register(processor.alarm.descriptor, select.POLLIN)
    assert poller.poll(5000), "the control thread is woken"
    processor.alarm.take()
    processor.clients.catch_up()
    assert processor.attended == 1
    assert processor.sent() == [[(Kind.UNBLOCKED, TRUE)]], "with a task that is unanswered"
    assert processor.clients.enter_blocked()
    processor.answer()
    assert kinds(processor.sent()) == [[Kind.ONE_RESULT]]


def test_tasks_submitted_before_the_agent_knows_that_the_task_goes_on_stay_unfinished(processor: Processor) -> None:
    processor.submit()
    processor.clients.enter_blocked()
    processor.clients.note(CLIENT, False)
    processor.clients.exit_blocked()
    processor.submit()
    processor.sent()
    processor.clients.catch_up()
    assert processor.sent() == [[(Kind.UNBLOCKED, TRUE)]]
    processor.clients.note(CLIENT, False)
    assert processor.sent() == [[(Kind.UNFINISHED, FALSE)]]


def test_nothing_is_prepared_while_the_agent_is_told(processor: Processor) -> None:
    prepared: list[object] = []
    send = processor.channel.send

    def interrupted(kind: int, parts: object = ()) -> None:
        prepared.append(processor.clients.prepare(CLIENT, [FRAMES]))
        send(kind, parts)  # type: ignore[arg-type]

    processor.clients.enter_blocked()
    processor.clients.exit_blocked()
    processor.channel.send = interrupted  # type: ignore[method-assign]
    processor.clients.catch_up()
    assert prepared == [None]
    assert processor.sent() == [[(Kind.UNBLOCKED, FALSE)]]


def test_an_alarm_that_was_stopped_wakes_nobody() -> None:
    alarm = Alarm(0.001)
    poller = select.poll()
    poller.register(alarm.descriptor, select.POLLIN)
    alarm.set()
    assert poller.poll(5000)
    alarm.stop()
    assert not poller.poll(20)
    # As where it fired just before.
    alarm.take()
    alarm.set()
    assert poller.poll(5000)


def test_large_records_do_not_travel_together(processor: Processor) -> None:
    large = bytes(TOGETHER_BYTES_MAX)
    processor.channel.send_together((Kind.UNBLOCKED, [TRUE]), (Kind.RELAY, relay_parts(CLIENT, [large])))
    assert kinds(processor.sent()) == [[Kind.UNBLOCKED], [Kind.RELAY]]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"".join(bytes(part) for part in several_parts([(Kind.RELAY, [b"x" * 9])]))[:-1], id="cut off"),
        pytest.param(b"\x24\x00", id="no length"),
        pytest.param(struct.pack("=BI", Kind.UNFINISHED, 0) * (SEVERAL_MAX + 1), id="too many"),
    ],
)
def test_what_is_no_several_records_is_refused(body: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        read_several(body)


def test_more_messages_than_one_record_may_have_go_another_way(processor: Processor) -> None:
    """As when the handlers of signals go on submitting while their task does: the agent ends a processor that sends more."""
    assert processor.clients.prepare(CLIENT, [FRAMES] * SEVERAL_MAX) is not None
    assert processor.clients.prepare(CLIENT, [FRAMES] * (SEVERAL_MAX + 1)) is None
