"""What a knowledge base is built from: texts, tables, data sets and knowledge graphs, as passages with sources."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from medcli.core.dataset_folder import HELD_OUT, DatasetFolder, built_names, open_dataset
from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.graph import Entity, dropped_rows, entities
from medcli.core.graph_questions import attribute_name
from medcli.core.known_datasets import known_datasets
from medcli.core.manifest import MANIFEST
from medcli.core.passage import Passage, cut, cut_text
from medcli.core.peek import format_of, look
from medcli.core.raw import (
    DATA_SUFFIXES,
    RawFile,
    is_pattern,
    lines_of,
    open_text,
    raw_files,
)
from medcli.core.raw_archive import is_archive
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Conversation, Document, Preference, Question, Record, Row
from medcli.core.resources import templates
from medcli.steps.find_data import IMPORTERS, importer_for

NOTES = (".md", ".markdown")
_SHOWN = 500  # characters of what is refused
_GRAPH = "graph"  # the importer of knowledge graphs
_ROWS = "text"  # the importer of rows with a text
_COLUMNS = ("content", "passage", "document", "正文", "内容")  # where tables that no importer knows have their text
_TABLE = ".toml"
_ANSWER = "\n答："


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A passage of a source, or the reason why there is none where `at` says."""

    at: str
    passage: Passage | None = None
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file on disk, and how it is shown.

    It is read by an `importer`, plain text by none; `column` holds the text of a table that no importer knows. `split`
    is set where the names in its folder decide it.
    """

    name: str
    path: Path
    importer: str = ""
    column: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """One of the sources: a built data set, or files. `name` is how it is shown, `files` what it is read from."""

    name: str
    files: tuple[File, ...]
    dataset: DatasetFolder | None = None

    def passages(self, length: int) -> Iterator[Drawn]:
        """All passages in it, in order; raises DataError for files that cannot be read."""
        if self.dataset:
            yield from _of_dataset(self.dataset, length)
            return
        for file in self.files:
            if file.split in HELD_OUT:
                yield Drawn(at=file.name, reason=f"held out: {file.split}")
            else:
                yield from _of_file(file, length)


def origin_of(source: str) -> Origin:
    """What a source is: the name of a built data set or a shipped table, or a path.

    Raises UnknownNameError and DataError.
    """
    path = Path(source).expanduser()
    if source in built_names() or (path / MANIFEST).is_file():
        dataset = open_dataset(source)
        train = File(name=dataset.name, path=dataset.file("train"))
        return Origin(name=dataset.name, files=(train,), dataset=dataset)
    known = known_datasets().get(source)
    if known and known.shipped:
        path = templates() / known.shipped
    elif not path.exists() and not is_pattern(path):
        raise _missing(source, path)
    return Origin(name=_name_of(path), files=tuple(_files(path)))


def _missing(source: str, path: Path) -> Exception:
    if "/" in source or path.suffix:
        try:
            raw_files(path)  # says what is missing
        except DataError as error:
            return error
    return UnknownNameError(
        "built data set, file or folder",
        source,
        built_names(),
        hint="name a folder or file of texts, a built data set (`med data list`), or a knowledge graph",
    )


def _name_of(path: Path) -> str:
    """A file's or folder's own name; file names may hold bytes that are no text."""
    return path.resolve().name.encode("utf-8", "replace").decode("utf-8")


def _files(path: Path) -> list[File]:
    """The files on disk, those of a folder below its name."""
    if path.is_file():
        return [_known(File(name=_name_of(path), path=path))]
    notes = _notes(path) if path.is_dir() else []
    data = {} if notes and not _holds_data(path) else {raw.on_disk: raw for raw in raw_files(path)}
    below = f"{_name_of(path)}/" if path.is_dir() else ""
    found = [File(name=f"{below}{name}", path=note) for name, note in notes]
    found += [
        File(name=f"{below}{name}", path=raw.path, split="" if raw.member else raw.split) for name, raw in data.items()
    ]
    return [_known(file) for file in sorted(found, key=lambda file: file.name)]


def _notes(folder: Path) -> list[tuple[str, Path]]:
    """(name, path) of the files in Markdown below a folder, nothing hidden."""
    found = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.suffix.lower() in NOTES)
    return [
        (name.as_posix().encode("utf-8", "replace").decode("utf-8"), path)
        for name, path in found
        if path.is_file() and not any(part.startswith(".") for part in name.parts)
    ]


def _holds_data(folder: Path) -> bool:
    names = (path.name.lower().removesuffix(".gz") for path in folder.rglob("*"))
    return any(name.endswith(DATA_SUFFIXES) or is_archive(name) for name in names)


def _known(file: File) -> File:
    """The file with what reads it; raises DataError when nothing does, before anything is read."""
    if file.path.suffix == _TABLE:
        return replace(file, importer=_GRAPH)
    if all(raw.suffix in NOTES or format_of(raw) == "text" for raw in raw_files(file.path)):
        return file
    columns = {name for peek in look(file.path) for name in peek.columns}
    column = next((name for name in _COLUMNS if name in columns), "")
    if column and not any(IMPORTERS.get(name).fits(peek) for name in IMPORTERS.names() for peek in look(file.path)):
        return replace(file, importer=_ROWS, column=column)
    return replace(file, importer=importer_for(file.path))


def _of_file(file: File, length: int) -> Iterator[Drawn]:
    if file.importer == _GRAPH:
        yield from _of_graph(file.path, file.name, length)
        return
    if not file.importer:
        for raw in raw_files(file.path):
            yield from _of_text(replace(raw, name=_under(file.name, raw)), length)
        return
    packed = any(raw.member for raw in raw_files(file.path))
    options = ReadOptions(source=file.name, columns={"prompt": file.column} if file.column else {})
    for row in IMPORTERS.get(file.importer).read(file.path, options):
        inside = row.file.partition("/")[2]
        at = f"{file.name}/{inside}:{row.line}" if packed and inside else f"{file.name}:{row.line}"
        if row.split in HELD_OUT and file.split != "train":  # an exam's file alone is a test to its importer
            yield Drawn(at=at, reason=f"held out: {row.split}", text=row.text)
        elif row.record is None:
            yield Drawn(at=at, reason=row.reason or "no record", text=row.text)
        else:
            yield from _of_record(row.record, at, length)


def _under(name: str, raw: RawFile) -> str:
    """The name of a file inside an archive after the archive's."""
    return f"{name}/{raw.member}" if raw.member else name


