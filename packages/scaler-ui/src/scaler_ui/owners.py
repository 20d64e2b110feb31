"""Asks a scheduler whose task a number is: figures tell which tasks run, and not of whom."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.ids import ID_BYTES
from scaler_protocol.monitoring.topics import dump_topic, dumped_task
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorDump
from scaler_ui.feed import refused_error

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Owner:
    """A client that has an unfinished task of the number, and which task that is."""

    client: bytes
    function: str
    agent: str
    """The agent that has it; empty: it waits."""


def owners_of(
    address: Address,
    number: int,
    *,
    security: PeerSecurity | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> list[Owner]:
    """Return the clients that have an unfinished task of this number, in one dump of the scheduler's tables.

    Raises ServiceError if none arrives in time, or `given_up` says that nobody wants it any more.
    """
    subscriber = Subscriber(str(address), (dump_topic(number),), security=security)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        while time.monotonic() < deadline and not given_up():
            frames = subscriber.receive(_POLL_SECONDS)
            if subscriber.watch.refusal:
                raise refused_error(address, subscriber.watch.refusal)
            if frames is None or dumped_task(bytes(frames[0])) != number:
                continue
            try:
                message = decode(frames[1:])
            except WireError:
                continue
            if isinstance(message, MonitorDump):
                return read_owners(message.json)
    finally:
        subscriber.close()
    raise ServiceError(f"the scheduler at {address} has not said within {TIMEOUT_SECONDS:g} s whose task {number} is")


def read_owners(dump: str) -> list[Owner]:
    """Return the owners that a dump tells of. Raises ServiceError where it cannot be read."""
    try:
        found = [
            Owner(bytes.fromhex(one["client"]), str(one["function"]), str(one["agent"] or ""))
            for one in json.loads(dump)["tasks_asked_for"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(f"the scheduler's dump cannot be read: {error!r}") from None
    return [owner for owner in found if len(owner.client) == ID_BYTES]
