"""Files over HTTP: gone on with where they were cut, whole or not there at all, from nowhere but the web.

A file arrives as `<name>.part`, with the server's mark of its version beside it (`<name>.part.tag`), and takes its name
when it is whole. This module is imported where something is downloaded only: urllib and ssl cost start-up time.
"""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from medcli import __version__
from medcli.core.atomic import storage_error
from medcli.core.errors import DataError, ServiceError

_CONNECT = 4.0  # seconds, for each address of a host
_READ = 30.0  # seconds without a byte
_WAITS = (0.5, 1.0, 2.0)  # seconds before the next try
_PIECE = 1 << 16  # bytes
_WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)
_SECRET_HEADERS = ("Authorization", "Cookie")


class Unreachable(ServiceError):
    """No connection, or one that broke again and again."""


class RefusedByServer(ServiceError):
    """The server answered with a status that is no success."""

    def __init__(self, url: str, status: int, said: str = "") -> None:
        super().__init__(f"{url}: the server answered {status} {said}".rstrip())
        self.status = status


class _Cut(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where something lies. `secrets` are headers (Authorization, Cookie) that no other host may see."""

    url: str
    secrets: Mapping[str, str] = field(default_factory=dict)


def get_json(address: Address) -> tuple[Any, str]:
    """The JSON value at an address and the address of the next page, or ""; raises ServiceError."""
    with _first_answer(address, "GET") as response:
        try:
            value = json.loads(b"".join(_pieces(response)))
        except (ValueError, _Cut) as error:
            raise ServiceError(
                f"{address.url}: the answer is not JSON",
                hint="is this the address of a hub? A proxy or a login page may have answered",
            ) from error
        return value, _next_page(response.headers.get("Link", ""))


def head_of(address: Address) -> tuple[int | None, str]:
    """The size in bytes, when the server says it, and the mark of the version of a file; raises ServiceError."""
    with _first_answer(address, "HEAD") as response:
        length = response.headers.get("Content-Length")
        return int(length) if length else None, _mark(response)


def download(address: Address, target: Path, size: int | None, advance: Callable[[int], None]) -> None:
    """Load a file to `<target>.part`, going on where a former try was cut, and give it its name when whole.

    `advance` is told the bytes that are there. Raises Unreachable, RefusedByServer, DataError (a size other than
    `size`) or StorageError; what has arrived is kept for the next call.
    """
    part, tag = part_of(target), Path(f"{part_of(target)}.tag")
    tries = 0
    while True:
        before = _size(part)
        try:
            _go_on(address, part, tag, size, advance)
            break
        except _Cut as error:
            tries = 0 if _size(part) > before else tries + 1
            if tries > len(_WAITS):
                raise Unreachable(
                    f"{address.url}: the connection breaks again and again: {error}",
                    hint="what has arrived is kept: run the same command again to go on from there",
                ) from error
            time.sleep(_WAITS[tries - 1] if tries else 0)
    try:
        part.replace(target)
        tag.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, target) from error


def part_of(target: Path) -> Path:
    """Where a file that is not whole yet lies."""
    return target.with_name(f"{target.name}.part")


def _go_on(address: Address, part: Path, tag: Path, size: int | None, advance: Callable[[int], None]) -> None:
    """One connection's worth of a file; raises _Cut when it ends early."""
    have = _size(part)
    known = tag.read_text("utf-8").partition("\n") if have and tag.is_file() else ("", "", "")
    resumes = known[0] == address.url and bool(known[2])
    asked = {"Range": f"bytes={have}-", "If-Range": known[2]} if resumes else {}
    if resumes and size is not None and have == size:
        return
    try:
        answer = _answer(address, "GET", asked, _WAITS)
    except RefusedByServer as error:
        if error.status != 416:
            raise
        part.unlink()
        raise _Cut("the part that is here does not fit; it is loaded anew") from error
    with answer as response:
        if response.status == 206 and _starts_at(response) != have:
            part.unlink()
            raise _Cut("the server sent another part than it was asked for")
        start = have if response.status == 206 else 0
        total = _total(response, start)
        _check_is_file(address, response, total, size)
        _write(part, tag, f"{address.url}\n{_mark(response)}", response, start, advance)
    there = _size(part)
    if total is not None and there < total:
        raise _Cut(f"{there:,} of {total:,} bytes came")
    if size is not None and there != size:
        part.unlink()
        raise _wrong_size(address, there, size)


def _write(
    part: Path, tag: Path, mark: str, response: http.client.HTTPResponse, start: int, advance: Callable[[int], None]
) -> None:
    try:
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            tag.write_text(mark, "utf-8")
            advance(start)
            for piece in _pieces(response):
                file.write(piece)
                advance(file.tell())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, part) from error


