"""From what a user calls a data set to its files and the importer that reads them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medcli.core import dataset_info
from medcli.core.dataset_info import Entry
from medcli.core.errors import DataError, UnknownNameError, UsageError, nearest
from medcli.core.known_datasets import KnownDataset, known_datasets
from medcli.core.peek import Peek, look
from medcli.core.raw import Selection, Source, is_pattern, matches, raw_files
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Row
from medcli.core.resources import templates
from medcli.core.settings import folder
from medcli.core.shelf import Shelf
from medcli.steps.list_remote import Remote, remote_of

IMPORTERS = Shelf("medcli.importers", "importer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What will be read, by which importer, and under which name it is kept.

    `remote` is set where there are no files yet: download them, and look again with their folder as `raw`.
    """

    name: str
    source: Source | None
    importer: str
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    entry: Entry | None = None
    licence: str = "unknown"
    known: str = ""
    remote: Remote | None = None

    def files(self) -> Source:
        """What is read; raises DataError when it is not here yet."""
        if self.source is None:
            raise DataError(f"{self.name} is not downloaded", hint=f"build it: med data build {self.name}")
        return self.source

    def rows(self) -> Iterator[Row]:
        """The rows as the importer reads them."""
        options = ReadOptions(source=self.name, columns=self.columns, tags=self.tags)
        rows: Iterator[Row] = IMPORTERS.get(self.importer).read(self.files(), options)
        return rows


def find(target: str, raw: Path | None, name: str, importer: str) -> Found:
    """What `target` is: a name in a dataset_info.json, a known name, or a path, looked for in this order.

    `name` and `importer` override what is found. Raises UnknownNameError, UsageError or DataError.
    """
    if importer:
        IMPORTERS.get(importer)
    if raw is not None and not raw.exists():
        raw_files(raw)  # says what is missing
    if entry := _registered(target, raw):
        return _of_entry(entry, raw, name, importer)
    if known := known_datasets().get(target):
        return _of_known(known, raw, name, importer)
    path = _path(target, raw)
    chosen = importer or importer_for(path)
    return Found(name=_checked_name(name or _stem(path)), source=path, importer=chosen)


def names_to_build(raw: Path | None = None) -> list[str]:
    """The names that `med data build` takes here."""
    names = {name for registry in _registries(raw) for name in dataset_info.names_in(registry)}
    return sorted(names | set(known_datasets()))


def importer_for(path: Path) -> str:
    """The importer that fits best; raises DataError when none does, or when a folder needs several."""
    peeks = look(path)
    choices = {peek.file: _best(peek) for peek in peeks}
    for peek in peeks:
        if not choices[peek.file]:
            raise _no_importer(peek)
    if len(set(choices.values())) > 1:
        kinds = "; ".join(f"{file} is {name}" for file, name in list(choices.items())[:8])
        raise DataError(
            f"{path} holds files of several kinds: {kinds}", hint="name one file, or choose with --importer"
        )
    return next(iter(choices.values()))


def _best(peek: Peek) -> str:
    scores = {name: int(IMPORTERS.get(name).fits(peek)) for name in IMPORTERS.names()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] else ""


def _registries(raw: Path | None) -> list[Path]:
    here = [raw] if raw and raw.is_dir() else []
    return [place / dataset_info.FILE for place in (*here, Path(), folder("data"))]


def _registered(target: str, raw: Path | None) -> Entry | None:
    for registry in _registries(raw):
        if target in dataset_info.names_in(registry):
            return dataset_info.entry_of(registry, target)
    return None


def _of_entry(entry: Entry, raw: Path | None, name: str, importer: str) -> Found:
    path = entry.path
    if path is None:
        if raw is None or entry.registry.parent == raw:
            return Found(
                name=_checked_name(name or entry.name),
                source=None,
                importer=importer or entry.importer,
                entry=entry,
                remote=_remote_of_entry(entry),
            )
        path = raw
    chosen = importer or entry.importer
    if not chosen:
        chosen = importer_for(path)
    _check_columns(entry, path)
    return Found(
        name=_checked_name(name or entry.name),
        source=path,
        importer=chosen,
        columns=entry.columns,
        tags=entry.tags,
        entry=entry,
    )


