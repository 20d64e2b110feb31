"""A value that gets past every check, and that no message can carry, costs its own task or object and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from scaler import Client, ScalerFuture, errors
from scaler.client import object_channel
from scaler_protocol.errors import UnencodableMessageError
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode


@pytest.mark.parametrize("busy", [False, True])
def test_such_a_task_fails_and_others_run(client: Client, busy: bool) -> None:
    engine, packer = client.operations.engine, client.operations.surroundings.packer
    others = [client.submit(abs, -number) for number in range(50)] if busy else []
    group = engine.tasks.group(capabilities=(("gpu", 2**70),))
    failing = ScalerFuture(client)
    engine.tasks.submit(group, packer.function(abs), packer.call(abs, (-1,), {}).payload, (), failing)
    others += [client.submit(abs, -number) for number in range(50)]
    with pytest.raises(errors.TaskNotRunError, match=r"cannot be sent: TaskBatch\.capabilities cannot be written"):
        failing.result(5)
    assert [future.result(5) for future in others] == [*range(50)] * (2 if busy else 1)
    assert client.map(abs, range(-10, 0)) == list(range(10, 0, -1))


def test_such_an_object_fails_the_tasks_that_use_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = client.send_object(list(range(10_000)), name="kept")

    def fail(message: m.Message) -> Any:
        if isinstance(message, m.ObjectPut) and message.name == "bad":
            raise UnencodableMessageError("ObjectPut.name cannot be written")
        return encode(message)

    monkeypatch.setattr(object_channel, "encode", fail)
    bad = client.send_object(list(range(20_000)), name="bad")
    with pytest.raises(errors.ObjectStorageException, match=r"ObjectPut\.name cannot be written"):
        client.submit(len, bad).result(5)
    assert client.submit(len, kept).result(5) == 10_000
    assert client.submit(len, b"x" * 300_000).result(5) == 300_000
