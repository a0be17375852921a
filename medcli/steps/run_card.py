"""What a run leaves for people: its curves, alone or beside others, and the model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medcli.core.atomic import storage_error, writing
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.model_ref import ADAPTER_CONFIG, resolve
from medcli.core.resources import templates
from medcli.core.run_folder import RunFolder
from medcli.core.speaker import DISCLAIMER
from medcli.steps.run_curves import Figure, Row, figures_of, points

_PANEL = 4.5  # inches high; the one below it is two thirds of that


def draw_losses(run: RunFolder) -> None:
    """Draw `loss.png` from `metrics.jsonl`: what the run is judged by, and what belongs to it in a panel below.

    That is the loss, for pairs with the share that is right, and of a policy the reward with its KL. Every step, their
    running mean, and the validations, with their 95 % intervals where these were measured.
    """
    rows = run.metrics()
    if not points(rows, figures_of(rows)[0].key):
        return
    figures = [figure for figure in figures_of(rows) if points(rows, figure.key)]
    picture, panels = _blank(figures)
    for axes, figure in zip(panels, figures, strict=True):
        _draw(axes, rows, figure)
    panels[0].set(title=run.name if run.name.isascii() else "")
    panels[0].legend()
    _save(picture, run.path / "loss.png")


def draw_together(runs: Sequence[RunFolder], path: Path) -> None:
    """Draw what `runs` are judged by into one picture, a panel for each kind of figure.

    Running means are lines, validations dashed lines with points.
    """
    measured = [(number, run.name, rows) for number, run in enumerate(runs) if (rows := run.metrics())]
    kinds = list(dict.fromkeys(figures_of(rows)[0] for _, _, rows in measured))
    picture, panels = _blank(kinds)
    for number, name, rows in measured:
        figure = figures_of(rows)[0]
        axes, colour = panels[kinds.index(figure)], f"C{number}"
        label = name if name.isascii() else f"run {number + 1}"  # the drawing's own font knows no more
        if trained := points(rows, figure.key):
            steps, values = zip(*trained, strict=True)
            axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.25)
            axes.plot(steps, _running_mean(values), color=colour, linewidth=2, label=label)
        if judged := points(rows, figure.of_validation):
            axes.plot(
                *zip(*judged, strict=True), color=colour, linestyle="--", marker="o", label=f"{label}, validation"
            )
    for axes in panels:
        axes.legend()
    _save(picture, path)


def _draw(axes: Any, rows: Sequence[Row], figure: Figure) -> None:
    steps, values = zip(*points(rows, figure.key), strict=True)
    axes.plot(steps, values, color="#9db8d9", linewidth=1, label="training")
    axes.plot(steps, _running_mean(values), color="#1f4e8c", linewidth=2, label="running mean")
    if judged := points(rows, figure.of_validation):
        axes.plot(*zip(*judged, strict=True), color="#c8553d", marker="o", label="validation")
    ends = [points(rows, f"{figure.of_validation}_{end}") for end in ("low", "high")]
    for (step, low), (_, high) in zip(*ends, strict=True):
        axes.vlines(step, low, high, color="#c8553d", alpha=0.5)


def _blank(figures: Sequence[Figure]) -> tuple[Any, list[Any]]:
    """A picture with a panel for each figure, above each other over the same steps, and no curve yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    shares = [1.0, *[2 / 3] * (len(figures) - 1)]
    picture = Picture(figsize=(8, _PANEL * sum(shares)), layout="constrained")
    FigureCanvasAgg(picture)
    panels = [row[0] for row in picture.subplots(len(figures), sharex=True, squeeze=False, height_ratios=shares)]
    for axes, figure in zip(panels, figures, strict=True):
        axes.set(ylabel=figure.label)
        axes.grid(alpha=0.3)
    panels[-1].set(xlabel="step")
    return picture, panels


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
                judges=resolve(str(run.path)).is_reward,
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
