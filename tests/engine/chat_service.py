"""A loopback service of chat completions that keeps what it was sent, streams when asked to, and fails by a script."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What the service does instead of answering."""

    status: int = 400
    message: str = "fault"


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes, and `missing` more that are announced and never come."""

    content: bytes
    kind: str = "application/json"
    missing: int = 0


Script = Callable[[dict[str, Any]], str | Fault | Raw]


@dataclass
class ChatService:
    """Where it listens, what it says to a request's body, and the bodies that came."""

    url: str
    script: Script
    bodies: list[dict[str, Any]] = field(default_factory=list)
    busiest: int = 0


def last(body: dict[str, Any]) -> str:
    """The question that a body asks."""
    return str(body["messages"][-1]["content"])


@contextmanager
def chat_service(script: Script) -> Iterator[ChatService]:
    """A service on a free port, until the block ends."""
    lock, busy = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                service.bodies.append(body)
                busy[0] += 1
                service.busiest = max(service.busiest, busy[0])
            said = service.script(body)
            with lock:
                busy[0] -= 1
            if isinstance(said, Fault):
                self._send(said.status, json.dumps({"error": {"message": said.message}}).encode())
            elif isinstance(said, Raw):
                self._send(200, said.content, said.kind, said.missing)
            elif body.get("stream"):
                self._send(200, _streamed(said), "text/event-stream")
            else:
                self._send(200, json.dumps(_whole(said)).encode())

        def _send(self, status, content, kind="application/json", missing=0):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) + missing))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = missing > 0

        def log_message(self, *_):
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = ChatService(url=f"http://127.0.0.1:{server.server_port}/v1", script=script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _whole(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def filtered() -> Raw:
    """An answer that a filter left nothing of."""
    return Raw(json.dumps(_whole("", "content_filter")).encode())


def _streamed(text: str) -> bytes:
    rows = [{"index": 0, "delta": {"content": piece}} for piece in text]
    parts = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [row]} for row in rows
    ]
    return b"".join(b"data: %s\n\n" % json.dumps(part).encode() for part in parts) + b"data: [DONE]\n\n"
