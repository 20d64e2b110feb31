"""Asks a scheduler for a profile of what workers run. Each profile has a subscription of its own, which is the request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from scaler_protocol.address import Address
from scaler_protocol.errors import WireError
from scaler_protocol.monitoring.profile_tree import RATE_DEFAULT, CallTable
from scaler_protocol.monitoring.topics import ProfileWanted, profile_topic
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.transport.subscriber import Subscriber
from scaler_protocol.wire.codec import decode
from scaler_protocol.wire.messages import MonitorProfile
from scaler_ui.feed import refused_error

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

_POLL_SECONDS = 0.2


def take_profile(
    address: Address,
    seconds: int,
    *,
    rate: int = RATE_DEFAULT,
    security: PeerSecurity | None = None,
    timeout_s: float = 30.0,
    on_progress: Callable[[MonitorProfile], None] = lambda profile: None,
) -> MonitorProfile:
    """Return a profile of the next seconds, with `on_progress` called about once a second until then.

    Raises ServiceError if nothing arrives for `timeout_s`.
    """
    wanted = ProfileWanted(random.SystemRandom().getrandbits(63), rate, seconds)
    subscriber = Subscriber(str(address), (profile_topic(wanted),), security=security)
    heard_at = time.monotonic()
    try:
        while True:
            frames = subscriber.receive(_POLL_SECONDS)
            if subscriber.watch.refusal:
                raise refused_error(address, subscriber.watch.refusal)
            if frames is not None:
                try:
                    message = decode(frames[1:])
                except WireError as error:
                    raise ServiceError(
                        f"the scheduler at {address} sent a profile that cannot be read: {error}"
                    ) from None
                if isinstance(message, MonitorProfile):
                    heard_at = time.monotonic()
                    on_progress(message)
                    if message.done:
                        return message
            elif time.monotonic() >= heard_at + timeout_s:
                raise ServiceError(
                    f"the scheduler at {address} sent no profile within {timeout_s:g} s; is it running, and is this the "
                    f"monitor address that it logged? Four profiles at once are its most."
                )
    finally:
        subscriber.close()


def calls_of(profile: MonitorProfile) -> CallTable:
    """Return the tree of calls of a profile."""
    return CallTable(profile.parents, profile.names, profile.files, profile.lines, profile.microseconds, profile.texts)
