"""Bounds the connections of a web service: how many there are, and how long each may be silent or slow.

uvicorn itself closes a connection that is idle between two requests. It waits for ever for the rest of a request's head and
for a reader that does not read, and a minute for a TLS handshake. Here each of these has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import logging
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import h11
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol

from scaler_protocol.service.occurrences import Occurrences
from scaler_protocol.service.web_access import SECURITY_HEADERS, address_of, refusal
from scaler_protocol.service.web_settings import ConnectionLimits

logger = logging.getLogger(__name__)

WRITE_SECONDS = 30.0
"""How long a caller may take nothing of its answer."""

CLOSE_SECONDS = 5.0
"""How long a connection may take to close."""

SWEEP_SECONDS = 0.25
"""How often deadlines are looked at."""

REFUSALS_MAX = 50
"""Most connections at once that are told why they are refused. Further ones are closed without a word."""

REFUSAL_SECONDS = 1.0
"""How long a refused caller may take to read why. A connection that is closed at once may lose its last bytes."""

LOG_SECONDS = 60.0
"""Refusals are logged once in this time, however many there are."""

_uvicorn = logging.getLogger("uvicorn.error.connections")
"""For uvicorn's own log lines about a connection: its warnings have a line for each request of anybody that is no HTTP."""


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


# A filter, as any configuration of "uvicorn.error" by a dictionary, uvicorn's own among them, takes back levels below it.
_uvicorn.addFilter(_is_error)


def _whole_refusal(status: http.HTTPStatus, text: str) -> bytes:
    """Return a whole answer, for a caller whose request was not read."""
    fields, body = refusal(text)
    head = "".join(f"{name}: {value}\r\n" for name, value in {**SECURITY_HEADERS, **fields}.items())
    return f"HTTP/1.1 {status} {status.phrase}\r\n{head}\r\n".encode("latin-1") + body


