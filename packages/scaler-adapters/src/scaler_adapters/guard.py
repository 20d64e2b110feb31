"""Refuses requests before the application sees them: long bodies, foreign host names, requests from pages of other sites."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 64 * 1024
"""Longest body of a request in bytes. The actions of the standard need a few hundred."""


class RequestGuard:
    """ASGI middleware. `hosts` are the host names under which requests are accepted (None: any).

    The host check refuses pages whose host name an attacker has pointed at this machine. The origin check refuses pages of
    other sites, whatever content type they send.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error, as ASGI asks for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            await _refuse(send, 400, f"this server does not accept requests for the host name {host!r}")
            return
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            await _refuse(send, 403, f"requests from pages of {origin!r} are not allowed")
            return
        body = await _read(receive)
        if body is None:
            await _refuse(send, 400, f"the request is longer than {BODY_BYTES_MAX} bytes")
            return
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_again, send)


async def _read(receive: Receive) -> bytes | None:
    """Return the whole body, or None if it is too long."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
