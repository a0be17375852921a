"""The runs of a project: what each is, how they differ, and how one is removed without harm to another."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medcli.core.atomic import storage_error
from medcli.core.errors import UnknownNameError, UsageError
from medcli.core.model_ref import run_names
from medcli.core.run_folder import RunFolder, named
from medcli.core.settings import folder
from medcli.steps import run_card, run_curves
from medcli.steps.run_curves import ACCURACY, DIVERGENCE, REWARD, Chart, best, last

_OWN = "run"  # the setting that names the run, and so differs always


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run in one line.

    `status` is running, interrupted, finished, or stopped: a run that was killed. `steps` are done, of `planned`;
    `loss` is the last one of training, `valid_loss` the lowest one of the validations, both in nat per token, or per
    pair. Of a policy `reward` is the last one of training, and `valid_reward` the highest one of the validations;
    `valid_accuracy` is the highest share of pairs the right way round.
    """

    name: str
    method: str
    base: str
    data: tuple[str, ...]
    status: str
    steps: int
    planned: int
    loss: float | None
    valid_loss: float | None
    started: str
    reward: float | None = None
    valid_reward: float | None = None
    valid_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Settings that differ, and results, as rows of (name, a value for each run); None where a run has no such.

    `charts` show the course of what the runs are judged by, one for each kind of figure.
    """

    names: tuple[str, ...]
    settings: tuple[tuple[Any, ...], ...]
    results: tuple[tuple[Any, ...], ...]
    charts: tuple[Chart, ...]


def summaries() -> list[Summary]:
    """All runs of this project, the oldest first."""
    return sorted((summary(named(name)) for name in run_names()), key=lambda found: (found.started, found.name))


def known(name: str) -> RunFolder:
    """The run of that name or path; raises UnknownNameError."""
    run = named(name)
    if not run.exists:
        raise UnknownNameError("run", name, run_names(), hint="" if run_names() else "there is no run here yet")
    return run


def summary(run: RunFolder) -> Summary:
    """A run in one line; a run that says it is running while no process holds it was killed."""
    table, rows = run.table(), run.metrics()
    figures = run_curves.figures_of(rows)
    main, is_policy = figures[0], REWARD in figures
    status = table["run"]["status"]
    return Summary(
        name=run.name,
        method=table["run"]["method"],
        base=_base(table["model"]),
        data=tuple(table["data"]),
        status="stopped" if status == "running" and not run.is_held() else status,
        steps=table.get("result", {}).get("steps") or max((int(row["step"]) for row in rows), default=0),
        planned=table.get("plan", {}).get("steps", 0),
        loss=None if is_policy else last(rows, main),
        valid_loss=None if is_policy else best(rows, main),
        started=table["run"]["started"],
        reward=last(rows, REWARD) if is_policy else None,
        valid_reward=best(rows, REWARD) if is_policy else None,
        valid_accuracy=best(rows, ACCURACY),
    )


def settings_of(run: RunFolder) -> list[tuple[str, Any, str]]:
    """(name, value, origin) of each setting the run was made with."""
    table = run.table()
    return [(name, _plain(value), table["origins"].get(name, "")) for name, value in table["settings"].items()]


def data_of(run: RunFolder) -> list[tuple[str, int, str, str]]:
    """(name, records taken, hash of the training split, folder) of each set the run learnt from."""
    table = run.table()["data"]
    return [(name, row["records"], row["sha256"][:12], row.get("path", "")) for name, row in table.items()]


def results_of(run: RunFolder) -> dict[str, Any]:
    """What came of a run: its summary without what it was made from, time, tokens, and room on the disk."""
    found, result, rows = summary(run), run.table().get("result", {}), run.metrics()
    return {
        "status": found.status,
        "steps": found.steps,
        "loss": found.loss,
        "best valid loss": found.valid_loss,
        "best valid accuracy": found.valid_accuracy,
        "reward": found.reward,
        "best valid reward": found.valid_reward,
        "KL": last(rows, DIVERGENCE) if found.reward is not None else None,
        "seconds": result.get("seconds"),
        "tokens": result.get("tokens"),
        "disk MiB": round(bytes_of(run.path) / 2**20, 1),
    }


def charts_of(run: RunFolder, label: str = "") -> list[Chart]:
    """The figures of training and of validation, as far as there are any; `label` names the run among others."""
    return run_curves.charts_of(run.metrics(), label)


def compare(runs: Sequence[RunFolder]) -> Comparison:
    """What is not alike in `runs`; raises UsageError for fewer than two."""
    if len({run.path.resolve() for run in runs}) < 2:
        raise UsageError("there is nothing to compare", hint="name two runs or more: med runs compare A B")
    settings = [{name: value for name, value, _ in settings_of(run) if name != _OWN} for run in runs]
    data = [{f"data {name}": f"{count:,} records {sha}" for name, count, sha, _ in data_of(run)} for run in runs]
    methods = [{"method": run.table()["run"]["method"]} for run in runs]
    columns = [one | two | three for one, two, three in zip(methods, settings, data, strict=True)]
    rows = [row for row in _side_by_side(columns) if any(value != row[1] for value in row[2:])]
    return Comparison(
        names=tuple(run.name for run in runs),
        settings=tuple(rows),
        results=tuple(_side_by_side([results_of(run) for run in runs])),
        charts=tuple(_together(runs)),
    )


def draw(runs: Sequence[RunFolder], path: Path | None) -> Path:
    """Draw what `runs` are judged by into `path`, or `compare.png` beside the runs, and return where that is."""
    path = path or folder("runs") / "compare.png"
    run_card.draw_together(runs, path)
    return path


def _together(runs: Sequence[RunFolder]) -> list[Chart]:
    """The runs' own main figures in training, those of one kind in one chart."""
    charts: dict[run_curves.Figure, Chart] = {}
    for run in runs:
        for chart in charts_of(run, run.name)[:1]:
            before = charts[chart.figure].curves if chart.figure in charts else ()
            charts[chart.figure] = replace(chart, curves=(*before, chart.curves[0]))
    return list(charts.values())


