"""A hub on this machine that takes models: who asks, new repositories, commits; with refusals on demand.

Files are taken in the commit itself, as a hub does with small ones; there is no store for large ones here.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

TOKEN = "hf_secretsecretsecret"


@dataclass
class Hub:
    """What the hub holds, and how it answers in place of a path's beginning."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(**given) -> Iterator[Hub]:
    """A running hub; `address` is where it listens."""
    hub = Hub(**given)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answer(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.asked.append(path)
        refused = next((status for start, status in hub.statuses.items() if path.startswith(start)), None)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            refused = refused or 401
        if refused:
            self._send(refused, {"error": "no"})
            return
        name = "/".join(path.split("/")[3:5])
        match path:
            case "/api/whoami-v2":
                self._send(200, {"name": "clinic", "type": "user"})
            case "/api/validate-yaml":
                self._send(200, {"errors": [], "warnings": []})
            case "/api/repos/create":
                self._create(json.loads(body))
            case path if path.endswith("/preupload/main"):
                files = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in files]
                self._send(200, {"files": modes})
            case path if path.endswith("/commit/main"):
                for row in map(json.loads, body.splitlines()):
                    if row["key"] == "file":
                        hub.repos[name][row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                self._send(200, {"commitUrl": f"{hub.address}/{name}/commit/1", "commitOid": "1", "success": True})
            case _ if name not in hub.repos:
                self._send(404, {"error": "no such repository"})
            case _:
                files = [{"rfilename": one} for one in hub.repos[name]]
                self._send(200, {"id": name, "private": hub.private[name], "siblings": files, "sha": "0" * 40})

    def _create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.address}/{name}"}
        if name in self.hub.repos:
            self._send(409, url)
            return
        self.hub.repos[name] = {".gitattributes": b""}
        self.hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._send(200, url)

    def _send(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None
