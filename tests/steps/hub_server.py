"""A hub on this machine: Hugging Face's and ModelScope's ways to list and send files, with faults on demand."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
ID = "someone/records"
NUMBER = 4711
LARGE = 1000  # bytes from which on a file lies in LFS


@dataclass
class Hub:
    """What the hub holds, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # answers in place of the next files
    token: str = ""  # without it nothing is sent
    has_ranges: bool = True
    says_sha: dict[str, str] = field(default_factory=dict)
    says_size: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)  # name -> the address it leads to
    page: int = 2  # files listed at once
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # (method, path, range)
    secrets: list[tuple[str, str]] = field(default_factory=list)  # (path, what proved who asked)
    sent: int = 0
    address: str = ""

    def loads(self) -> list[str]:
        """The ranges asked for, "" for a whole file, one for each time a file was loaded."""
        return [what for method, path, what in self.asked if method == "GET" and path.startswith(("/cdn/", "/api/v1"))]


@contextmanager
def serving(**given) -> Iterator[Hub]:
    """A running hub; `address` is where it listens."""
    hub = Hub(**given)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    server.daemon_threads = False
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

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        hub.asked.append((self.command, parts.path, self.headers.get("Range", "")))
        hub.secrets.append((parts.path, self.headers.get("Authorization") or self.headers.get("Cookie") or ""))
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        place = f"/datasets/{ID}/resolve/{REVISION}/"
        match parts.path:
            case path if path.strip("/") in hub.moved:
                self._send(302, b"", {"Location": hub.moved[path.strip("/")]})
            case path if path.startswith("/odd/"):
                self._json({"error": "no"})
            case "/plain/page.json":
                self._send(200, b"<html>log in</html>", {"Content-Type": "text/html"})
            case path if (
                path.startswith((place, f"/api/v1/datasets/{ID}/repo")) and hub.token not in hub.secrets[-1][1]
            ):
                self._send(401, b"{}", {"X-Error-Code": "GatedRepo"})
            case path if path == f"/api/datasets/{ID}/revision/main":
                self._json({"sha": REVISION, "cardData": {"license": "cc0-1.0"}})
            case path if path == f"/api/datasets/{ID}/tree/{REVISION}":
                self._tree(int(query.get("cursor", 0)))
            case path if path.startswith(place):
                name = path.removeprefix(place)
                self._send(302, b"", {"Location": f"/cdn/{name}", "X-Repo-Commit": REVISION})
            case path if path.startswith("/cdn/"):
                self._file(unquote(path.removeprefix("/cdn/")))
            case path if path == f"/api/v1/datasets/{ID}":
                self._json({"Code": 200, "Data": {"Id": NUMBER, "Type": 3}})
            case path if path == f"/api/v1/datasets/{NUMBER}/repo/tree":
                self._modelscope_tree(int(query["PageNumber"]))
            case path if path == f"/api/v1/datasets/{ID}/repo":
                self._file(query["FilePath"])
            case _:
                self._send(404, b'{"error": "not found"}')

    def _tree(self, start: int) -> None:
        rows = [self._row(path, content) for path, content in sorted(self.hub.files.items())]
        following = start + self.hub.page
        # As a mirror does, the next page is said to be at the hub that it mirrors.
        link = f'<https://hub.invalid/api/datasets/{ID}/tree/x?recursive=true&cursor={following}>; rel="next"'
        self._json(rows[start:following], {"Link": link} if following < len(rows) else {})

    def _row(self, path: str, content: bytes) -> dict:
        git = sha1(b"blob %d\0" % len(content) + content).hexdigest()
        size = self.hub.says_size.get(path, len(content))
        lfs = {"oid": self.hub.says_sha.get(path, sha256(content).hexdigest()), "size": size}
        return {"type": "file", "path": path, "oid": git, "size": size} | ({"lfs": lfs} if len(content) > LARGE else {})

    def _modelscope_tree(self, number: int) -> None:
        files = [
            {"Path": path, "Name": path, "Type": "blob", "Size": len(content), "Sha256": sha256(content).hexdigest()}
            for path, content in sorted(self.hub.files.items())
        ]
        rows = [{"Path": "folder", "Name": "folder", "Type": "tree", "Size": 0, "Sha256": ""}, *files]
        self._json({"Code": 200, "Data": {"Files": rows if number == 1 else []}})

    def _file(self, path: str) -> None:
        hub = self.hub
        content = hub.files[path]
        if hub.statuses and self.command == "GET":
            self._send(hub.statuses.pop(0), b"")
            return
        etag = f'"{sha256(content).hexdigest()}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        start = 0
        if hub.has_ranges and "Range" in self.headers and self.headers["If-Range"] == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers, cut=True)

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            body = body[: self.hub.cuts.pop(0)] if self.hub.cuts else body
            self.hub.sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None
