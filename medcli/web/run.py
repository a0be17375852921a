"""Listen, answer, and end well: with a signal, what runs is answered; with a second one, it is not."""

import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from medcli.core.errors import UsageError
from medcli.web.service import Service

_LAST_BYTES = 5  # seconds for clients to take what was said to them


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises UsageError when the address is taken or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named; else each answer waits for 40 ms
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except (OSError, OverflowError) as error:
        taken.close()
        said = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UsageError(
            f"cannot listen at {host}, port {port}: {said}", hint="choose another --port (0 takes a free one) or --host"
        ) from error
    return taken


def serve(app: FastAPI, service: Service, listening: socket.socket, started: Callable[[], None]) -> int | None:
    """Serve until a signal comes, then close the scheduler; `started` is called when requests are taken.

    Returns the number of a second signal, which cut answers short.
    """
    config = uvicorn.Config(
        app, http="h11", ws="none", proxy_headers=False, access_log=False, log_level="warning", server_header=False,
        timeout_graceful_shutdown=_LAST_BYTES,
    )  # fmt: skip
    server = _Server(config, service, started)
    server.run(sockets=[listening])
    return server.cut_by


class _Server(uvicorn.Server):
    """uvicorn stops to listen at the first signal; here those who come are told that the server closes."""

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started
        self.cut_by: int | None = None
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.closing.is_set():
            self.cut_by = sig
            self.should_exit = self.force_exit = True
            return
        self._service.closing.set()
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        try:
            self._service.scheduler.close(self._service.settings.patience)
        finally:
            self.should_exit = True
