"""Put the server together: routes, errors, and the doors before them."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from medcli import __version__
from medcli.core.serving import Scheduler
from medcli.steps.grounded import Library
from medcli.steps.serve import Settings, is_local
from medcli.web import body_limit, completions, errors, models
from medcli.web.conversation_log import ConversationLog
from medcli.web.guard import Guard
from medcli.web.keys import Keys, RateLimit
from medcli.web.metrics import Counted, Metrics
from medcli.web.openapi import describe
from medcli.web.service import Service


def service_of(
    scheduler: Scheduler, settings: Settings, log: ConversationLog | None = None, kb: Library | None = None
) -> Service:
    """What the routes share."""
    return Service(scheduler=scheduler, settings=settings, metrics=Metrics(scheduler), log=log, kb=kb)


def create_app(
    service: Service,
    keys: Sequence[str] = (),
    *,
    largest_body: int = body_limit.LARGEST_BODY,
    longest_read: float = body_limit.LONGEST_READ,
) -> FastAPI:
    """The whole server, with the page where `settings.page` is set.

    `keys` are those of which a client must show one; `largest_body` bytes are read in `longest_read` seconds at most.
    """
    settings, known = service.settings, Keys(keys)
    app = FastAPI(title="med", version=__version__, docs_url=None, redoc_url=None)  # their pages load foreign scripts
    errors.install(app)
    app.include_router(models.router(service))
    app.include_router(completions.router(service))
    describe(app, keyed=bool(known))
    app.add_middleware(body_limit.BodyLimit, largest=largest_body, longest=longest_read)
    limit = RateLimit(settings.rate_limit) if settings.rate_limit else None
    app.add_middleware(Guard, keys=known, rate_limit=limit, local_only=not known and is_local(settings.host))
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origin, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(Counted, metrics=service.metrics)
    return _with_page(app, service, known) if settings.page else app


def _with_page(app: FastAPI, service: Service, keys: Keys) -> FastAPI:
    from medcli.web.page import PageSettings, mount  # gradio takes seconds

    ground = service.kb.ground if service.kb else None
    page = PageSettings(
        ground=ground,
        authenticate=keys.holds if keys else None,
        longest=service.settings.max_tokens,
        time_limit=service.settings.time_limit,
    )
    return mount(app, service.scheduler, page)
