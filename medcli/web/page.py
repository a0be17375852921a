"""The page at "/": chat with the served models in a browser, in the same process as the API."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI

from medcli.core.sampling_settings import SamplingSettings, sampling_of
from medcli.core.serving import Scheduler
from medcli.core.settings import pass_on
from medcli.core.speaker import Sampling
from medcli.web.page_answers import Desk, Ground

# gradio tells its makers of each start, and after each event it sums up all events since the start.
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """What the page begins with, and what it is allowed.

    `ground` puts passages of a knowledge base into a conversation; beside the messages it gets the characters that
    passages may have, or None. With `authenticate`, a person must first enter a key that it holds true. An answer has
    at most `longest` tokens and takes at most `time_limit` seconds (0: no limit).
    """

    sampling: Sampling = sampling_of(SamplingSettings())
    system: str = ""
    ground: Ground | None = None
    authenticate: Callable[[str], bool] | None = None
    longest: int | None = None
    time_limit: float = 0


def mount(app: FastAPI, scheduler: Scheduler, page: PageSettings) -> FastAPI:
    """Put the page at "/" of `app`, behind all of its other routes: these must be there already."""
    pass_on(_QUIET)  # before the import, which may act upon it
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_mount_in_loop(app, scheduler, page))  # gradio makes loops where none runs, and leaves them open
    else:
        _mount(app, scheduler, page)
    return app


async def _mount_in_loop(app: FastAPI, scheduler: Scheduler, page: PageSettings) -> None:
    _mount(app, scheduler, page)


def _mount(app: FastAPI, scheduler: Scheduler, page: PageSettings) -> None:
    # These import gradio, which takes seconds.
    from medcli.web import page_blocks
    from medcli.web.page_parts import Beginning

    desk = Desk(scheduler=scheduler, ground=page.ground, time_limit=page.time_limit)
    begin = Beginning(sampling=page.sampling, system=page.system, longest=page.longest)
    page_blocks.mount(app, desk, begin, page.authenticate)