def _remote_of_entry(entry: Entry) -> Remote:
    if entry.subset:
        raise UsageError(
            f"{entry.registry}: '{entry.name}' names the subset '{entry.subset}'; only the hub's own library knows its "
            "files",
            hint=f'name its folder there with "folder", or download its files: med data build {entry.name} --raw DIR',
        )
    id = entry.hub or entry.modelscope
    site = "https://huggingface.co" if entry.hub else "https://www.modelscope.cn"
    return Remote(
        name=id.replace("/", "--"),
        page=f"{site}/datasets/{id}",
        files=(f"{entry.folder}/*",) if entry.folder else (),
        hub=entry.hub,
        modelscope=entry.modelscope,
    )


def _check_columns(entry: Entry, path: Path) -> None:
    """Every column that the entry names must be in the file; a typing error there must not cost every row."""
    for peek in look(path) if entry.columns else []:
        for part, column in entry.columns.items():
            if (
                peek.columns
                and column not in peek.columns
                and part in ("prompt", "response", "messages", "chosen", "rejected")
            ):
                close = nearest(column, peek.columns)
                said = f"did you mean '{close}'? " if close else ""
                raise DataError(
                    f"{entry.registry}: '{entry.name}' names the column '{column}' ({part}), "
                    f"which {peek.file} does not have",
                    hint=f"{said}the file has {', '.join(peek.columns)}",
                )


def _of_known(known: KnownDataset, raw: Path | None, name: str, importer: str) -> Found:
    if raw is None and known.shipped:
        raw = templates() / known.shipped
    if raw is None:
        remote = remote_of(known)
        if remote is None:
            raise UsageError(
                f"{known.name} cannot be downloaded by a program",
                hint=f"get its files from {known.url}\nthen: med data build {known.name} --raw FILE_OR_DIR",
            )
        source: Source | None = None
    else:
        remote, source = None, _files_of(known, raw)
    return Found(
        name=_checked_name(name or known.name),
        source=source,
        importer=importer or known.importer,
        licence=known.licence,
        known=known.name,
        remote=remote,
    )


def _files_of(known: KnownDataset, raw: Path) -> Source:
    """The files of a known data set in `raw`; the folder itself when it holds no other data."""
    if not raw.is_dir() or not known.files:
        return raw
    there = dict.fromkeys(file.path.relative_to(raw).as_posix() for file in raw_files(raw))
    chosen = [name for name in there if matches(name, known.files)]
    if not chosen:
        raise DataError(
            f"{raw} holds no file of {known.name}: looked for {', '.join(known.files)}",
            hint=f"there is {', '.join(list(there)[:8])}; name the file itself with --raw FILE",
        )
    return raw if len(chosen) == len(there) else Selection(raw, known.files)


def _path(target: str, raw: Path | None) -> Path:
    for path in (Path(target).expanduser(), *([raw / target] if raw else [])):
        if path.exists() or (is_pattern(path) and raw_files(path)):
            return path
    if "/" in target or Path(target).suffix:
        raw_files(Path(target))  # says what is missing
    known = names_to_build(raw)
    own = [name for name in known if name not in known_datasets()]
    registered = f"{dataset_info.FILE} has {', '.join(own)}\n" if own else ""
    hint = f"{registered}known by name: med data list\na file or folder works too: med data build PATH"
    raise UnknownNameError("data set", target, known, hint=hint)


def _no_importer(peek: Peek) -> DataError:
    if peek.fault:
        return DataError(f"{peek.file}: not one of the first rows can be read; {peek.fault}")
    there = f"its columns are {', '.join(filter(None, peek.columns))}" if peek.columns else f"it is {peek.format}"
    lines = [f"{name}: {IMPORTERS.get(name).HELP}" for name in IMPORTERS.names()]
    return DataError(
        f"{peek.file}: no importer fits; {there}",
        hint="rename the columns, or name them in a dataset_info.json; what is understood:\n" + "\n".join(lines),
    )


def _stem(path: Path) -> str:
    """What a file, a folder or a pattern is called; `raw/*.json` after its folder."""
    whole = path.resolve()
    stem = whole.name if path.is_dir() else whole.name.removesuffix(".gz").rsplit(".", 1)[0]
    words = (
        re.sub(r"[^\w.-]+", "-", name.encode("utf-8", "replace").decode()).strip("-.")
        for name in (stem, whole.parent.name)
    )
    return next(filter(None, words), "data")


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"'{name}' cannot name a data set", hint="use letters, digits, '-', '_' and '.'")
    return name
