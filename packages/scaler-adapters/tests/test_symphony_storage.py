"""The Symphony agent's requests to object storage: each ends in one event, also those that cannot be made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from scaler_adapters.symphony.core import effects, events
from scaler_adapters.symphony.storage_link import StorageLink
from scaler_protocol.errors import MessageTooLargeError
from scaler_protocol.wire import messages as m

FIRST, SECOND = b"1" * 16, b"2" * 16
OWNER = b"client".ljust(16, b".")


def reports(use: Callable[[StorageLink], None]) -> list[events.Event]:
    """Return what is reported of requests to a server that does not answer."""

    async def run() -> list[events.Event]:
        reported: list[events.Event] = []
        link = StorageLink("tcp://127.0.0.1:1", m.Hello(m.Role.AGENT, "symphony", b"a" * 16), reported.append)
        try:
            use(link)
        finally:
            link.close()
        return reported

    return asyncio.run(run())


def test_requests_beyond_the_largest_number_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler_protocol.objects.storage.requests.PENDING_MAX", 1)

    def use(link: StorageLink) -> None:
        link.fetch(effects.FetchObject(FIRST))
        link.fetch(effects.FetchObject(SECOND))
        link.put(effects.PutObject(SECOND, OWNER, [b"result"]))
        assert link.unanswered() == [effects.FetchObject(FIRST)]

    error = "1 requests to object storage are unanswered"
    assert reports(use) == [events.ObjectFetched(SECOND, None, error), events.ObjectStored(SECOND, error)]


def test_an_object_that_no_message_can_carry_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaler_protocol.objects.storage.requests.OBJECT_BYTES_MAX", 3)
    (reported,) = reports(lambda link: link.put(effects.PutObject(FIRST, OWNER, [b"result"])))
    assert isinstance(reported, events.ObjectStored)
    assert "an object of 1 buffers and 6 bytes" in reported.error


def test_a_message_that_cannot_be_encoded_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(message: m.Message) -> list[bytes]:
        if isinstance(message, m.ObjectGet):
            raise MessageTooLargeError("it is too large")
        return [b""]

    monkeypatch.setattr("scaler_adapters.symphony.storage_link.encode", refuse)

    def use(link: StorageLink) -> None:
        link.fetch(effects.FetchObject(FIRST))
        assert link.unanswered() == []

    assert reports(use) == [events.ObjectFetched(FIRST, None, "it is too large")]
