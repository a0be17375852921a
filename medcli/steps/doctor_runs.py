"""Which runs were stopped, and which have lost something? Runs at work are left alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medcli.core.errors import MedError
from medcli.core.finding import Finding
from medcli.core.leftovers import leftovers_in
from medcli.core.model_ref import ADAPTER_CONFIG, TENSORS_CONFIG, run_names
from medcli.core.run_folder import RunFolder, named
from medcli.core.settings import folder
from medcli.core.tensor_file import damaged_in

_TABLES = ("run", "model", "settings", "origins", "data")  # of a run.toml that the other commands can read


def run_findings() -> Iterator[Finding]:
    """What is wrong with the runs of this project; one finding when nothing is."""
    names = run_names()
    found = [finding for name in names for finding in _of_run(named(name))]
    if not found:
        yield Finding(check="runs", state="ok", message=f"none is stopped or damaged, of {len(names)}")
    yield from found
    yield from _left_over(names)


def _of_run(run: RunFolder) -> Iterator[Finding]:
    try:
        table = run.table()
        run.metrics()
    except MedError as error:
        yield Finding(
            check="runs",
            state="error",
            message=error.message,
            hint=f"mend the file at that place, or remove the run: rm -r {run.path}",
        )
        return
    except UnicodeDecodeError as error:
        yield Finding(
            check="runs",
            state="error",
            message=f"{run.metrics_file}: {error}",
            hint=f"remove what is no text from it, or remove the run: rm -r {run.path}",
        )
        return
    if missing := [name for name in _TABLES if not isinstance(table.get(name), dict)]:
        yield Finding(
            check="runs",
            state="error",
            message=f"{run.settings_file} has no [{missing[0]}]",
            hint=f"put back what it was, or remove the run: rm -r {run.path}",
        )
        return
    yield from _of_whole(run, table)


def _of_whole(run: RunFolder, table: dict[str, Any]) -> Iterator[Finding]:
    method, status = table["run"].get("method", "?"), table["run"].get("status", "?")
    if status != "finished" and run.is_held():
        return
    if status != "finished":
        yield _stopped(run, method, status)
    elif not has_weights(run):
        yield Finding(
            check="runs",
            state="error",
            message=f"the run {run.name} is finished, but what it has trained is gone",
            hint=f"train it again: med train {method} --from {run.settings_file}",
        )
    yield from _lost_parts(run, table["model"])
    yield from _damaged(run, method)


def _stopped(run: RunFolder, method: str, status: str) -> Finding:
    last = run.last_checkpoint()
    if status == "running":
        message = f"the run {run.name} was killed"
    else:
        message = f"the run {run.name} was stopped"
    again = f"med train {method} --resume --run {run.name}"
    if last:
        hint = f"go on from {last.name}: {again}\nor remove it: med runs rm {run.name}"
    else:
        hint = f"begin it anew, for it has no checkpoint: {again}\nor remove it: med runs rm {run.name}"
    return Finding(check="runs", state="warning", message=message, hint=hint)


def has_weights(run: RunFolder) -> bool:
    """Whether what a run has trained is there: a whole model, an adapter, or tensors of its own."""
    adapters = (run.adapter / name for name in (ADAPTER_CONFIG, TENSORS_CONFIG))
    return (run.model / "config.json").is_file() or any(path.is_file() for path in adapters)


def _lost_parts(run: RunFolder, model: dict[str, Any]) -> Iterator[Finding]:
    """The folders that a run's weights lie over, where they are gone; a base on a hub is not looked for."""
    if (run.model / "config.json").is_file():
        return
    for part in (str(model.get("base", "")), *map(str, model.get("adapters", []))):
        if Path(part).is_absolute() and not Path(part).is_dir():
            yield Finding(
                check="runs",
                state="error",
                message=f"the run {run.name} lies over {part}, which is gone",
                hint=f"put that folder back, or correct its place under [model] in {run.settings_file}",
            )


def _damaged(run: RunFolder, method: str) -> Iterator[Finding]:
    for place in (run.adapter, run.model):
        for path, fault in damaged_in(place):
            yield Finding(
                check="runs",
                state="error",
                message=f"{path} is damaged: {fault}",
                hint=f"train it again: med train {method} --from {run.settings_file}",
            )
    for path, fault in damaged_in(run.path / "merged"):
        yield Finding(
            check="runs",
            state="error",
            message=f"{path} is damaged: {fault}",
            hint=f"rm -r {path.parent}\nthen: med merge {run.name}",
        )
    last = run.last_checkpoint()
    for path, fault in damaged_in(last) if last else []:
        yield Finding(
            check="runs",
            state="error",
            message=f"{path} is damaged: {fault}",
            hint=f"remove this checkpoint, and --resume takes the one before: rm -r {path.parent}",
        )


def _left_over(names: list[str]) -> Iterator[Finding]:
    """What killed processes have left in the folders of runs."""
    runs = [named(name) for name in names]
    left = [path for place in (folder("runs"), *(run.path for run in runs)) for path in leftovers_in(place)]
    left += [path for run in runs if (path := run.checkpoints / ".part").is_dir() and not run.is_held()]
    if left:
        yield Finding(
            check="runs",
            state="warning",
            message=f"killed processes have left {len(left)} unfinished files or folders, such as {left[0]}",
            hint="remove them: med clean leftovers",
        )
