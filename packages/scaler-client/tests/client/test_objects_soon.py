"""Values of some hundred KiB are handed to the link to object storage without waiting for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

from scaler import Client, ScalerFuture
from scaler.client import object_channel
from scaler_protocol.testing.waiting import wait_until
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode

SIZE = 300_000


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[m.Message]:
    """What was sent to object storage, in order."""
    messages: list[m.Message] = []

    def note(message: m.Message) -> Any:
        messages.append(message)
        return encode(message)

    monkeypatch.setattr(object_channel, "encode", note)
    return messages


def _puts(sent: Sequence[m.Message]) -> list[bytes]:
    return [message.id for message in sent if isinstance(message, m.ObjectPut)]


def _distinct(count: int) -> list[bytes]:
    return [os.urandom(16) + bytes(SIZE) for _ in range(count)]


def test_each_value_is_stored_once(client: Client, sent: list[m.Message]) -> None:
    values = _distinct(40)
    # Kept, because what no task needs any more is deleted, and sent anew.
    references = [client.send_object(value) for value in (*values, *values)]
    futures: list[ScalerFuture] = [client.submit(bytes.__getitem__, reference, slice(16)) for reference in references]
    assert [future.result(30) for future in futures] == [value[:16] for value in (*values, *values)]
    puts = _puts(sent)
    assert len(puts) == len(set(puts)) == len(values)


def test_what_is_changed_after_the_call_was_sent_as_it_was(client: Client) -> None:
    # With another argument beside it: by itself, it would be no object.
    value = bytearray(SIZE)
    futures = []
    for number in range(20):
        value[:] = bytes([number]) * SIZE
        futures.append(client.submit(sum, value, 0))
    assert [future.result(30) for future in futures] == [number * SIZE for number in range(20)]


def test_what_nobody_needs_any_more_is_deleted_after_it_was_stored(client: Client, sent: list[m.Message]) -> None:
    client.submit(len, bytes(SIZE)).result(30)
    del sent[:]
    for value in _distinct(40):
        client.submit(max, bytearray(value), b"").cancel()  # type: ignore[call-overload]  # of two types

    def orphans() -> set[bytes]:
        stored: set[bytes] = set()
        for message in list(sent):
            if isinstance(message, m.ObjectPut):
                stored.add(message.id)
            elif isinstance(message, m.ObjectDelete):
                stored -= set(message.ids)
        return stored

    wait_until(lambda: len(_puts(sent)) == 40 and not orphans(), what="an object was not deleted")
