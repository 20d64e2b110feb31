"""Has the scheduler cancel tasks of others, in a short session as an operator: monitors only listen."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scaler_protocol.address import reached_beside
from scaler_protocol.errors import WireError
from scaler_protocol.runtime.names import user_name
from scaler_protocol.runtime.random_ids import new_id
from scaler_protocol.service.errors import ConfigurationError
from scaler_protocol.service.security_settings import SecuritySettings, peer_security
from scaler_protocol.session import Connection, Established, Received, RefusedByPeer
from scaler_protocol.transport import DealerLink
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import decode, encode
from scaler_protocol.wire.envelope import decode_envelope, encode_envelope

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

TIMEOUT_SECONDS = 15.0

_REQUEST = 1
"""Each session makes one."""


class CancellationRefusedError(Exception):
    """Nothing was cancelled. The text says why."""


class NoAnswerError(Exception):
    """It is not known whether anything was cancelled. The text says what went wrong."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever may cancel: the keys for it, or why there is no way."""

    security: PeerSecurity | None = None
    refusal: str = ""
    """Why tasks cannot be cancelled from here; empty: they can, as far as is known here."""
    name: str = "scaler_ui"
    """What the session is called in the scheduler's log."""

    def refusal_of(self, snapshot: m.MonitorSnapshot | None) -> str:
        """Return why the scheduler of this snapshot would cancel nothing; empty: it would."""
        if self.refusal:
            return self.refusal
        if snapshot is None:
            return "no scheduler has answered yet"
        if snapshot.protected:
            return "this scheduler is protected (--protected): nobody cancels tasks of others"
        if snapshot.standby:
            return "this scheduler is the standby of another one: cancel at the pages of that one"
        return "" if snapshot.scheduler_address else "the scheduler does not say where clients reach it"

    def cancel(
        self,
        snapshot: m.MonitorSnapshot | None,
        monitor_address: str,
        request: m.CancelRequest,
        given_up: Callable[[], bool] = lambda: False,
    ) -> int:
        """Have tasks cancelled; return how many. Waits for the answer until `given_up` says that nobody wants it any more.

        Raises CancellationRefusedError, or NoAnswerError.
        """
        refusal = self.refusal_of(snapshot)
        if refusal or snapshot is None:
            raise CancellationRefusedError(refusal)
        address = reached_beside(snapshot.scheduler_address, monitor_address)
        reply = _ask(address, self.name, self.security, request, given_up)
        if reply.error:
            raise CancellationRefusedError(reply.error)
        return reply.count


NO_KEYS = Operator()
"""Where the scheduler wants none."""


def operator_of(settings: SecuritySettings, name: str = "scaler_ui") -> Operator:
    """Return what this command may do as an operator: with keys, it needs one of that role."""
    try:
        return Operator(peer_security(settings, "operator"), name=name)
    except ConfigurationError:
        refusal = f"cancelling needs the key of an operator, and {name} has none (--security-dir)"
        return Operator(refusal=refusal, name=name)


def _ask(
    address: str, name: str, security: PeerSecurity | None, request: m.CancelRequest, given_up: Callable[[], bool]
) -> m.CancelReply:
    incarnation = new_id(b"" if security is None else security.identity_prefix)
    # No pickles are exchanged, so any version of Python will do.
    hello = m.Hello(
        m.Role.CLIENT,
        name,
        incarnation,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        user=user_name(),
        python_version="",
    )
    connection = Connection(hello)
    try:
        link = DealerLink(address, incarnation, security)
    except WireError as error:
        raise NoAnswerError(f"the scheduler at {address} cannot be reached: {error}") from None
    try:
        return _exchange(connection, link, replace(request, request=_REQUEST), given_up)
    except WireError as error:
        raise NoAnswerError(f"what the scheduler at {address} says cannot be read: {error}") from None
    finally:
        connection.close("the request is over")
        _send(connection, link)
        link.close()


def _exchange(
    connection: Connection, link: DealerLink, request: m.CancelRequest, given_up: Callable[[], bool]
) -> m.CancelReply:
    connection.start(time.monotonic())
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (now := time.monotonic()) < deadline:
        if given_up():
            raise NoAnswerError("nobody has waited for the answer")
        connection.tick(now)
        _send(connection, link)
        link.wait(min(0.5, deadline - now))
        for frames in link.receive(100):
            received = connection.receive(decode_envelope(frames[0]), decode(frames[1:]), time.monotonic())
            for event in received:
                if isinstance(event, Established):
                    connection.send(request)
                elif isinstance(event, RefusedByPeer):
                    raise CancellationRefusedError(f"the scheduler refuses this service: {event.reason}")
                elif isinstance(event, Received) and isinstance(event.message, m.CancelReply):
                    return event.message
        if link.refusal is not None:
            raise CancellationRefusedError(f"the scheduler does not let this service in: {link.refusal}")
    trouble = f": {link.trouble}" if link.trouble else ""
    raise NoAnswerError(f"the scheduler at {link.address} has not answered for {TIMEOUT_SECONDS:g} s{trouble}")


def _send(connection: Connection, link: DealerLink) -> None:
    outgoing, connection.outgoing = connection.outgoing, []
    for one in outgoing:
        link.send([encode_envelope(one.envelope), *encode(one.message)])
