"""Runs a web application as a service, with readiness, watchdog and orderly stop like all services.

It needs uvicorn, which the packages with web applications require; the extra `service` does not install it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from scaler_protocol.service import event_loop as event_loops
from scaler_protocol.service.errors import ConfigurationError, ServiceError
from scaler_protocol.service.event_loop import EventLoopName
from scaler_protocol.service.listeners import inherited_listener
from scaler_protocol.service.readiness import Readiness
from scaler_protocol.service.signals import StopSignals
from scaler_protocol.service.tls_files import TlsFiles
from scaler_protocol.service.web_connections import BoundedServer
from scaler_protocol.service.web_settings import ConnectionLimits

logger = logging.getLogger(__name__)

GRACEFUL_STOP_SECONDS = 5
"""How long answers in progress may take after the service was asked to stop."""


def run_application(
    application: Any,
    host: str,
    port: int,
    *,
    role: str,
    event_loop: EventLoopName = "builtin",
    on_stop: Callable[[], None] | None = None,
    tls: TlsFiles | None = None,
    limits: ConnectionLimits | None = None,
) -> int:
    """Serve an ASGI application until it is stopped; return the exit status.

    It listens on the socket that the process was started with, if there is one (see `service.listeners`).
    Raises `ConfigurationError` if it cannot listen on the port. `role` names the address in the readiness report. `on_stop` is
    called when the stop begins, so that the application can end its endless answers. With `tls` it speaks https.
    `limits`: how many connections there may be, and how slow; None: the defaults.
    """
    readiness = Readiness.of_process()
    try:
        listener = inherited_listener() or socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        # As in every service: a port in use may become free, but a wrong host stays wrong.
        kind = ServiceError if error.errno == errno.EADDRINUSE else ConfigurationError
        raise kind(f"--host, --port: cannot listen on {host} port {port}: {error.strerror}") from None

    # Without it, answers on connections that are kept wait 40 ms for the acknowledgement of their headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve() -> int:
        # log_config None: its lines go to the root logger, in the form of all log lines.
        config = uvicorn.Config(
            application,
            log_config=None,
            http="h11",
            # Nothing here speaks WebSocket. Another protocol would have no deadlines.
            ws="none",
            access_log=False,
            lifespan="on",
            server_header=False,
            # Otherwise whoever is on this machine would choose the address by which requests are limited.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACEFUL_STOP_SECONDS,
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
            ssl_keyfile_password=None if tls is None else tls.key_password,
        )
        server = BoundedServer(config, limits if limits is not None else ConnectionLimits())

        def stop(_signal: signal.Signals) -> None:
            server.should_exit = True
            if on_stop is not None:
                on_stop()

        with StopSignals(stop):
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            watchdog = asyncio.create_task(readiness.keep_alive())
            # The socket listens already. Connections that came before wait in the kernel's queue.
            bound_port = listener.getsockname()[1]
            readiness.ready({role: f"tcp://{'[' + host + ']' if ':' in host else host}:{bound_port}"})
            logger.info("%s: %s://%s:%d", role, "http" if tls is None else "https", host, bound_port)
            try:
                await serving
            finally:
                readiness.stopping()
                watchdog.cancel()
        return 0

    with listener:
        return event_loops.run(serve, event_loop)
