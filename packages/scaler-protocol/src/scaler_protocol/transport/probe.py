"""Finds out what listens at a monitor address, because a wrong address would look like silence."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

from scaler_protocol.errors import TransportError, UnknownKeyError, WireError, WrongSocketError
from scaler_protocol.transport.endpoints import begin_connect, is_unknown_host, reason
from scaler_protocol.transport.streams import connecting_decoder, probing_stream
from scaler_protocol.transport.zmtp import GREETING_BYTES, VERSION_KNOWN_BYTES, SocketType, greeting

if TYPE_CHECKING:
    from scaler_protocol.security.credentials import PeerSecurity

MECHANISM_SECONDS_MIN = 0.2
"""How long to wait at least for the mechanism of a server that has just closed a connection."""


def require_publisher(
    address: str, seconds: float = 1.0, *, may_come: bool = False, security: PeerSecurity | None = None
) -> None:
    """Raise TransportError if something other than a publisher answers, or if there is no such host. No answer is no error.

    Waits up to so many seconds for the answer. `security` has the keys with which the monitor will connect:
    that one end uses keys and the other does not, or that the server does not let in this key, is an error too. With
    `may_come`, an unknown host and a key that is not let in are none: both may be known later.
    """
    deadline = time.monotonic() + seconds
    try:
        connecting = begin_connect(address)
    except socket.gaierror as error:
        if is_unknown_host(error) and not may_come:
            raise TransportError(f"the host cannot be found: {reason(error)}") from None
        return
    except OSError:
        return
    stream = probing_stream(connecting, security)
    try:
        while not stream.ready and (left := deadline - time.monotonic()) > 0:
            wanted: list[int] = [stream.fd] if stream.pending else []
            select.select([stream.fd], wanted, [stream.fd], left)
            stream.flush()
            stream.receive()
    except WrongSocketError as error:
        if error.found == SocketType.ROUTER.value.decode():
            text = "a scheduler or an object storage server listens there; monitors have an address of their own"
        else:
            text = f"what answers there is a ZeroMQ socket of type {error.found}, not a publisher"
        raise TransportError(text) from None
    except UnknownKeyError as error:
        if not may_come:
            raise TransportError(str(error)) from None
    except WireError as error:
        raise TransportError(str(error)) from None
    except OSError:
        _require_mechanism(address, security, deadline)
    finally:
        stream.close()


def _require_mechanism(address: str, security: PeerSecurity | None, deadline: float) -> None:
    """Raise TransportError if one end uses keys and the other does not.

    libzmq closes the connection before it has told its mechanism if it was told another one. So this tells it only the version.
    """
    try:
        with begin_connect(address) as connecting:
            connecting.settimeout(max(MECHANISM_SECONDS_MIN, deadline - time.monotonic()))
            connecting.sendall(greeting(b"")[:VERSION_KNOWN_BYTES])
            data = b""
            while len(data) < GREETING_BYTES:
                piece = connecting.recv(GREETING_BYTES - len(data))
                if not piece:
                    return
                data += piece
    except OSError:
        return
    try:
        connecting_decoder(SocketType.SUB, b"", security).feed(data)
    except WireError as error:
        raise TransportError(str(error)) from None
