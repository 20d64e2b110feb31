"""How many workers a cluster has, as the scheduler tells monitors."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from scaler.client.security import read_keys
from scaler_protocol.errors import TransportError, WireError
from scaler_protocol.monitoring.topics import FIGURES
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorSnapshot

if TYPE_CHECKING:
    from scaler.client.client import Client

logger = logging.getLogger("scaler")

COUNTING_SECONDS = 5.0
"""How long the scheduler may take to say how many workers there are."""

JOINING_SECONDS = 10.0
"""How long to wait for the first worker."""

POLL_SECONDS = 0.1


def count_workers(client: Client) -> int | None:
    """Return how many workers the client's cluster has; None, with a warning, where the scheduler does not say.

    Where there is none, a task is submitted, for which an elastic cluster starts some, and the first is waited for. Returns 0
    where none comes.
    """
    why = "the scheduler has not named its monitor address"
    address = client.operations.monitor_address
    if address:
        try:
            keys = read_keys(client.operations.security, "monitor", "operator")
            subscriber = Subscriber(address, (FIGURES,), security=keys)
            try:
                count = _hear_count(client, subscriber)
            finally:
                subscriber.close()
            if count is not None:
                return count
            why = f"no message at the monitor address {address}"
        except (TransportError, ValueError) as error:
            why = str(error)
    logger.warning(
        "cannot tell how many workers the cluster has (%s): say n_jobs, or as many as this machine's CPUs count", why
    )
    return None


def _hear_count(client: Client, subscriber: Subscriber) -> int | None:
    start, count, probe = time.monotonic(), None, None
    try:
        while time.monotonic() < start + (COUNTING_SECONDS if count is None else JOINING_SECONDS):
            frames = subscriber.receive(POLL_SECONDS)
            if subscriber.watch.refusal:
                raise TransportError(subscriber.watch.refusal)
            try:
                message = None if frames is None else decode(frames[1:])
            except WireError as error:
                raise TransportError(f"a monitor message cannot be read: {error}") from error
            if isinstance(message, MonitorSnapshot):
                count = len(message.workers)
                if count:
                    break
                probe = probe or client.submit(bool)
    finally:
        if probe is not None:
            probe.cancel()
    return count
