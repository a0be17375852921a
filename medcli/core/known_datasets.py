"""The public data sets that `med` knows by name: `templates/datasets.toml`."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from medcli.core.resources import templates
from medcli.core.settings import read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A data set known by name.

    `files` are the names, with * and ?, of its files; empty means the whole folder. It lies on Hugging Face (`hub`),
    on ModelScope (`modelscope`), or its files have addresses (`urls`); `url` is its page. `shipped` is its path in
    `templates/` when it comes with med.
    """

    name: str
    title: str
    importer: str
    kind: str
    language: str
    licence: str
    commercial: str
    url: str
    size: str = "unknown"
    hub: str = ""
    modelscope: str = ""
    urls: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    shipped: str = ""


@cache
def known_datasets() -> dict[str, KnownDataset]:
    """Name -> data set."""
    table = read_toml(templates() / "datasets.toml")
    return {name: _of_row(name, row) for name, row in table.items()}


def _of_row(name: str, row: dict[str, Any]) -> KnownDataset:
    lists = {key: tuple(row.get(key, ())) for key in ("files", "urls")}
    return KnownDataset(name=name, **(row | lists))
