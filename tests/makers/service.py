"""A loopback service that answers as OpenAI's chat completions do, by a script."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What the service does instead of answering."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


# What is said to a prompt: text, or a fault; `times` is how often this prompt was sent before.
Script = Callable[[str, int], str | Fault]


@dataclass
class Service:
    """Where it listens, and what it was asked, with the time."""

    url: str
    script: Script
    asked: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    busiest: int = 0


@contextmanager
def serving(script: Script) -> Iterator[Service]:
    """A service on a free port, until the block ends."""
    lock, busy = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            with lock:
                before = service.asked.count(prompt)
                service.asked.append(prompt)
                service.times.append(time.monotonic())
                service.keys.add(self.headers.get("Authorization", ""))
                busy[0] += 1
                service.busiest = max(service.busiest, busy[0])
            said = service.script(prompt, before)
            with lock:
                busy[0] -= 1
            self._say(said, prompt)

        def _say(self, said, prompt):
            fault = said if isinstance(said, Fault) else Fault(200)
            if isinstance(said, Fault):
                value = {"error": {"message": f"fault {said.status}"}}
            else:
                used = {"prompt_tokens": len(prompt), "completion_tokens": len(said)}
                message = {"role": "assistant", "content": said}
                value = {
                    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": used | {"total_tokens": sum(used.values())},
                }  # fmt: skip
            content = json.dumps(value).encode()
            self.send_response(fault.status)
            for name, header in {**fault.headers, "Content-Type": "application/json"}.items():
                self.send_header(name, header)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = Service(url=f"http://127.0.0.1:{server.server_port}/v1", script=script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
