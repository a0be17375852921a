"""Where a project stands: its data sets, its runs with their best known figure, and what to do next."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcli.core.dataset_folder import SPLITS, DatasetFolder, built_names
from medcli.core.errors import MedError
from medcli.core.mixture import shares_of
from medcli.core.model_ref import TINY
from medcli.core.run_folder import RunFolder, named
from medcli.core.settings import PROJECT_FILE, find_project_file, folder, project_table
from medcli.steps import runs
from medcli.steps.find_data import names_to_build
from medcli.steps.runs import Summary

GOES_ON = ("interrupted", "stopped")  # the states of a run that waits to be resumed
_METHODS = {"conversation": "lora", "document": "pt", "preference": "rm"}  # to begin with, by the kind of the data
_JUDGES = ("rm",)  # what they make judges and does not speak
_UNMERGED = ("full", "ptuning")  # whose outcome is a whole model already, or cannot be merged


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A built data set: its kind, records in all splits, and licence."""

    name: str
    kind: str
    records: int
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run and its scores: (exam, primary metric, value) of each exam that was sat."""

    summary: Summary
    scores: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything about a project in a moment. `broken` are folders that cannot be read, with why."""

    root: Path
    datasets: tuple[DataSet, ...]
    runs: tuple[Run, ...]
    broken: tuple[str, ...]
    suggestion: str


def is_project(start: Path) -> bool:
    """Whether there is anything to tell: a med.toml, a data set or a run."""
    return find_project_file(start) is not None or any(folder(name).is_dir() for name in ("data", "runs"))


def status() -> Status:
    """The project of the working folder."""
    broken: list[str] = []
    datasets = tuple(_datasets(broken))
    found = tuple(_runs(broken))
    return Status(
        root=(find_project_file(Path.cwd()) or Path.cwd() / PROJECT_FILE).parent,
        datasets=datasets,
        runs=found,
        broken=tuple(broken),
        suggestion=suggestion(datasets, found),
    )


def _datasets(broken: list[str]) -> Iterator[DataSet]:
    for name in built_names():
        try:
            dataset = DatasetFolder(folder("data") / name)
            records = sum(map(dataset.count, SPLITS))
            yield DataSet(
                name=name, kind=dataset.kind, records=records, licence=dataset.manifest["licence"] or "unknown"
            )
        except (MedError, KeyError) as error:
            broken.append(f"data/{name}: {error}")


def _runs(broken: list[str]) -> Iterator[Run]:
    """The runs, the newest first."""
    found = []
    for path in folder("runs").glob("*/run.toml"):
        try:
            found.append(Run(summary=runs.summary(named(path.parent.name)), scores=scores_of(RunFolder(path.parent))))
        except (MedError, KeyError, ValueError) as error:
            broken.append(f"runs/{path.parent.name}: {error}")
    yield from sorted(found, key=lambda run: (run.summary.started, run.summary.name), reverse=True)


def scores_of(run: RunFolder) -> tuple[tuple[str, str, float], ...]:
    """(exam, primary metric, value) of each exam that the run has sat; a file that is none is left out."""
    found = []
    for path in sorted((run.path / "eval").glob("*.json")):
        table = json.loads(path.read_text("utf-8"))
        values = {score["metric"]: score["value"] for score in table.get("scores", ())}
        if (primary := table.get("primary")) in values:
            found.append((str(table["exam"]), str(primary), float(values[primary])))
    return tuple(found)


def suggestion(datasets: Sequence[DataSet], found: Sequence[Run]) -> str:
    """The command that brings this project a step on."""
    waiting = next((run.summary for run in found if run.summary.status in GOES_ON), None)
    if waiting:
        return f"med train {waiting.method} --resume --run {waiting.name}"
    train = project_table().get("train", {})
    if missing := _not_built(train, {dataset.name for dataset in datasets}):
        return f"med data build {missing}" if missing in names_to_build() else f"med data build FILE --name {missing}"
    if found:
        return _after(found[0])
    return _to_begin(train, datasets[0]) if datasets else "med init"


def _not_built(train: Mapping[str, Any], built: set[str]) -> str:
    """The first set that med.toml names and that is neither built nor a file which training builds itself."""
    names = [share.name for share in shares_of(train.get("dataset", ()))]
    return next((name for name in names if name not in built and not Path(name).exists()), "")


def _to_begin(train: Mapping[str, Any], dataset: DataSet) -> str:
    if dataset.kind not in _METHODS:
        return f"med eval {train.get('model', TINY)} --dataset {dataset.name}"
    method = next((name for name, table in train.items() if isinstance(table, Mapping)), _METHODS[dataset.kind])
    return f"med train {method}" if train.get("dataset") else f"med train {method} --dataset {dataset.name}"


def _after(newest: Run) -> str:
    run, exam = newest.summary, newest.summary.data[0] if newest.summary.data else ""
    if run.status != "finished":
        return f"med runs show {run.name}"
    if not newest.scores and exam:
        return f"med eval {run.name} --dataset {exam}"
    if run.method in _JUDGES:
        return f"med train ppo --reward {run.name}"
    merged = (folder("runs") / run.name / "merged").is_dir()
    return f"med chat {run.name}" if merged or run.method in _UNMERGED else f"med merge {run.name}"
