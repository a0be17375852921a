"""A server on a free port of this machine, in a thread."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from medcli.core.serving import Scheduler
from medcli.steps.serve import Settings
from medcli.web.app import create_app, service_of
from medcli.web.conversation_log import ConversationLog
from medcli.web.run import listen
from medcli.web.service import Service


@dataclass(frozen=True)
class Running:
    """Where it listens, and what its routes share."""

    url: str
    port: int
    service: Service


@contextmanager
def running(
    scheduler: Scheduler, keys: tuple[str, ...] = (), *, log: ConversationLog | None = None, kb: Any = None,
    largest_body: int = 2**20, longest_read: float = 5.0, **settings: Any,
) -> Iterator[Running]:  # fmt: skip
    """Serve until the block ends. The page is left out."""
    service = service_of(scheduler, Settings(page=False, **settings), log, kb)
    app = create_app(service, keys, largest_body=largest_body, longest_read=longest_read)
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    config = uvicorn.Config(app, http="h11", ws="none", log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield Running(url=f"http://127.0.0.1:{port}", port=port, service=service)
    finally:
        server.should_exit = True
        thread.join()