def _check_is_file(address: Address, response: http.client.HTTPResponse, total: int | None, size: int | None) -> None:
    if response.headers.get_content_type() == "text/html":
        raise ServiceError(
            f"{address.url}: the server sent a web page in place of a file",
            hint="a proxy, or a page to log in to the network, may have answered; open the address in a browser",
        )
    if size is not None and total is not None and total != size:
        raise _wrong_size(address, total, size)


def _wrong_size(address: Address, there: int, size: int) -> DataError:
    return DataError(
        f"{address.url}: {there:,} bytes in place of the {size:,} that the list of files gives",
        hint="the file may have been changed just now: run the same command again",
    )


def _answer(address: Address, method: str, more: Mapping[str, str], waits: Sequence[float]) -> http.client.HTTPResponse:
    """The answer to a request; a status that passes is asked for again, a broken connection raises _Cut."""
    try:
        answer: http.client.HTTPResponse = _opener().open(_request(address, method, more), timeout=_CONNECT)
        return answer
    except HTTPError as error:
        error.close()
        if not waits or error.code not in _WORTH_ANOTHER_TRY:
            raise RefusedByServer(address.url, error.code, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        said = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
        raise _Cut(said) from error
    time.sleep(waits[0])
    return _answer(address, method, more, waits[1:])


def _first_answer(address: Address, method: str) -> http.client.HTTPResponse:
    """An answer for which nobody waits long: no connection is said at once."""
    try:
        return _answer(address, method, {}, _WAITS[:2])
    except _Cut as error:
        raise Unreachable(f"{urlsplit(address.url).netloc} cannot be reached: {error}") from error


def _request(address: Address, method: str, more: Mapping[str, str]) -> Request:
    headers = {"User-Agent": f"med/{__version__}", "Accept-Encoding": "identity", **more}
    request = Request(address.url, headers=headers, method=method)
    for name, value in address.secrets.items():
        request.add_unredirected_header(name, value)
    return request


def _opener() -> OpenerDirector:
    """Only http and https, through the proxies that the environment names."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(), UnknownHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor(), _Redirects(), _Http(),
        _Https(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


class _Redirects(HTTPRedirectHandler):
    """Follows to the web only, never from https to http; secrets stay with the host they are for."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise ServiceError(f"{req.full_url}: the server leads to {newurl}, where med does not follow")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.method = req.get_method()
            if (old.scheme, old.netloc) == (new.scheme, new.netloc):
                for name in _SECRET_HEADERS:
                    if name in req.unredirected_hdrs:
                        request.add_unredirected_header(name, req.unredirected_hdrs[name])
        return request


class _Connection(http.client.HTTPConnection):
    """Waits little for a connection, and longer for an answer."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ)


class _SecureConnection(http.client.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ)


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return start + int(length) if length else None


def _starts_at(response: http.client.HTTPResponse) -> int:
    """The first byte that `Content-Range: bytes 5-9/10` names."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _mark(response: http.client.HTTPResponse) -> str:
    """What tells this version of a file from others: its strong ETag, or when it was changed."""
    etag = str(response.headers.get("ETag") or "")
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified") or "")


def _next_page(links: str) -> str:
    """The address in `<…>; rel="next"`."""
    for link in links.split(","):
        address, _, kind = link.partition(";")
        if 'rel="next"' in kind:
            return address.strip().strip("<>")
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
