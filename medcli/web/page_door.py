"""The door before the page: who may come in, what of gradio may be reached, and what a browser may run and fetch."""

import re
import secrets
from collections.abc import Callable
from html import escape
from string import Template
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcli.core.catalogue import preferred, words
from medcli.core.resources import templates
from medcli.core.speaker import DISCLAIMER
from medcli.web.errors import ApiError
from medcli.web.page_guests import Guests

_COOKIE = "med_page"
# All that the page itself asks for. Uploads, files, proxies, calls by name and descriptions stay shut.
_OPEN = re.compile(
    r"/|/(?:assets|static)/.+|/theme\.css|/favicon\.ico"
    r"|/gradio_api/(?:startup-events|app_id|queue/join|queue/data|cancel|reset)"
)
# A connection that each open page would hold for ever, and without which nothing is missed.
_HEARTBEAT = "/gradio_api/heartbeat/"
_SCRIPT = re.compile(rb"<script\b")
_MANIFEST = re.compile(rb'<link rel="manifest"[^>]*>')


class Door:
    """Stands before gradio's application, and behind all other routes of the server."""

    def __init__(self, app: ASGIApp, authenticate: Callable[[str], bool] | None) -> None:
        self._app = app
        self._guests = Guests(authenticate) if authenticate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let gradio answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = _refusal(request) or await self._welcome(request)
        if answer is not None:
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _Guarded(send, scope["path"] == "/").send)

    async def _welcome(self, request: Request) -> Response | None:
        """What is answered to someone who must enter a key first, or has just done so; None for all others."""
        if self._guests is None or self._guests.knows(request.cookies.get(_COOKIE, "")):
            return None
        if request.url.path != "/":
            return ApiError(401, "enter the key at / first", code="invalid_api_key").response
        if request.method != "POST":
            return _form(request, "", 401)
        typed = parse_qs((await request.body()).decode("utf-8", "replace")).get("key", [""])[0]
        if self._guests.are_many():
            return _form(request, "key_often", 429)
        token = self._guests.admit(typed.strip())
        return _let_in(request, token) if token else _form(request, "key_wrong", 401)


def _refusal(request: Request) -> Response | None:
    """What is answered to a request that the page would never make."""
    origin = request.headers.get("origin")
    if request.url.path.startswith(_HEARTBEAT):
        return Response(status_code=204)
    if not _OPEN.fullmatch(request.url.path):
        return ApiError(404, "there is nothing at this path").response
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return ApiError(403, "another site may not use this page", code="origin").response
    return None


def _form(request: Request, problem: str, status: int) -> Response:
    """The page where the key is entered."""
    language = preferred(request.headers.get("accept-language", ""))
    say = {"disclaimer": DISCLAIMER, **words(language, "page")}
    text = Template((templates() / "page" / "key.html").read_text("utf-8"))
    spoken = {name: escape(text) for name, text in say.items()}
    filled = text.substitute(spoken, language=language, problem=spoken[problem] if problem else "")
    response = HTMLResponse(filled, status)
    _set_rules(response.headers, secrets.token_urlsafe(16), forms="'self'")
    return response


def _let_in(request: Request, token: str) -> Response:
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(_COOKIE, token, httponly=True, samesite="strict", secure=secure)
    return response


def _set_rules(headers: MutableHeaders, nonce: str, forms: str = "'none'") -> None:
    """Tell the browser to run only scripts that bear the nonce, and to fetch nothing from anywhere else."""
    headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        f"base-uri 'self'; form-action {forms}; frame-ancestors 'none'"
    )
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cache-Control"] = "no-store"


class _Guarded:
    """Sends what gradio answers; the page itself only whole, with the rules for the browser."""

    def __init__(self, send: Send, is_page: bool) -> None:
        self._send = send
        self._is_page = is_page
        self._start: Message = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        """Take a message of gradio's, and pass it on when it is time."""
        if not self._is_page:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page()

    async def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        body = _SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), _MANIFEST.sub(b"", self._body))
        headers = MutableHeaders(raw=list(self._start["headers"]))
        _set_rules(headers, nonce)
        if self._body:  # none is there where only the head was asked for
            headers["Content-Length"] = str(len(body))
        await self._send({**self._start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})
