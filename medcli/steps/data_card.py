"""The data card of a built data set: one HTML file that needs nothing else, with the same bytes after every rebuild."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS, DatasetFolder
from medcli.core.distribution import Bin, Distribution
from medcli.core.report import Report, Silent
from medcli.core.settings import flag_of
from medcli.steps import page
from medcli.steps.data_stats import Stats, commercial_use, duplicates, known_as, leading, stats
from medcli.steps.refused_rows import refused_examples

CARD = "report.html"
_MOST_LABELS = 12  # under a histogram
_MOST_LINES = 4  # behind it
_SILENT = Silent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars to draw. `lines`: counts at which a line is drawn, the last one at the top; every so many bars a label."""

    bins: Sequence[Bin]
    lines: Sequence[int]
    every: int


def write_card(dataset: DatasetFolder, report: Report = _SILENT) -> Path:
    """Write `report.html` into the data set's folder; raises StorageError or DataError."""
    path = dataset.path / CARD
    write(dataset, stats(dataset, report=report), path)
    return path


def write(dataset: DatasetFolder, figures: Stats, path: Path) -> None:
    """Write the card to `path`; raises StorageError, or DataError for a damaged data set."""
    page.write(path, CARD, _context(dataset, figures), {"share": _share})


def rebuild_command(dataset: DatasetFolder) -> str:
    """What to type to build the same again; DIR stands for the folder that holds the inputs."""
    manifest, known = dataset.manifest, known_as(dataset)
    if known:
        words = [known.name] if known.shipped else [known.name, "--raw", "DIR"]
    else:
        files = [item["file"] for item in manifest["inputs"]]
        what = files[0] if len(files) == 1 else "DIR"
        words = [what, "--name", manifest["name"], "--importer", manifest["importer"]]
    return shlex.join(["med", "data", "build", *words, *_flags(manifest["settings"])])


def histogram(numbers: Distribution) -> Histogram:
    """The bars of a distribution, with at most four lines at round counts."""
    bins = numbers.bins
    largest = max((part.count for part in bins), default=1)
    step = next(
        s for power in range(12) for s in (10**power, 2 * 10**power, 5 * 10**power) if s * _MOST_LINES >= largest
    )
    return Histogram(bins=bins, lines=range(0, largest + step, step), every=-(-len(bins) // _MOST_LABELS) or 1)


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """The settings that are not the defaults, as they are typed."""
    words = []
    for item in fields(BuildSettings):
        name = flag_of(item)
        value = settings.get(name, item.default)
        if _typed(value) == _typed(item.default):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", _typed(value)]
    return words


def _typed(value: Any) -> str:
    """A setting's value as it is typed; a list in a manifest is a tuple among the defaults."""
    return ",".join(value) if isinstance(value, list | tuple) else str(value)


def _context(dataset: DatasetFolder, figures: Stats) -> dict[str, Any]:
    manifest = dataset.manifest
    known = known_as(dataset)
    departments, others = leading(figures.departments)
    sources, more_sources = leading(figures.sources)
    lengths = [("characters", figures.characters, {part.split: part.characters for part in figures.splits})]
    if figures.model:
        tokens = {part.split: part.tokens for part in figures.splits}
        lengths.append((f"tokens of {figures.model}", figures.tokens, tokens))
    return {
        "manifest": manifest,
        "figures": figures,
        "splits": SPLITS,
        "known": known,
        "commercial": commercial_use(dataset),
        "changed": _by_treatment(manifest.get("changed", {})),
        "duplicates": duplicates(dataset),
        "examples": refused_examples(dataset),
        "lengths": [(unit, histogram(whole), parts) for unit, whole, parts in lengths],
        "turns": histogram(figures.turns),
        "departments": departments,
        "other_departments": others,
        "sources": sources,
        "other_sources": more_sources,
        "settings": _settings(manifest["settings"]),
        "command": rebuild_command(dataset),
    }


def _by_treatment(changed: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What the gates changed, apart by what they did with it: masked or found identifiers by kind, and the rest."""
    parts: dict[str, dict[str, int]] = {"masked": {}, "found, not masked": {}, "mended": {}}
    for what, count in changed.items():
        treatment, _, kind = what.partition(": ")
        if kind and treatment in parts:
            parts[treatment][kind] = count
        else:
            parts["mended"][what] = count
    return parts


def _settings(table: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """(flag, value, what it means) of the settings a data set was built with."""
    meanings = {flag_of(item): str(item.metadata["help"]) for item in fields(BuildSettings)}
    shown = {"True": "yes", "False": "no", "": "none"}
    return [
        (f"--{name.replace('_', '-')}", shown.get(_typed(value), _typed(value)), meanings.get(name, ""))
        for name, value in table.items()
    ]


def _share(part: float, whole: float) -> str:
    """A share in percent; what is there is never shown as nothing, and what is missing never as all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < percent < 100 else f"{percent:.1f} %"
