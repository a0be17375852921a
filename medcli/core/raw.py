"""Raw files as users have them: plain, gzipped, in folders or inside archives; never unpacked to disk."""

import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medcli.core import raw_archive
from medcli.core.errors import DataError, nearest
from medcli.core.raw_archive import is_archive

DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")
# Files that often lie beside the data and hold none.
_NOT_DATA = ("dataset_info", "readme", "license", "licence", "requirements")
_NO_FOLDERS = ("__MACOSX", "__pycache__")
_PICKLES = (".pkl", ".pickle", ".pk", ".pt", ".pth", ".bin")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "validate": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}
_SPLIT_ORDER = {"test": 0, "valid": 1, "train": 2, "": 3}
MAX_LINE = 16 << 20  # characters; a longer line is refused, so memory is bounded whatever the file
_SHOWN = 6  # names in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file to read. `name` is for messages and manifests, `label` begins the ids of its records.

    Its name is relative to the source: `train/a.json`, `all.zip/train/a.json`. `member` is set for a file inside an
    archive, `split` where file names (train, test, …) decide it.
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

    @property
    def on_disk(self) -> str:
        """The name of the file on disk: of the archive, where it is inside one."""
        return self.name.removesuffix(_printable(f"/{self.member}")) if self.member else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One value of a raw file, or why there is none. `number` counts values, `line` lines, from 1.

    `key` is what a table of records by number calls it.
    """

    line: int
    number: int
    key: str = ""
    value: Any = None
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Those files below a folder whose path in it, or last part, matches a pattern with * and ?."""

    folder: Path
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.folder} ({', '.join(self.patterns)})"


# What an importer reads: a file, an archive, a folder with all that lies below it, a pattern such as `data/*.json`, or
# chosen files of a folder.
Source = Path | Selection


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path, or its last part, fits one of the patterns; without patterns every path does."""
    name = PurePosixPath(path).name
    return not patterns or any(fnmatchcase(part, pattern) for pattern in patterns for part in (path, name))


def raw_files(source: Source) -> list[RawFile]:
    """The data files that `source` stands for, held-out splits first; raises DataError when there are none."""
    if isinstance(source, Selection):
        below = ((path, name) for path, name in _below(source.folder) if matches(name, source.patterns))
        named = [(path, name) for path, name in below if _is_data(path.name)]
    elif source.is_file():
        _check_no_pickle(source)
        named = [(source, source.name)]
    elif source.is_dir():
        named = [(path, name) for path, name in _below(source) if _is_data(path.name)]
    elif is_pattern(source):
        named = [(path, name) for path, name in _matching(source) if _is_data(path.name)]
    else:
        raise _missing(source)
    found = [raw for path, name in named for raw in _in_file(path, name)]
    if not found:
        raise _no_data(source)
    return _with_splits(_with_own_labels(found))


def packed_inputs(files: list[RawFile]) -> list[tuple[Path, str]]:
    """(path, name) of the files on disk behind `files`, each once, in order."""
    return list(dict.fromkeys((raw.path, raw.on_disk) for raw in files))


@contextmanager
def open_bytes(raw: RawFile) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file; a damaged, locked or exploding archive is a DataError where it shows."""
    with ExitStack() as stack:
        if raw.member:
            yield stack.enter_context(raw_archive.open_member(raw.path, raw.member, raw.name))
        elif raw.path.suffix.lower() == ".gz":
            yield stack.enter_context(raw_archive.open_gzip(raw.path, raw.name))
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


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    """(path, name relative to the folder) of the files in it and below it, in order; nothing hidden."""
    for parent, folders, files in os.walk(folder, onerror=_unlistable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_FOLDERS)
        for path in sorted(Path(parent, name) for name in files):
            if path.is_file():
                yield path, path.relative_to(folder).as_posix()


