"""Figures for Prometheus: what was asked, how it went, and how busy the model is."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcli.core.serving import Scheduler
from medcli.web.hearing import Hearing

GONE = 499  # nginx's number for a client that has closed the connection; nobody receives it
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics", "/openapi.json")


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("med_requests", "HTTP requests", ("route", "code"), registry=self._registry)
        self._took = Histogram(
            "med_request_seconds", "From a request to the end of its answer", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._first = Histogram(
            "med_first_piece_seconds", "From a request to the first piece of its answer",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(_LoadOf(scheduler))
        ProcessCollector(registry=self._registry)

    def heard(self, hearing: Hearing) -> None:
        """Measure answers that have ended, or that nobody waits for."""
        if hearing.first_after is not None:
            self._first.observe(hearing.first_after)

    def request(self, path: str, code: int, seconds: float) -> None:
        """Count an HTTP request; paths that nobody serves are one."""
        known = (route for route in _ROUTES if path == route or path.startswith(f"{route}/"))
        route = next(known, "other")
        self._requests.labels(route, str(code)).inc()
        self._took.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self._registry)


class Counted:
    """Counts every request that passes through to `app`."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, code = time.monotonic(), GONE

        async def noticed(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except Exception:
            code = 500
            raise
        finally:
            self._metrics.request(scope["path"], code, time.monotonic() - begun)


class _LoadOf(Collector):
    """Asks the scheduler whenever somebody looks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterable[Metric]:
        return self._figures()

    def _figures(self) -> Iterator[Metric]:
        load = self._scheduler.load()
        yield GaugeMetricFamily("med_running", "Requests that are being answered", load.running)
        yield GaugeMetricFamily("med_waiting", "Requests that wait for a slot", load.waiting)
        yield GaugeMetricFamily("med_slots", "Requests that are answered at the same time, at most", load.slots)
        tokens = CounterMetricFamily("med_tokens", "Tokens of prompts read or known, and of answers", labels=("kind",))
        for kind, number in (("read", load.read), ("said", load.said), ("reused", load.reused)):
            tokens.add_metric((kind,), number)
        yield tokens
