"""The door of the server: which address was asked for, which key is shown, how often."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcli.web.errors import ApiError
from medcli.web.keys import Allowance, Keys, RateLimit

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_API = "/v1/"
_GUARDED = ("/v1", "/metrics", "/openapi.json")  # the page asks for a key itself


class Guard:
    """Lets requests through to `app`, or says why not.

    With `local_only`, a request must have been sent to this machine by a name of its own: a page elsewhere whose name
    was made to point here could else read what is answered (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, rate_limit: RateLimit | None, local_only: bool) -> None:
        self._app = app
        self._keys = keys
        self._rate_limit = rate_limit
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            allowance = self._admitted(scope)
        except ApiError as error:
            await error.response(scope, receive, send)
            return
        await self._app(scope, receive, _telling(allowance, send) if allowance else send)

    def _admitted(self, scope: Scope) -> Allowance | None:
        """What is left to the client after this request, where that is limited; raises ApiError."""
        headers = Headers(scope=scope)
        if self._local_only and _host_of(headers.get("host", "")) not in _LOCAL:
            raise ApiError(403, "this server is asked by another name than localhost, and has no key", code="host")
        path: str = scope["path"]
        if not any(path == guarded or path.startswith(f"{guarded}/") for guarded in _GUARDED):
            return None
        number = self._number_of(headers) if self._keys else None
        if self._rate_limit is None or scope["method"] != "POST" or not path.startswith(_API):
            return None
        allowance = self._rate_limit.take(number)
        if not allowance.granted:
            retry = {"Retry-After": str(allowance.next_after)}
            raise ApiError(
                429, f"more than {allowance.limit} requests a minute", code="rate_limit_exceeded",
                headers=allowance.headers | retry,
            )  # fmt: skip
        return allowance

    def _number_of(self, headers: Headers) -> int:
        kind, _, key = headers.get("authorization", "").partition(" ")
        number = self._keys.number_of(key.strip()) if kind.lower() == "bearer" else None
        if number is None:
            raise ApiError(
                401, "show a key of this server: Authorization: Bearer KEY", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        return number


def _host_of(header: str) -> str:
    """The name in a Host header, without its port; "" when it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _telling(allowance: Allowance, send: Send) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(allowance.headers)
        await send(message)

    return told
