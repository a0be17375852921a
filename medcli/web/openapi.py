"""The OpenAPI document: what FastAPI makes of the routes, with our errors in the place of its own."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from medcli.core.speaker import DISCLAIMER
from medcli.web.replies import ErrorReply

_MEANINGS = {
    400: "A field does not fit; `param` is its path",
    401: "No key of this server was shown",
    403: "Asked by another name than localhost, with no key",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    429: "Too many requests wait already, or a key has made too many",
    500: "The model failed",
    503: "The server closes, or the answer took too long",
}
_SCHEME = "key"
_NOT_OURS = ("HTTPValidationError", "ValidationError")


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer instead; 403 everywhere."""
    return {status: {"model": ErrorReply, "description": _MEANINGS[status]} for status in sorted({403, *statuses})}


def answers(whole: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """What a route that asks a model may answer: `whole`, a stream of events, or an error."""
    event = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
    events = {"text/event-stream": {"schema": event | {"description": "With `stream`: each event"}}}
    said = {"model": whole, "description": "The answer", "content": events}
    return {200: said, **errors(400, 401, 404, 408, 413, 429, 500, 503)}


def describe(app: FastAPI, *, keyed: bool) -> None:
    """Let `app` tell what it really takes and gives; `keyed` when a key must be shown."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(_document(app, keyed))
        return made

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to change it


def _document(app: FastAPI, keyed: bool) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=DISCLAIMER, routes=app.routes)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # OpenAI's clients expect 400
    for name in _NOT_OURS:
        document["components"]["schemas"].pop(name, None)
    if keyed:
        document["components"]["securitySchemes"] = {_SCHEME: {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            if path != "/health":
                for operation in operations.values():
                    operation["security"] = [{_SCHEME: []}]
    return document
