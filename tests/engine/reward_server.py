"""A reward service on this machine: an answer gets its length as its reward, unless something else is in line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Service:
    """Where it listens, what it was asked, and what it does next in place of rewards: (status, body), None to cut."""

    address: str = ""
    asked: list[dict] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    instead: list[tuple[int, bytes] | None] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Service]:
    """A running service."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"service": service}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    service.address = f"http://127.0.0.1:{server.server_port}/v1/score"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answer(BaseHTTPRequestHandler):
    service: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.service.asked.append(body)
        self.service.keys.append(self.headers.get("Authorization", ""))
        said = self.service.instead.pop(0) if self.service.instead else (200, _rewarded(body))
        if said is None:  # the connection breaks
            return
        self.send_response(said[0])
        self.send_header("Content-Length", str(len(said[1])))
        self.end_headers()
        self.wfile.write(said[1])

    def log_message(self, format: str, *args: object) -> None:
        return None


def _rewarded(body: dict) -> bytes:
    return json.dumps({"scores": [len(dialogue[-1]["content"]) for dialogue in body["messages"]]}).encode()