def _of_text(raw: RawFile, length: int) -> Iterator[Drawn]:
    encoding = encoding_of(raw)
    with open_text(raw, encoding) as file:
        for line, piece in cut(((line, text) for line, text, _ in lines_of(file)), length):
            yield _drawn(piece, f"{raw.name}:{line}")


def _of_dataset(dataset: DatasetFolder, length: int) -> Iterator[Drawn]:
    """What is there to be learnt; what is held out stays so, for answers are measured by it."""
    for record in dataset.records("train"):
        yield from _of_record(record, f"{dataset.name}/{record.id}", length)


def _of_record(record: Record, at: str, length: int) -> Iterator[Drawn]:
    found = False
    for head, body in _texts(record):
        head = head if len(head) <= length // 2 else f"{head[: length // 2]}…"
        for piece in cut_text(body, length - len(head) - len(_ANSWER)):
            found = True
            yield _drawn(f"{head}{_ANSWER}{piece}" if head else piece, at)
    if not found:
        yield Drawn(at=at, reason="no text in it")


def _texts(record: Record) -> list[tuple[str, str]]:
    """(question or "", text) of each part of a record that says something."""
    match record:
        case Document():
            return [("", record.text)]
        case Conversation():
            pairs = zip(record.messages, record.messages[1:], strict=False)
            return [
                (f"问：{asked.content}", answer.content)
                for asked, answer in pairs
                if (asked.role, answer.role) == ("user", "assistant")
            ]
        case Preference():
            return [(f"问：{record.prompt[-1].content}" if record.prompt else "", record.chosen)]
        case Question():
            right = [record.choices[ord(letter) - ord("A")] for letter in record.answer]
            return [(f"问：{record.stem}", "；".join(right))]


def _of_graph(path: Path, name: str, length: int) -> Iterator[Drawn]:
    for entity in entities(path):
        if isinstance(entity, Row):
            yield Drawn(at=f"{name}:{entity.line}", reason=entity.reason, text=entity.text)
            continue
        for row in dropped_rows(entity):
            yield Drawn(at=f"{name}:{row.line}", reason=row.reason, text=row.text)
        for attribute in entity.attributes:
            yield from _of_fact(entity, attribute, name, length)


def _of_fact(entity: Entity, attribute: str, name: str, length: int) -> Iterator[Drawn]:
    """What is known of an attribute; each piece of a long one says what it is about."""
    said = attribute_name(attribute)
    head = f"{entity.name}的{said}："
    body = "、".join(entity.values(attribute)) + ("（资料只列出一部分）" if attribute in entity.incomplete else "")
    at = f"{name}:{entity.line} {entity.name}·{said}"
    for piece in cut_text(body, max(length // 2, length - len(head))):
        passage = Passage(
            text=head + piece, source=at, subject=entity.name, aliases=entity.aliases, attribute=attribute
        )  # fmt: skip
        yield Drawn(at=at, passage=passage, text=passage.text[:_SHOWN])


def _drawn(text: str, at: str) -> Drawn:
    at = " ".join(at.split())
    return Drawn(at=at, passage=Passage(text=text, source=at), text=text[:_SHOWN])


def check_alike(origins: list[Origin]) -> None:
    """Raise UsageError where a source is named twice, or two of them are shown by one name."""
    names = [origin.name for origin in origins]
    for origin in origins:
        if names.count(origin.name) > 1:
            raise UsageError(
                f"two sources are called '{origin.name}', so that citations would not tell them apart",
                hint="name each source once, or rename one of them",
            )
