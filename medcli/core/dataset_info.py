"""Read `dataset_info.json` as LLaMA-Factory and its kin write it: name, file, what the columns are called."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path
from typing import Any

from medcli.core.encoding import encoding_of
from medcli.core.errors import DataError, UsageError
from medcli.core.raw import RawFile, open_text

FILE = "dataset_info.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One data set of the registry. `importer` is "" where the file must tell.

    `hub` (an id on Hugging Face) or `modelscope` stand for `path`, with `folder` and `subset` of what lies there.
    """

    name: str
    registry: Path
    path: Path | None
    hub: str = ""
    modelscope: str = ""
    folder: str = ""
    subset: str = ""
    sha1: str = ""
    importer: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def names_in(registry: Path) -> list[str]:
    """The data sets that a `dataset_info.json` names."""
    return sorted(_table(registry)) if registry.is_file() else []


def entry_of(registry: Path, name: str) -> Entry:
    """The entry called `name`; hf_hub_url goes before script_url, which is refused, before file_name.

    Raises DataError for an entry that is not understood.
    """
    row = _table(registry)[name]
    if not isinstance(row, Mapping):
        raise DataError(f"{registry}: '{name}' is not an object", hint='write {"file_name": "…"}')
    hub, modelscope, subset, part = (
        str(row.get(key) or "") for key in ("hf_hub_url", "ms_hub_url", "subset", "folder")
    )
    is_remote = bool(hub or modelscope)
    if not is_remote and row.get("script_url"):
        raise UsageError(
            f"{registry}: '{name}' is loaded by a script, and med runs no code that comes with data",
            hint=f"write its rows to a file yourself, then: med data build FILE --name {name}",
        )
    if not is_remote and not isinstance(row.get("file_name"), str):
        raise DataError(
            f"{registry}: '{name}' has no file_name", hint="add file_name: a file or folder beside the json"
        )
    columns = _texts(registry, name, row.get("columns") or {})
    return Entry(
        name=name,
        registry=registry,
        path=None if is_remote else registry.parent / row["file_name"],
        hub=hub,
        modelscope=modelscope,
        folder=part.strip("/"),
        subset=subset,
        sha1=str(row.get("file_sha1") or ""),
        importer=_importer(row, columns),
        columns=columns,
        tags=_texts(registry, name, row.get("tags") or {}),
    )


def check_sha1(entry: Entry) -> None:
    """Raise DataError when the file is not the one the entry names."""
    if not entry.sha1 or entry.path is None or not entry.path.is_file():
        return
    digest = sha1(usedforsecurity=False)
    with entry.path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha1.lower():
        raise DataError(
            f"{entry.path}: its SHA-1 is {digest.hexdigest()}, {entry.registry} says {entry.sha1}",
            hint="the file has changed: get it again, correct file_sha1, or skip the check with --no-verify",
        )


def _importer(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """What formatting, ranking and columns say; "" leaves it to the file."""
    if row.get("ranking"):
        return "preference" if "chosen" in columns else ""
    if row.get("formatting") == "sharegpt":
        return "sharegpt" if row.get("tags") else ""
    if not columns or "messages" in columns:
        return ""
    return "alpaca" if columns.get("response") else "text"


def _table(registry: Path) -> dict[str, Any]:
    raw = RawFile(path=registry, name=str(registry), label=registry.stem)
    with open_text(raw, encoding_of(raw)) as file:
        try:
            table = json.load(file)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{registry}: {error}", hint="correct the JSON at the place named above") from error
    if not isinstance(table, dict):
        raise DataError(f"{registry}: not an object of data sets", hint='write {"name": {"file_name": "…"}}')
    return table


def _texts(registry: Path, name: str, table: Any) -> dict[str, str]:
    """The entries that name something: null and "" mean none."""
    if not isinstance(table, Mapping):
        raise DataError(f"{registry}: columns and tags of '{name}' must be objects")
    return {str(key): str(value) for key, value in table.items() if value}