def removable(names: Sequence[str]) -> list[RunFolder]:
    """The runs of these names, when each may go.

    Raises UsageError for one that is a link or lies outside of this project's runs, that a process is working on, or
    that another run, which is to stay, was trained on top of.
    """
    runs = list({run.path.resolve(): run for run in map(known, names)}.values())
    home = folder("runs").resolve()
    going = {run.path.resolve() for run in runs}
    staying = [run for name in run_names() if (run := named(name)).path.resolve() not in going]
    for run in runs:
        if run.path.is_symlink() or run.path.resolve().parent != home:
            raise UsageError(f"{run.path} is a link, or no run of {home}", hint="delete such a folder by hand")
        if run.is_held():
            raise UsageError(f"a process is working on the run {run.name}", hint="wait for it, or stop it with Ctrl-C")
        if users := [other.name for other in staying if _builds_on(other, run)]:
            raise UsageError(
                f"the run {run.name} is what {', '.join(users)} was trained on top of, and could not be loaded without",
                hint=f"remove these too: med runs rm {' '.join([run.name, *users])}",
            )
    return runs


def remove(run: RunFolder) -> int:
    """Delete the run's folder and return the bytes that are free now; links in it go, what they point to stays."""
    freed = bytes_of(run.path)
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise storage_error(error, run.path) from error
    return freed


def bytes_of(path: Path) -> int:
    """The bytes of all files below `path`; links are not followed."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() or file.is_symlink())


def _builds_on(other: RunFolder, run: RunFolder) -> bool:
    model = other.table()["model"]
    parts = [model["base"], *model.get("adapters", [])]
    return any(Path(part).resolve().is_relative_to(run.path.resolve()) for part in parts)


def _base(model: Mapping[str, Any]) -> str:
    """A folder by its own name, with the runs whose adapters lie over it: "qwen + first"."""
    base = Path(model["base"])
    names = [base.name if base.is_absolute() else model["base"]]
    return " + ".join([*names, *(Path(adapter).parent.name for adapter in model.get("adapters", []))])


def _side_by_side(columns: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, *(column.get(name) for column in columns)) for name in names]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