class _Places:
    """Counts connections, by address."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()

    def take(self, address: str) -> tuple[http.HTTPStatus, str] | None:
        """Count a connection; return why it is refused, or None."""
        if self._taken.total() >= self._limits.connections:
            text = f"this service has {self._limits.connections} connections already; try again later"
            return http.HTTPStatus.SERVICE_UNAVAILABLE, text
        if self._taken[address] >= self._limits.per_address:
            text = f"{address} has {self._limits.per_address} connections to this service already; close some"
            return http.HTTPStatus.TOO_MANY_REQUESTS, text
        self._taken[address] += 1
        return None

    def give_back(self, address: str) -> None:
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]


class _Connection(H11Protocol):
    """uvicorn's connection, with deadlines."""

    def __init__(
        self,
        *arguments: Any,
        head_s: float,
        on_lost: Callable[[], None],
        on_invalid: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.logger = _uvicorn
        self._head_s = head_s
        self._on_invalid = on_invalid
        self._on_lost = on_lost
        self._head_since: float | None = self.loop.time()
        """Since when the head of a request is awaited; None between two requests (uvicorn's timer) and during one."""
        self._unsent_least = sys.maxsize
        self._unsent_since = self.loop.time()
        """Since when the caller has taken nothing of what waits for it."""
        self._closing_since: float | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent_least = sys.maxsize
        self._unsent_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Say what uvicorn found, with the headers that all answers have."""
        del msg
        self._on_invalid()
        if not self.transport.is_closing():
            text = "this is no HTTP request, or its line and headers are longer than 16 KiB"
            self.transport.write(_whole_refusal(http.HTTPStatus.BAD_REQUEST, text))
            self.transport.close()

    def _should_upgrade(self) -> bool:
        # A request to upgrade is answered like any other: nothing here speaks another protocol. uvicorn would log each.
        return False

    def look_at_deadlines(self, now: float) -> None:
        """End the connection if it is overdue. Called every `SWEEP_SECONDS`."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent_least:
            self._unsent_least = unsent or sys.maxsize
            self._unsent_since = now
        if now - self._unsent_since > WRITE_SECONDS:
            self.transport.abort()
        elif self.transport.is_closing():
            self._closing_since = now if self._closing_since is None else self._closing_since
            if unsent == 0 and now - self._closing_since > CLOSE_SECONDS:
                self.transport.abort()
        elif self._head_since is not None and now - self._head_since > self._head_s:
            text = f"the request line and headers were not complete after {self._head_s:g} s"
            self.transport.write(_whole_refusal(http.HTTPStatus.REQUEST_TIMEOUT, text))
            self.transport.close()


class _Entrance(asyncio.Protocol):
    """What a new connection meets first: it is counted, and does its TLS handshake."""

    def __init__(self, server: BoundedServer) -> None:
        self._server = server
        self._address = ""
        self._transport: asyncio.Transport | None = None
        self._early = bytearray()
        """What came before the handshake, or between it and the hand-over."""
        self._refused = False
        self._lost = False
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast(asyncio.Transport, transport)
        self._address = address_of({"client": made.get_extra_info("peername")})
        refused = self._server.places.take(self._address)
        context = self._server.config.ssl
        if refused is not None:
            self._refuse(made, *refused, told=context is None)
        elif context is None:
            self._hand_over(made)
        else:
            # Otherwise the first bytes might come here instead of to the handshake. uvloop reads all the same: see _feed.
            made.pause_reading()
            self._server.entrances.add(self)
            self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(made, context))

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._server.entrances.discard(self)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, transport: asyncio.Transport, status: http.HTTPStatus, text: str, *, told: bool) -> None:
        self._refused = True
        self._server.log_refusal(self._address, text)
        if not told or len(self._server.entrances) >= REFUSALS_MAX:
            transport.abort()
            return
        self._server.entrances.add(self)
        transport.write(_whole_refusal(status, text))
        transport.write_eof()
        asyncio.get_running_loop().call_later(REFUSAL_SECONDS, transport.abort)

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        secured: asyncio.Transport | None = None
        try:
            starting = loop.create_task(
                loop.start_tls(
                    transport, self, context, server_side=True, ssl_handshake_timeout=self._server.limits.head_s
                )
            )
            # The handshake begins in its first step, and is ready for bytes in the next turn of the loop.
            await asyncio.sleep(0)
            loop.call_soon(self._feed, transport)
            secured = await starting
        except OSError as error:
            logger.debug("TLS handshake with %s: %s", self._address, error)
        finally:
            self._server.entrances.discard(self)
            if secured is None or self._lost:
                transport.abort()
                self._server.places.give_back(self._address)
        if secured is not None and not self._lost:
            self._hand_over(secured)

    def _feed(self, transport: asyncio.Transport) -> None:
        """Give the handshake the bytes that came before it began."""
        protocol = transport.get_protocol()
        if protocol is self or not hasattr(protocol, "get_buffer"):
            return
        # uvloop's has the methods, but not the base class.
        handshake = cast(asyncio.BufferedProtocol, protocol)
        while self._early:
            room = memoryview(cast(bytearray, handshake.get_buffer(len(self._early))))
            size = min(len(room), len(self._early))
            room[:size] = self._early[:size]
            room.release()
            del self._early[:size]
            handshake.buffer_updated(size)

    def _hand_over(self, transport: asyncio.Transport) -> None:
        connection = self._server.connection_of(self._address)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early:
            connection.data_received(bytes(self._early))


class BoundedServer(uvicorn.Server):
    """uvicorn with limits, and without its signal handlers, because the service has handlers."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self.limits = limits
        self.places = _Places(limits)
        self.entrances: set[_Entrance] = set()
        """Connections during their handshake, and those that are being told why they are refused."""
        self._invalid = Occurrences(logger, "requests were no HTTP, or longer than permitted; the last is from")
        self._logged = float("-inf")
        self._sweeping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on these sockets, as uvicorn does, but let each connection in by an `_Entrance`."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        loop = asyncio.get_running_loop()
        enter = functools.partial(_Entrance, self)
        self.servers = [
            await loop.create_server(enter, sock=listener, backlog=self.config.backlog) for listener in sockets or ()
        ]
        self._sweeping = loop.create_task(self._sweep())
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does; who has not come in yet is sent away."""
        for entrance in list(self.entrances):
            entrance.abort()
        try:
            await super().shutdown(sockets)
        finally:
            if self._sweeping is not None:
                self._sweeping.cancel()

    def connection_of(self, address: str) -> _Connection:
        """Return the protocol for a connection that was let in."""
        return _Connection(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            head_s=self.limits.head_s,
            on_lost=functools.partial(self.places.give_back, address),
            on_invalid=functools.partial(self._invalid.note, address),
        )

    def log_refusal(self, address: str, text: str) -> None:
        """Log it, unless one was logged shortly before."""
        now = asyncio.get_running_loop().time()
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            logger.warning("refused a connection from %s: %s", address, text)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Connection):
                    connection.look_at_deadlines(loop.time())
