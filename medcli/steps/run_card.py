"""What a run leaves for people: the loss curve, alone or beside others, and the model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcli.core.atomic import storage_error, writing
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.model_ref import ADAPTER_CONFIG
from medcli.core.resources import templates
from medcli.core.run_folder import RunFolder
from medcli.core.speaker import DISCLAIMER


def draw_losses(run: RunFolder) -> None:
    """Draw `loss.png` from `metrics.jsonl`: every step, their running mean, and the validation loss."""
    rows = run.metrics()
    trained = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    if not trained:
        return
    figure, axes = _blank()
    steps, losses = zip(*trained, strict=True)
    axes.plot(steps, losses, color="#9db8d9", linewidth=1, label="training")
    axes.plot(steps, _running_mean(losses), color="#1f4e8c", linewidth=2, label="running mean")
    judged = [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]
    if judged:
        axes.plot(*zip(*judged, strict=True), color="#c8553d", marker="o", label="validation")
    axes.set(title=run.name if run.name.isascii() else "")
    axes.legend()
    _save(figure, run.path / "loss.png")


def draw_together(runs: Sequence[RunFolder], path: Path) -> None:
    """Draw the losses of `runs` into one picture: running means as lines, validations as dashed lines with points."""
    figure, axes = _blank()
    for number, run in enumerate(runs):
        colour, rows = f"C{number}", run.metrics()
        label = run.name if run.name.isascii() else f"run {number + 1}"  # the drawing's own font knows no more
        trained = [(row["step"], row["loss"]) for row in rows if "loss" in row]
        if trained:
            steps, losses = zip(*trained, strict=True)
            axes.plot(steps, losses, color=colour, linewidth=0.7, alpha=0.25)
            axes.plot(steps, _running_mean(losses), color=colour, linewidth=2, label=label)
        judged = [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]
        if judged:
            steps, losses = zip(*judged, strict=True)
            axes.plot(steps, losses, color=colour, linestyle="--", marker="o", label=f"{label}, validation")
    axes.legend()
    _save(figure, path)


def _blank() -> tuple[Any, Any]:
    """A figure and its axes, with no curve yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xlabel="step", ylabel="loss per token (nat)")
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    """Write a picture that is there whole or not at all; raises StorageError."""
    part = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part, dpi=120, format="png")
        part.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error


def write(run: RunFolder, sources: Sequence[DatasetFolder]) -> None:
    """Write the model card `README.md` from the run's settings and its data's manifests."""
    from jinja2 import Environment

    table = run.table()
    text = Environment(trim_blocks=True, lstrip_blocks=True).from_string((templates() / "card.md").read_text("utf-8"))
    with writing(run.path / "README.md") as file:
        file.write(
            text.render(
                name=run.name,
                table=table,
                library=_library(run),
                data=[_data_row(source) for source in sources],
                disclaimer=DISCLAIMER,
            )
            + "\n"
        )


def _library(run: RunFolder) -> str:
    """The library that loads what the run left, as hubs name it."""
    return "peft" if (run.adapter / ADAPTER_CONFIG).is_file() else "transformers"


def _data_row(source: DatasetFolder) -> dict[str, Any]:
    manifest = source.manifest
    return {"name": source.name, "licence": manifest["licence"], "counts": manifest["counts"]}


def _running_mean(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential mean, corrected for its start as Adam's is."""
    mean, means = 0.0, []
    for index, value in enumerate(values, 1):
        mean = weight * mean + (1 - weight) * value
        means.append(mean / (1 - weight**index))
    return means
