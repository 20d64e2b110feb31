"""A message that cannot be written costs the tasks in it, and nothing else."""

from __future__ import annotations

import pytest

from scaler.core import ClientCore, effects, events
from scaler_protocol.errors import WireError
from scaler_protocol.session import Session
from scaler_protocol.testing.session_peer import SessionPeer
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode
from scaler_protocol.wire.columns import Packed

CLIENT = b"c" * 16
FUNCTION, OTHER = b"f" * 16, b"g" * 16
OBJECT = b"o" * 16
EPOCH = 1
"""The session that begins with the first hello."""


@pytest.fixture
def core() -> ClientCore:
    core = ClientCore(CLIENT, m.Hello(m.Role.CLIENT, "c", CLIENT), timeout_seconds=20.0)
    core.define_function(FUNCTION, b"body", "module.name")
    core.define_function(OTHER, b"body", "module.other")
    core.start(0.0)
    hello = core.take_effects()[0]
    assert isinstance(hello, effects.Send)
    scheduler = SessionPeer()
    scheduler.receive(hello.envelope, hello.message, 0.0)
    core.handle(events.Incoming(*scheduler.welcome()), 0.1)
    core.take_effects()
    return core


def transmit(core: ClientCore) -> tuple[list[m.Message], list[effects.Completed]]:
    """Write what leaves, as a shell does; return what the other end gets, and what has ended."""
    sent: list[m.Message] = []
    completed: list[effects.Completed] = []
    waiting = core.take_effects()
    received = Session(EPOCH)
    for effect in waiting:
        if isinstance(effect, effects.Send):
            message = effect.message
            try:
                encode(message)
            except WireError as error:
                message = core.fail_unsendable(effect.envelope, message, str(error))
                encode(message)
                waiting += core.take_effects()
            assert received.accept(effect.envelope, 0.0)
            assert not received.gap
            sent.append(message)
        elif isinstance(effect, effects.Completed):
            completed.append(effect)
    core.check_invariants()
    return sent, completed


def test_tasks_of_such_a_batch_fail_and_the_others_run(core: ClientCore) -> None:
    bad = core.group(capabilities=(("gpu", 2**70),))
    core.hold_object(OBJECT)
    failing = [core.submit(bad, FUNCTION, b"P", (OBJECT,), "bad"), core.submit(bad, FUNCTION, b"P", (), "bad too")]
    working = core.submit(core.group(), FUNCTION, b"P", (), "good")
    core.flush()
    sent, [failed] = transmit(core)
    assert [number for message in sent if isinstance(message, m.TaskBatch) for number in message.numbers] == [working]
    assert failed.numbers == failing
    assert failed.tokens == ["bad", "bad too"]
    assert set(failed.reported.statuses) == {m.Status.NOT_RUN}
    assert b"TaskBatch.capabilities cannot be written" in failed.payloads[0]
    assert not core.snapshot().object_uses
    assert core.unanswered_count == 1


def test_rows_of_such_a_graph_fail(core: ClientCore) -> None:
    graph = m.GraphSubmit(
        CLIENT, 0, (FUNCTION,), Packed.of([b"P", b"P"]), [0, 1], [0], [1], depth=70_000, objects=(OBJECT,)
    )
    core.hold_object(OBJECT)
    core.submit_graph(graph, ["row"])
    core.flush()
    _, [failed] = transmit(core)
    assert failed.tokens == ["row"]
    assert not core.snapshot().object_uses
    assert not core.snapshot().graphs


def test_a_function_that_cannot_be_defined_fails_those_that_need_it(core: ClientCore) -> None:
    core.submit(core.group(), FUNCTION, b"P", (), "first")
    core.flush()
    core.take_effects()
    core.submit(core.group(), OTHER, b"P", (), "second")
    core.flush()
    define = core.take_effects()[0]
    assert isinstance(define, effects.Send)
    assert isinstance(define.message, m.FunctionDefine)
    core.fail_unsendable(define.envelope, define.message, "too long")
    [failed] = [effect for effect in core.take_effects() if isinstance(effect, effects.Completed)]
    assert failed.tokens == ["second"]
    core.check_invariants()


def test_what_is_sent_again_is_the_harmless_message(core: ClientCore) -> None:
    core.submit(core.group(capabilities=(("gpu", 2**70),)), FUNCTION, b"P", (), "bad")
    core.flush()
    sent, _ = transmit(core)
    core.handle(events.Incoming(Session(EPOCH).request_resend(1.0), m.Heartbeat()), 1.0)
    again, _ = transmit(core)
    assert again == sent
