"""`med serve`: models over HTTP, by OpenAI's words, and a page for the browser."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from medcli.cli import console
from medcli.cli.options import settle, takes
from medcli.core.errors import UsageError
from medcli.core.model_ref import ModelRef
from medcli.core.serving import Scheduler
from medcli.core.speaker import DISCLAIMER, TINY_DISCLAIMER
from medcli.steps.grounded import open_library
from medcli.steps.serve import Flags, Settings, keys_of, served, url_of

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Opener = Callable[[Mapping[str, ModelRef], Settings], Scheduler]

NAMED_HELP = "Runs, model folders, hub ids or med-tiny; without one, what med.toml names, or med-tiny."
Named = Annotated[list[str] | None, typer.Argument(metavar="MODEL", help=NAMED_HELP, show_default=False)]


@app.command(
    help="Serve models over HTTP as OpenAI's API does, and on a page for the browser. Only this machine can reach "
    "them, unless --host and a key say otherwise."
)
@takes(Flags)
def serve(models: Named = None, *, flags: Mapping[str, Any]) -> None:
    settings = settle(Settings, "serve", {**flags, "model": models or None}).values
    refs = served(settings)
    keys = keys_of(settings, console.note)
    if settings.engine == "vllm":
        _hand_over(refs, settings, keys)
    if settings.trust_remote_code:
        from medcli.engine.remote_code import consent

        refs = {name: consent(ref) for name, ref in refs.items()}
    run(refs, settings, keys, _open)


def run(refs: Mapping[str, ModelRef], settings: Settings, keys: Sequence[str], open_models: Opener) -> None:
    """Serve until a signal comes; `open_models` loads them, after it is clear that the port is free."""
    with _extra_web():
        from medcli.web import app as web
        from medcli.web import run as server
        from medcli.web.conversation_log import ConversationLog
    library = open_library(settings.kb) if settings.kb else None
    with server.listen(settings.host, settings.port) as listening:
        log = ConversationLog(Path(settings.log).expanduser(), console.note) if settings.log else None
        service = web.service_of(open_models(refs, settings), settings, log, library)
        with _extra_web():
            application = web.create_app(service, keys)
        url = url_of(settings.host, listening.getsockname()[1])
        greet = partial(_greet, refs, url, settings, keyed=bool(keys))
        cut_by = server.serve(application, service, listening, greet)
    if log is not None:
        log.close()
    _leave(cut_by)


@contextmanager
def _extra_web() -> Iterator[None]:
    """Say which package is missing, and how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed", hint='pip install "medcli[web]"') from error


def _open(refs: Mapping[str, ModelRef], settings: Settings) -> Scheduler:
    from medcli.engine.scheduler import open_scheduler

    with console.watching() as report:
        return open_scheduler(
            refs,
            device=settings.device,
            quant=settings.quant,
            dtype=settings.dtype,
            slots=settings.slots,
            waiting=settings.waiting,
            report=report,
        )


def _greet(refs: Mapping[str, ModelRef], url: str, settings: Settings, *, keyed: bool) -> None:
    console.note(TINY_DISCLAIMER if any(ref.is_tiny for ref in refs.values()) else DISCLAIMER)
    console.say(f"{url}/v1")
    console.note(f"models: {', '.join(refs)}; a key is {'' if keyed else 'not '}needed")
    if settings.page:
        console.note(f"page for the browser: {url}")
    if settings.log:
        console.note(f"conversations are kept, with identifiers masked, in {settings.log}")
    console.note("stop it with Ctrl-C: running answers are ended first; a second one cuts them")


def _leave(cut_by: int | None) -> None:
    """A server that has answered what it had begun has done its work; one that was cut says by what."""
    if cut_by == signal.SIGINT:
        raise KeyboardInterrupt
    if cut_by is not None:
        sys.exit(128 + cut_by)
    console.note("stopped; everything that was asked is answered")


def _hand_over(refs: Mapping[str, ModelRef], settings: Settings, keys: Sequence[str]) -> None:
    """Become vLLM; does not return."""
    from medcli.steps.vllm_command import command

    order = command(refs, settings, keys)
    console.note(DISCLAIMER)
    console.note(" ".join(order.words))
    os.execve(order.words[0], list(order.words), {**os.environ, **order.environment})
