"""Lets in visitors who know the token: programs with a bearer token, browsers with a session that the sign-in form opens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scaler_protocol.service.web_access import (
    address_of,
    bearer_token,
    header_of,
    is_cross_site,
    refuse_for_now,
)
from scaler_protocol.service.web_tokens import TokenCheck
from scaler_ui.web.sessions import SESSION_SECONDS, Sessions

COOKIE = "scaler_ui_session"

SIGN_IN = "/sign-in"
SIGN_OUT = "/sign-out"

OPEN_PATHS = frozenset({"/healthz", "/static/style.css", "/static/theme.js", "/static/icon.svg"})
"""Paths that need no token: one shows that the service runs, the sign-in page needs the others."""

_PAGE = Path(__file__).with_name("static") / "sign-in.html"

_WRONG = '<p class="wrong" role="alert">This token is not right.</p>'

_FORWARD = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0"><title>Scaler</title>'
"""Loads the same address again from this site: after a link on another site, browsers send no SameSite=Strict cookie."""

_FORWARD_HOME = _FORWARD.replace('content="0"', 'content="0;url=/"')


class AccessControl:
    """ASGI middleware behind `WebGuard`, which refuses requests of other sites."""

    def __init__(
        self,
        application: ASGIApp,
        token: str,
        clock: Callable[[], float] = time.monotonic,
        session_s: float = SESSION_SECONDS,
    ) -> None:
        self._application = application
        self._tokens = TokenCheck(token, clock)
        self._clock = clock
        self._session_s = session_s
        self._sessions = Sessions(session_s)
        self._answering: dict[str, set[asyncio.Timeout]] = {}
        """The answers in progress of each session: the event stream never ends by itself."""
        self._page = _PAGE.read_text(encoding="utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the sign-in form or an error, as ASGI asks for."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._application(scope, receive, send)
        elif scope["path"] == SIGN_IN:
            await self._sign_in(scope, receive, send)
        elif scope["path"] == SIGN_OUT and scope["method"] == "POST":
            await self._sign_out(scope, receive, send)
        elif (query := _query_with_token(scope)) is not None:
            await self._follow_link(query, scope, receive, send)
        elif (left_s := self._sessions.left_s(_session(scope), self._clock())) > 0:
            await self._answer_during_session(left_s, scope, receive, send)
        else:
            await self._ask_for_token(scope, receive, send)

    async def _answer_during_session(self, left_s: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. What has no end of its own, the event stream, ends with the session."""
        session = _session(scope)
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start" and _has_length(message) and not ends.expired():
                # It has told how much follows, so it cannot end in the middle.
                answering.discard(ends)
                ends.reschedule(None)
            await send(message)

        ends = asyncio.timeout(left_s)
        answering = self._answering.setdefault(session, set())
        answering.add(ends)
        try:
            async with ends:
                await self._application(scope, receive, send_watched)
        except TimeoutError:
            if not ends.expired():
                raise
            if started:
                # The page asks again, and is shown the sign-in form.
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._ask_for_token(scope, receive, send)
        finally:
            answering.discard(ends)
            if not answering and self._answering.get(session) is answering:
                del self._answering[session]

    async def _ask_for_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = bearer_token(header_of(scope, "authorization"))
        verdict = self._tokens.check(given, address_of(scope)) if given else None
        if verdict is not None and verdict.right:
            await self._application(scope, receive, send)
        elif is_cross_site(scope):
            await HTMLResponse(_FORWARD, headers=_NO_STORE)(scope, receive, send)
        elif verdict is not None and verdict.wait_s:
            await refuse_for_now(send, verdict.wait_s)
        elif "text/html" in (header_of(scope, "accept") or ""):
            await self._show_form(scope, receive, send, 401)
        else:
            text = f"a token is needed: sign in at {SIGN_IN}, or send Authorization: Bearer …"
            answer = JSONResponse({"error": text}, 401, {"www-authenticate": "Bearer", **_NO_STORE})
            await answer(scope, receive, send)

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._show_form(scope, receive, send, 200)
            return
        body = (await Request(scope, receive).body()).decode("latin-1")
        try:
            given = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=10)).get("token", "")
        except ValueError:
            given = ""
        verdict = self._tokens.check(given.strip(), address_of(scope))
        if verdict.right:
            await self._open_session(RedirectResponse("/", 303), scope, receive, send)
        elif verdict.wait_s:
            seconds = int(verdict.wait_s) + 1
            text = f'<p class="wrong" role="alert">Too many attempts. Try again in {seconds} seconds.</p>'
            await self._show_form(scope, receive, send, 429, text, {"retry-after": str(seconds)})
        else:
            await self._show_form(scope, receive, send, 401, _WRONG)

    async def _sign_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _session(scope)
        self._sessions.end(session)
        for answer_ends in self._answering.get(session, ()):
            if not answer_ends.expired():
                answer_ends.reschedule(asyncio.get_running_loop().time())
        answer = RedirectResponse(SIGN_IN, 303, _NO_STORE)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=_is_tls(scope))
        await answer(scope, receive, send)

    async def _follow_link(self, query: list[tuple[str, str]], scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange the token of a link for a session, so that it does not stay in the address bar and the history."""
        given = dict(query)["token"]
        verdict = self._tokens.check(given, address_of(scope))
        if not verdict.right:
            if verdict.wait_s:
                await refuse_for_now(send, verdict.wait_s)
            elif "text/html" in (header_of(scope, "accept") or ""):
                await self._show_form(scope, receive, send, 401, _WRONG)
            else:
                await JSONResponse({"error": "this token is not right"}, 401, _NO_STORE)(scope, receive, send)
            return
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # The path begins with one slash only: with two it would name another host.
        path = "/" + scope["path"].lstrip("/\\")
        answer = (
            HTMLResponse(_FORWARD_HOME)
            if is_cross_site(scope)
            else RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        )
        # The next request must not name this address, which contains the token, as where it came from.
        answer.headers["referrer-policy"] = "no-referrer"
        await self._open_session(answer, scope, receive, send)

    async def _open_session(self, answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
        answer.headers.update(_NO_STORE)
        answer.set_cookie(
            COOKIE,
            self._sessions.start(self._clock()),
            max_age=int(self._session_s),
            path="/",
            httponly=True,
            samesite="strict",
            secure=_is_tls(scope),
        )
        await answer(scope, receive, send)

    async def _show_form(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        status: int,
        notice: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        page = self._page.replace("<!-- notice -->", notice)
        await HTMLResponse(page, status, {**_NO_STORE, **(headers or {})})(scope, receive, send)


_NO_STORE = {"cache-control": "no-store"}


def _query_with_token(scope: Scope) -> list[tuple[str, str]] | None:
    try:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    return query if any(name == "token" for name, _ in query) else None


def _is_tls(scope: Scope) -> bool:
    return scope.get("scheme") == "https"


def _session(scope: Scope) -> str:
    try:
        morsel = SimpleCookie(header_of(scope, "cookie") or "").get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""


def _has_length(start: Message) -> bool:
    """Whether the beginning of an answer says how many bytes follow."""
    return any(name.lower() == b"content-length" for name, _ in start.get("headers", ()))
