"""Decides who may see the pages: by host name, and by token if one is set.

The list of host names protects against DNS rebinding. If a page from another site makes a browser on this machine send a
request here, the request still has the site's own host name. An IP address in the Host header cannot be rebound.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "scaler_ui_token"

OPEN_PATHS = frozenset({"/healthz"})
"""Paths that need no token: they only show that the service runs."""

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class AccessControl:
    """ASGI middleware in front of all pages."""

    def __init__(self, application: ASGIApp, token: str = "", allowed_hosts: Iterable[str] = ()) -> None:
        self._application = application
        self._token = token
        self._hosts = {name.lower() for name in ("localhost", socket.gethostname(), *allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error, as ASGI asks for."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
        else:
            await self._application(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._host_is_allowed(headers.get("host", "")):
            return PlainTextResponse("this host name is not allowed; add it with --allowed-hosts\n", 421)
        if not self._token or scope["path"] in OPEN_PATHS:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = dict(query).get("token")
        if shown is not None and self._is_token(shown):
            # Move the token into a cookie, so that it does not stay in the address bar and the history.
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, shown, httponly=True, samesite="strict", path="/")
            return answer
        if self._is_token(_bearer(headers)) or self._is_token(_cookie(headers)):
            return None
        return PlainTextResponse(
            "a token is needed: open this page once with ?token=…, or send Authorization: Bearer …\n",
            401,
            {"www-authenticate": "Bearer"},
        )

    def _is_token(self, shown: str) -> bool:
        return bool(shown) and hmac.compare_digest(shown.encode(), self._token.encode())

    def _host_is_allowed(self, header: str) -> bool:
        name = (
            header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() and not header.endswith("]") else header
        )
        name = name.strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True


def _bearer(headers: Headers) -> str:
    kind, _, shown = headers.get("authorization", "").partition(" ")
    return shown.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""
