"""Read the body of a request: no more of it than is allowed, and no longer."""

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcli.web.errors import ApiError

LARGEST_BODY = 4 * 2**20  # bytes; the longest contexts are a quarter of it
LONGEST_READ = 30.0  # seconds
_CLOSE = {"Connection": "close"}  # what is left of the body is not read


class BodyLimit:
    """Hands a request on to `app` when its body is there, whatever length was announced for it."""

    def __init__(self, app: ASGIApp, *, largest: int = LARGEST_BODY, longest: float = LONGEST_READ) -> None:
        self._app = app
        self._largest = largest
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._longest):
                body = await self._read(Headers(scope=scope).get("content-length", ""), receive)
        except TimeoutError:
            late = ApiError(408, f"the body took longer than {self._longest:g} s", code="timeout", headers=_CLOSE)
            await late.response(scope, receive, send)
        except ApiError as error:
            await error.response(scope, receive, send)
        else:
            if body is not None:
                await self._app(scope, _again(body, receive), send)

    async def _read(self, announced: str, receive: Receive) -> bytes | None:
        """The body; None when the client has gone. Raises ApiError 413."""
        announced_size = int(announced) if announced.isdecimal() else 0
        parts: list[bytes] = []
        size = 0
        while max(size, announced_size) <= self._largest:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if not message.get("more_body", False) and size <= self._largest:
                return b"".join(parts)
        raise ApiError(413, f"the body is larger than {self._largest / 2**20:g} MiB", code="too_large", headers=_CLOSE)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body out once, and then whatever comes after it."""
    given = False

    async def received() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return received
