"""Zip and tar archives, read as they are and never unpacked to disk: the names in them, and the bytes behind a name."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from medcli.core.errors import DataError

SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
# A packed file may grow 200-fold, and any up to 64 MiB: text packs 3- to 20-fold, zip bombs 1,000-fold.
_MAX_RATIO = 200
_ALWAYS_ALLOWED = 64 << 20
_SMALL = 4 << 20  # bytes; so small a member of a packed tar archive is held in memory while it is read
_CHUNK = 1 << 18
_AGAIN = "download it again, or unpack it yourself first"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a member's bytes are in the unpacked stream of a tar archive."""

    start: int
    size: int


def is_archive(name: str) -> bool:
    """Whether a file of this name holds other files."""
    return name.lower().endswith(SUFFIXES)


def members_of(path: Path) -> list[str]:
    """The names of the plain files in an archive: sorted for zip, for tar as they stand, which is fast to read.

    Links, devices and names that lead out of a tar archive are left out. Raises DataError when it is damaged.
    """
    if path.suffix.lower() != ".zip":
        return list(_places(path, *_stamp(path)))
    return sorted({info.filename for info in _zip(path, *_stamp(path)).infolist() if not info.is_dir()})


@contextmanager
def open_member(path: Path, member: str, name: str) -> Iterator[IO[bytes]]:
    """The bytes of one member; raises DataError under `name` where it is damaged, locked or explodes."""
    if path.suffix.lower() != ".zip":
        with _open_in_tar(path, _places(path, *_stamp(path))[member]) as file:
            yield file
        return
    archive = _zip(path, *_stamp(path))
    info = archive.getinfo(member)
    try:
        inner = archive.open(info)
    except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: cannot be unpacked: {error}", hint="unpack it yourself first") from error
    with io.BufferedReader(_Unpacking(inner, name, info.compress_size)) as file:
        yield file


@contextmanager
def open_gzip(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a gzip file; raises DataError where it is damaged or explodes."""
    with _unpacked(path, name) as file:
        yield file


class _Unpacking(io.RawIOBase):
    """Counts what comes out of an archive, and turns what can go wrong there into a DataError."""

    def __init__(self, inner: IO[bytes], name: str, packed: int) -> None:
        self._inner, self._name = inner, name
        self._left = max(packed * _MAX_RATIO, _ALWAYS_ALLOWED)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._inner.read(len(buffer))
        except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{self._name}: the archive is damaged: {error}", hint=_AGAIN) from error
        self._left -= len(piece)
        if self._left < 0:
            raise DataError(
                f"{self._name}: unpacks to more than {_MAX_RATIO} times its size, which text does not",
                hint="if you trust it, unpack it yourself and name the unpacked file",
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Cursor:
    """A place in a packed tar archive's stream: forward is cheap, back is the whole way from the start.

    So thousands of small members, read in the order in which they stand, cost one pass.
    """

    def __init__(self, path: Path) -> None:
        self._stream: IO[bytes] | None = None
        self._path, self._at = path, 0
        self._last, self._bytes = -1, b""

    def read(self, place: _Place) -> bytes:
        """The bytes at a place; those read last are remembered, for a file is looked at more than once."""
        if place.start != self._last:
            if self._stream is None or place.start < self._at:
                self.close()
                self._stream = _open_stream(self._path)
            _skip(self._stream, place.start - self._at)
            self._bytes = _exactly(self._stream, place.size, self._path)
            self._last, self._at = place.start, place.start + place.size
        return self._bytes

    def close(self) -> None:
        """Go back to the start."""
        if self._stream:
            self._stream.close()
        self._stream, self._at = None, 0


@lru_cache(maxsize=1)
def _cursor(path: Path, size: int, changed: int) -> _Cursor:
    return _Cursor(path)


@contextmanager
def _open_in_tar(path: Path, place: _Place) -> Iterator[IO[bytes]]:
    if place.size <= _SMALL and path.suffix.lower() != ".tar":
        yield io.BytesIO(_cursor(path, *_stamp(path)).read(place))
        return
    with _open_stream(path) as stream:
        _skip(stream, place.start)
        yield io.BufferedReader(_Part(stream, place.size, path))


class _Part(io.RawIOBase):
    """The next `size` bytes of a stream."""

    def __init__(self, stream: IO[bytes], size: int, path: Path) -> None:
        self._stream, self._left, self._path = stream, size, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = _exactly(self._stream, min(len(buffer), self._left), self._path)
        self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


@lru_cache(maxsize=4)
def _places(path: Path, size: int, changed: int) -> Mapping[str, _Place]:
    """Name -> place of the plain files in a tar archive, found in one pass; of two with one name the later counts."""
    found: dict[str, _Place] = {}
    try:
        with _open_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                inside = not info.name.startswith("/") and ".." not in PurePosixPath(info.name).parts
                if info.isreg() and not info.issparse() and inside:
                    found.pop(info.name, None)
                    found[info.name] = _Place(start=info.offset_data, size=info.size)
            whole = _ends_in_zeros(cast(IO[bytes], archive.fileobj))
    except tarfile.TarError as error:
        raise DataError(f"{path}: not a tar archive, or a damaged one: {error}", hint=_AGAIN) from error
    if not whole:
        raise DataError(f"{path}: the archive is damaged: it breaks off before its end mark", hint=_AGAIN)
    return found


def _ends_in_zeros(rest: IO[bytes]) -> bool:
    """Whether the end mark follows: tarfile takes a broken header in the middle for the end."""
    marked = False
    while piece := rest.read(_CHUNK):
        marked = True
        if piece.strip(b"\0"):
            return False
    return marked


def _open_stream(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".tar":
        return path.open("rb")
    return _unpacked(path, path.name)


def _unpacked(path: Path, name: str) -> IO[bytes]:
    packed = cast(IO[bytes], gzip.GzipFile(path, "rb"))
    return io.BufferedReader(_Unpacking(packed, name, path.stat().st_size))


def _skip(stream: IO[bytes], count: int) -> None:
    if stream.seekable():
        stream.seek(count, io.SEEK_CUR)
        return
    while count > 0 and (piece := stream.read(min(count, _CHUNK))):
        count -= len(piece)


def _exactly(stream: IO[bytes], size: int, path: Path) -> bytes:
    piece = stream.read(size)
    if len(piece) < size:
        raise DataError(f"{path}: the archive is damaged: it ends in the middle of a file", hint=_AGAIN)
    return piece


@lru_cache(maxsize=2)
def _zip(path: Path, size: int, changed: int) -> zipfile.ZipFile:
    """An archive stays open while it is read: its table of contents is long where it holds thousands of files."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not a zip archive, or a damaged one", hint="download it again") from error


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: a file with another stamp is another file."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
