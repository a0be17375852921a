"""Trackers beside metrics.jsonl: the same figures, for TensorBoard, wandb, SwanLab or MLflow.

Never on by themselves. transformers' own callbacks obey two dozen environment variables, some of which upload
checkpoints, and let trackers copy what is printed, which may be patients' questions; here only figures and settings
go out, and whoever is not logged in keeps them in the run's folder instead of being asked for a password.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Protocol

from medcli.core.errors import ServiceError, UnknownNameError, UsageError
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.train_settings import TrainSettings

PROJECT = "med"  # in trackers that gather runs under a name


class Tracker(Protocol):
    """Where figures go."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of a step."""

    def close(self) -> None:
        """Write all that is still to be written."""


Config = Mapping[str, Any]
Open = Callable[[RunFolder, Config, Report, int], Tracker]  # the last is the step that the run goes on from


class _TensorBoard:
    def __init__(self, run: RunFolder, config: Config, report: Report, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.path / "tensorboard"), purge_step=step + 1)
        rows = [f"| {name} | {value} |" for name, value in config.items()]
        text = "\n".join(["| setting | value |", "|---|---|", *rows])
        self._writer.add_text("settings", text, step)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, run: RunFolder, config: Config, report: Report, step: int) -> None:
        import wandb

        mode = wandb.setup().settings.mode  # as the person's own settings say
        if mode == "online" and not wandb.login(prompt=False):
            mode = "offline"
            report.note(f"wandb: not logged in; kept in {run.path / 'wandb'}, `wandb sync` sends it later")
        quiet = wandb.Settings(console="off", save_code=False, disable_git=True, silent=True)
        self._run = wandb.init(
            project=wandb.setup().settings.project or PROJECT,
            name=run.name, dir=str(run.path), mode=mode, config=dict(config), settings=quiet,
        )  # fmt: skip

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class _SwanLab:
    def __init__(self, run: RunFolder, config: Config, report: Report, step: int) -> None:
        import swanlab

        quiet = swanlab.Settings(interactive=False, terminal={"proxy_type": "none"})
        mode = quiet.mode
        if mode == "online" and quiet.api_key is None:
            mode = "offline"
            report.note(f"swanlab: not logged in; kept in {run.path / 'swanlab'}, `swanlab sync` sends it later")
        self._run = swanlab.init(
            project=PROJECT, name=run.name, log_dir=str(run.path / "swanlab"),
            mode=mode, config=dict(config), settings=quiet,
        )  # fmt: skip

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, run: RunFolder, config: Config, report: Report, step: int) -> None:
        import mlflow

        if not mlflow.is_tracking_uri_set():
            mlflow.set_tracking_uri(f"sqlite:///{(run.path / 'mlflow.db').resolve()}")
        self._mlflow = mlflow
        mlflow.start_run(run_name=run.name)
        mlflow.log_params(dict(config))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(figures), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS: Mapping[str, Open] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "swanlab": _SwanLab,
    "mlflow": _MLflow,
}


def check(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that is not known, or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UnknownNameError("tracker", name, TRACKERS)
        if find_spec(name) is None:
            raise UsageError(
                f"--track {name}: the package is not installed",
                hint=f'pip install {name}, or pip install "medcli[track]" for all of them',
            )


@contextlib.contextmanager
def tracked(
    settings: TrainSettings, run: RunFolder, report: Report, step: int, known: Mapping[str, Open] = TRACKERS
) -> Iterator[list[Tracker]]:
    """The trackers of a run that goes on from `step`, closed at the end; raises ServiceError when one cannot begin."""
    config = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    with contextlib.ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in settings.track:
            tracker = _Spare(name, _opened(name, known[name], run, config, report, step), report)
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


class _Spare:
    """A tracker that a run can do without: when it fails, its figures are lost, and not the run."""

    def __init__(self, name: str, tracker: Tracker, report: Report) -> None:
        self._name, self._tracker, self._report = name, tracker, report
        self._failed = False

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._do(lambda: self._tracker.log(figures, step))

    def close(self) -> None:
        self._do(self._tracker.close)

    def _do(self, act: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout carries results only
                act()
        except Exception as error:  # each library has a tree of errors of its own
            self._failed = True
            self._report.note(
                f"{self._name} failed and gets no more figures: {_said(error)}; metrics.jsonl has them all"
            )


def _opened(name: str, begin: Open, run: RunFolder, config: Config, report: Report, step: int) -> Tracker:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return begin(run, config, report, step)
    except Exception as error:
        hint = f"see its settings, or leave out --track {name}"
        raise ServiceError(f"{name} could not begin: {_said(error)}", hint=hint) from error


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