def _unlistable(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be listed: {error.strerror}", hint="change its permissions")


def is_pattern(source: Path) -> bool:
    """Whether a path stands for the files that match it: `data/*.json`."""
    return any(sign in str(source) for sign in "*?")


def _matching(pattern: Path) -> Iterator[tuple[Path, str]]:
    """(path, name) of the files that a pattern matches; names begin after the parts without a wildcard."""
    parts = pattern.parts
    plain = next(index for index, part in enumerate(parts) if is_pattern(Path(part)))
    root = Path(*parts[:plain])
    for path in sorted(root.glob("/".join(parts[plain:]))):
        if path.is_file():
            yield path, path.relative_to(root).as_posix()


def _in_file(path: Path, name: str) -> Iterator[RawFile]:
    if not is_archive(path.name):
        stem = PurePosixPath(name).name.removesuffix(".gz").rsplit(".", 1)[0]
        yield RawFile(path=path, name=_printable(name), label=_printable(stem))
        return
    for member in raw_archive.members_of(path):
        inside = PurePosixPath(member)
        hidden = any(part.startswith(".") and part not in (".", "..") for part in inside.parts)
        if not hidden and not set(inside.parts) & set(_NO_FOLDERS) and _is_data(inside.name, packed=False):
            yield RawFile(path=path, name=_printable(f"{name}/{member}"), label=_printable(inside.stem), member=member)


def _is_data(name: str, *, packed: bool = True) -> bool:
    low = name.lower()
    fits = low.endswith(DATA_SUFFIXES)
    if packed:
        fits = is_archive(low) or low.removesuffix(".gz").endswith(DATA_SUFFIXES)
    return fits and not low.startswith((".", *_NOT_DATA))


def _with_own_labels(files: list[RawFile]) -> list[RawFile]:
    """Two files `a.csv` and `a.json`, or `a/1.json` and `b/1.json`, must not give records the same ids."""
    times = Counter(raw.label for raw in files)
    return [raw if times[raw.label] == 1 else replace(raw, label=raw.name) for raw in files]


def _with_splits(files: list[RawFile]) -> list[RawFile]:
    """Where files or their folders are called train and test (or valid, dev, …), their names decide the split."""
    splits = [_split_in(raw.name) for raw in files]
    if "train" not in splits or len(set(splits) - {""}) < 2:
        return files
    named = [replace(raw, split=split) for raw, split in zip(files, splits, strict=True)]
    return sorted(named, key=lambda raw: _SPLIT_ORDER[raw.split])  # held-out rows first: a repeat in train is refused


def _split_in(name: str) -> str:
    """The split that a name says: "train" for `medQA.train.txt`; the file's own name counts before its folder's."""
    for part in reversed(PurePosixPath(name.lower()).parts):
        said = {_SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", part) if word in _SPLIT_NAMES}
        if said:
            return said.pop() if len(said) == 1 else ""
    return ""


def _check_no_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLES:
        raise DataError(
            f"{path} may be a pickle, which can run any program when it is loaded: med never loads one",
            hint="get the data as JSON, CSV or text, or export it in a place where you trust it",
        )


def _no_data(source: Source) -> DataError:
    """Says what there is instead; a pickle is no data file, whatever it holds."""
    folder = source.folder if isinstance(source, Selection) else source
    listed = _below(folder) if folder.is_dir() else []
    names = list(islice((name for _, name in listed), _SHOWN))
    there = f"; there is {', '.join(map(_printable, names))}" if names else ""
    pickled = any(PurePosixPath(name).suffix.lower() in _PICKLES for name in names)
    never = f"\n{', '.join(_PICKLES)} are never loaded: a pickle can run any program" if pickled else ""
    return DataError(
        f"{source} holds no data file",
        hint=f"looked for {', '.join(DATA_SUFFIXES)}, also in .zip, .tar.gz, .tar and .gz{there}{never}",
    )


def _missing(source: Path) -> DataError:
    siblings = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
    close = nearest(source.name, siblings)
    hint = f"did you mean '{source.parent / close}'?" if close else f"the working folder is {Path.cwd()}"
    return DataError(f"{source}: there is no such file or folder", hint=hint)


def _printable(name: str) -> str:
    """File names may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode("utf-8")
