"""Refuses requests before a web application sees them: foreign host names, pages of other sites, long bodies, too many requests.

It is plain ASGI, so that it needs no web framework. Browsers attach cookies to requests of any page and connect to machines
behind a firewall. So a page of another site is refused by its `Origin` and by `Sec-Fetch-Site`, and a host name that an
attacker has pointed at this machine (DNS rebinding) by the list of host names.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

BODY_BYTES_MAX = 64 * 1024
"""Longest body of a request in bytes."""

HEAD_BYTES_MAX = 16 * 1024
"""Longest request line with its headers in bytes."""

BODY_SECONDS = 20.0
"""How long a request may take to send its body."""

REQUESTS_PER_SECOND = 100.0
REQUESTS_AT_ONCE = 1_000
"""Requests that one address may send at once; after that `REQUESTS_PER_SECOND`."""

ADDRESSES_MAX = 10_000
"""How many addresses a rate limit remembers. The one that was silent for longest is forgotten first."""

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" browsers send "Origin: null" with the forms of our own pages.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Headers of every answer. The policy allows no inline script, and nothing from other machines."""


def is_secret(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on the texts. Any text may be given, also one that is not valid Unicode."""
    return hmac.compare_digest(_digest(given), _digest(expected))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def header_of(scope: Scope, name: str) -> str | None:
    """Return a header of a request, or None. A header that was sent twice is returned once, with commas."""
    wanted = name.lower().encode("latin-1")
    found = [value.decode("latin-1") for key, value in scope["headers"] if key == wanted]
    return ", ".join(found) if found else None


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `Authorization: Bearer` header; empty if there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def basic_password(authorization: str | None) -> str:
    """Return the password of an `Authorization: Basic` header, as browsers ask for one; empty if there is none."""
    scheme, _, value = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except ValueError:
        return ""


def address_of(scope: Scope) -> str:
    """Return whom to count a request for: an IPv4 address, or the /64 network of an IPv6 address, which one site has whole."""
    client = scope.get("client")
    host = str(client[0]) if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


class RateLimit:
    """Counts requests by address. Each may send `at_once`, and regains `per_second`. The table is bounded."""

    def __init__(self, per_second: float, at_once: int, addresses_max: int = ADDRESSES_MAX) -> None:
        self._per_second = per_second
        self._at_once = float(at_once)
        self._addresses_max = addresses_max
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Requests that an address may still send, and when that was counted."""

    def take(self, address: str, now: float) -> float:
        """Count a request. Returns 0.0 if it is allowed, otherwise the seconds after which the next one is."""
        left, since = self._left.pop(address, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        wait_s = 0.0 if left >= 1.0 else (1.0 - left) / self._per_second
        self._left[address] = (left if wait_s else left - 1.0, now)
        if len(self._left) > self._addresses_max:
            self._left.popitem(last=False)
        return wait_s

    def wait_s(self, address: str, now: float) -> float:
        """Return what `take` would, but count nothing."""
        left, since = self._left.get(address, (self._at_once, now))
        return max(0.0, 1.0 - left - (now - since) * self._per_second) / self._per_second

    def __len__(self) -> int:
        return len(self._left)


class HostNames:
    """The host names under which a service is reached: `localhost`, this machine's name, its IP addresses, and further ones."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        self._names = {name.lower().strip("[]") for name in ("localhost", socket.gethostname(), *further)}

    def allows(self, header: str) -> bool:
        """Say whether a Host header names this service. An IP address always does: only a name can be pointed elsewhere."""
        try:
            name = (urlsplit(f"//{header}").hostname or "") if "@" not in header else ""
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


class WebGuard:
    """ASGI middleware in front of a whole application.

    `pages`: paths that a link on another site may open in a browser window. All other requests of other sites are refused,
    whatever their method. `frames`: origins whose pages may show these in a frame, as in http://localhost:8888.
    """

    def __init__(
        self,
        app: Application,
        *,
        hosts: HostNames,
        pages: frozenset[str] = frozenset(),
        frames: Sequence[str] = (),
        limit: RateLimit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._pages = pages
        self._destinations = ("document", "iframe") if frames else ("document",)
        self._security_headers = dict(SECURITY_HEADERS)
        if frames:
            # The older header knows no list of origins.
            del self._security_headers["x-frame-options"]
            policy = self._security_headers["content-security-policy"]
            self._security_headers["content-security-policy"] = policy.replace(
                "frame-ancestors 'none'", f"frame-ancestors {' '.join(frames)}"
            )
        self._limit = limit if limit is not None else RateLimit(REQUESTS_PER_SECOND, REQUESTS_AT_ONCE)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with an error, as ASGI asks for."""
        if scope["type"] == "websocket":
            # No application here has any.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {bytes(name).lower() for name, _ in headers}
                headers += [
                    (name.encode(), value.encode())
                    for name, value in self._security_headers.items()
                    if name.encode() not in present
                ]
                message["headers"] = headers
            await send(message)

        wait_s = self._limit.take(address_of(scope), self._clock())
        if wait_s:
            await refuse_for_now(send_guarded, wait_s)
            return
        if _head_bytes(scope) > HEAD_BYTES_MAX:
            await refuse(send_guarded, 431, f"the request's address and headers are longer than {HEAD_BYTES_MAX} bytes")
            return
        host = header_of(scope, "host") or ""
        if not self._hosts.allows(host):
            text = f"requests for the host name {host!r} are not allowed; add it with --allowed-hosts"
            await refuse(send_guarded, 421, text)
            return
        if is_cross_site(scope) and not self._is_followed_link(scope):
            await refuse(send_guarded, 403, "requests from pages of other sites are not allowed")
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(scope, receive)
        except TimeoutError:
            await refuse(send_guarded, 408, f"the request was not complete after {BODY_SECONDS:g} s")
            return
        except ConnectionError:
            # Half a body must not be taken for a whole one.
            return
        if body is None:
            await refuse(send_guarded, 413, f"the request is longer than {BODY_BYTES_MAX} bytes")
            return
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await self._app(scope, receive_again, send_guarded)
        except Exception:
            if started:
                raise
            # Whatever a request has found wrong in the application, the answer has the headers of all answers.
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await refuse(send_guarded, 500, "this request failed; the log of the service says why")

    def _is_followed_link(self, scope: Scope) -> bool:
        """A browser's window, or a frame that is allowed, shows the answer: the other site does not read it."""
        return (
            scope["method"] == "GET"
            and scope["path"] in self._pages
            and header_of(scope, "origin") is None
            and header_of(scope, "sec-fetch-mode") == "navigate"
            and header_of(scope, "sec-fetch-dest") in self._destinations
        )


def is_cross_site(scope: Scope) -> bool:
    """Say whether a page of another site has made a browser send this request."""
    if header_of(scope, "sec-fetch-site") not in (None, "same-origin", "none"):
        return True
    origin = header_of(scope, "origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != (header_of(scope, "host") or "").lower()
    except ValueError:
        return True


def _head_bytes(scope: Scope) -> int:
    address = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
    return address + sum(len(name) + len(value) for name, value in scope["headers"])


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """Return the whole body, or None if it is too long. Raises ConnectionError if its sender is gone before its end."""
    announced = header_of(scope, "content-length") or ""
    if announced.isdecimal() and int(announced[:20]) > BODY_BYTES_MAX:
        return None
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def refusal(text: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of an answer that says why a request is refused; its connection is closed."""
    body = json.dumps({"error": text}).encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
    }
    return fields, body


async def refuse(send: Send, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
    """Answer a request with an error as JSON, and close its connection, whose body may not have been read."""
    fields, body = refusal(text)
    fields |= headers or {}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def refuse_for_now(send: Send, wait_s: float) -> None:
    """Answer a request of somebody who sends too many."""
    seconds = int(wait_s) + 1
    await refuse(send, 429, f"too many requests; try again in {seconds} s", {"retry-after": str(seconds)})
