"""`GET /v1/models`, `/health`, `/metrics`: what is served, and how it is."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from medcli.core.errors import UnknownNameError
from medcli.core.speaker import DISCLAIMER
from medcli.web.errors import CLOSING_RETRY
from medcli.web.openapi import errors
from medcli.web.replies import Health, Served, ServedList
from medcli.web.service import Service

_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def router(service: Service) -> APIRouter:
    """The routes that only tell."""
    routes = APIRouter()

    @routes.get("/v1/models", response_model=ServedList, responses=errors(401), summary="The models that are served")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [_row(name, service) for name in service.scheduler.models]}

    @routes.get("/v1/models/{model:path}", response_model=Served, responses=errors(401, 404), summary="One of them")
    async def one(model: str) -> dict[str, Any]:
        if model not in service.scheduler.models:
            raise UnknownNameError("model", model, service.scheduler.models)
        return _row(model, service)

    @routes.get(
        "/health",
        response_model=Health,
        responses={**errors(), 503: {"model": Health}},
        summary="Whether requests are taken",
    )
    async def health() -> Response:
        if service.closing.is_set():
            return JSONResponse({"status": "closing"}, 503, {"Retry-After": str(CLOSING_RETRY)})
        return JSONResponse({"status": "ok"})

    @routes.get("/metrics", response_class=Response, responses={**_METRICS, **errors(401)}, summary="Figures")
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return routes


def _row(name: str, service: Service) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "med",
        "max_model_len": service.scheduler.context(name),
        "disclaimer": DISCLAIMER,
    }
