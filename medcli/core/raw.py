"""Raw files as users have them: plain, gzipped, or inside a zip archive; never unpacked to disk."""

import gzip
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from medcli.core.errors import DataError, nearest

DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
# Files that often lie beside the data and hold none.
_NOT_DATA = ("dataset_info", "readme", "license", "licence")
_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
_SPLIT_ORDER = {"test": 0, "valid": 1, "train": 2, "": 3}

# A packed file may grow 200-fold, and any up to 64 MiB: text packs 3- to 20-fold, zip bombs 1,000-fold.
_MAX_RATIO = 200
_ALWAYS_ALLOWED = 64 << 20
MAX_LINE = 16 << 20  # characters; a longer line is refused, so memory is bounded whatever the file


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file to read. `name` is for messages and manifests, `label` begins the ids of its records.

    `member` is set for a file inside a zip archive, `split` where file names (train, test, …) decide it.
    """

    path: Path
    name: str
    label: str
    member: str = ""
    split: str = ""

    @property
    def suffix(self) -> str:
        """The suffix that tells the format: ".jsonl" for "a.jsonl.gz"."""
        return PurePosixPath(self.name.removesuffix(".gz")).suffix.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One value of a raw file, or why there is none. `number` counts values, `line` lines, from 1."""

    line: int
    number: int
    value: Any = None
    reason: str = ""
    text: str = ""


def raw_files(source: Path) -> list[RawFile]:
    """The data files that `source` (a file, a zip archive or a folder) stands for, held-out splits first.

    Raises DataError when there are none.
    """
    if source.is_file():
        found = list(_in_file(source, source.name))
    elif source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.is_file() and _is_data(path.name))
        found = [raw for path in paths for raw in _in_file(path, path.name)]
    else:
        raise _missing(source)
    if not found:
        raise DataError(
            f"{source} holds no data file",
            hint=f"looked for {', '.join(DATA_SUFFIXES)}, also in .zip and .gz",
        )
    return _with_splits(_with_own_labels(found))


def packed_inputs(files: list[RawFile]) -> list[Path]:
    """The files on disk behind `files`, each once, in order."""
    return list(dict.fromkeys(raw.path for raw in files))


@contextmanager
def open_bytes(raw: RawFile) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file; a damaged, locked or exploding archive is a DataError where it shows."""
    with ExitStack() as stack:
        if raw.member:
            archive = stack.enter_context(_archive(raw.path))
            info = archive.getinfo(raw.member)
            try:
                inner: IO[bytes] = stack.enter_context(archive.open(info))
            except (RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
                raise DataError(f"{raw.name}: cannot be unpacked: {error}", hint="unpack it yourself first") from error
            yield io.BufferedReader(_Unpacking(inner, raw.name, info.compress_size))
        elif raw.path.suffix.lower() == ".gz":
            inner = cast(IO[bytes], stack.enter_context(gzip.GzipFile(raw.path, "rb")))
            yield io.BufferedReader(_Unpacking(inner, raw.name, raw.path.stat().st_size))
        else:
            yield stack.enter_context(raw.path.open("rb"))


@contextmanager
def open_text(raw: RawFile, encoding: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """The text of a file; `newline=""` keeps line ends as they are, for CSV."""
    with open_bytes(raw) as binary:
        yield io.TextIOWrapper(binary, encoding=encoding, newline=newline)


def lines_of(file: IO[str]) -> Iterator[tuple[int, str, bool]]:
    """(line number, text, whole) of each line; a line over MAX_LINE comes cut, with `whole` false."""
    line = 0
    while text := file.readline(MAX_LINE):
        line += 1
        whole = len(text) < MAX_LINE or text.endswith("\n")
        yield line, text, whole
        while not whole and (rest := file.readline(MAX_LINE)):
            whole = rest.endswith("\n")


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
            raise DataError(
                f"{self._name}: the archive is damaged: {error}",
                hint="download it again, or unpack it yourself first",
            ) from error
        self._left -= len(piece)
        if self._left < 0:
            raise DataError(
                f"{self._name}: unpacks to more than {_MAX_RATIO} times its size, which text does not",
                hint="if you trust it, unpack it yourself and name the unpacked file",
            )
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not a zip archive, or a damaged one", hint="download it again") from error
    with archive:
        yield archive


def _in_file(path: Path, name: str) -> Iterator[RawFile]:
    if path.suffix.lower() != ".zip":
        stem = name.removesuffix(".gz").rsplit(".", 1)[0]
        yield RawFile(path=path, name=_printable(name), label=_printable(stem))
        return
    with _archive(path) as archive:
        members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    for member in members:
        inside = PurePosixPath(member)
        if "__MACOSX" not in inside.parts and inside.suffix.lower() in DATA_SUFFIXES and _is_data(inside.name):
            yield RawFile(path=path, name=_printable(f"{name}/{member}"), label=_printable(inside.stem), member=member)


def _is_data(name: str) -> bool:
    low = name.lower()
    packed = low.endswith(".zip") or low.removesuffix(".gz").endswith(DATA_SUFFIXES)
    return packed and not low.startswith((".", *_NOT_DATA))


def _with_own_labels(files: list[RawFile]) -> list[RawFile]:
    """Two files `a.csv` and `a.json` must not give records the same ids."""
    times = Counter(raw.label for raw in files)
    return [raw if times[raw.label] == 1 else replace(raw, label=raw.name) for raw in files]


def _with_splits(files: list[RawFile]) -> list[RawFile]:
    """Where files are called train and test (or valid, dev, …), their names decide the split."""
    splits = [_SPLIT_NAMES.get(PurePosixPath(raw.label).stem.lower(), "") for raw in files]
    if "train" not in splits or len(set(splits) - {""}) < 2:
        return files
    named = [replace(raw, split=split) for raw, split in zip(files, splits, strict=True)]
    return sorted(named, key=lambda raw: _SPLIT_ORDER[raw.split])  # held-out rows first: a repeat in train is refused


def _missing(source: Path) -> DataError:
    siblings = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
    close = nearest(source.name, siblings)
    hint = f"did you mean '{source.parent / close}'?" if close else f"the working folder is {Path.cwd()}"
    return DataError(f"{source}: there is no such file or folder", hint=hint)


def _printable(name: str) -> str:
    """File names may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode("utf-8")
