"""Watch a run: figures to the report and `metrics.jsonl`, and Ctrl-C turned into a checkpoint."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from medcli.core import world as worlds
from medcli.core.errors import ModelError
from medcli.core.interruption import interruption_by
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.engine import device as devices
from medcli.engine import ranks
from medcli.engine.tracking import Tracker

_GRACE = 1.0  # seconds in which a signal that comes twice, from the launcher and from Slurm, counts as one


class Watch(TrainerCallback):
    """Carries figures to the report and `metrics.jsonl`, and turns Ctrl-C into a checkpoint."""

    def __init__(
        self,
        run: RunFolder,
        report: Report,
        device: torch.device,
        tokens: Callable[[], int],
        trackers: Sequence[Tracker] = (),
    ) -> None:
        """`tokens` tells how many tokens all processes have trained on since they began."""
        self._run, self._report, self._device, self._tokens = run, report, device, tokens
        self._trackers = trackers
        self._writes = worlds.current().is_first
        self.asked_by = 0  # the signal that told this process to stop
        self.interrupted_by = 0  # the signal that told any process to, and to which all have agreed
        self.figures: dict[str, float] = {}
        self._clock, self._counted = time.monotonic(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._report.stage("training", total=state.max_steps, unit="steps")
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self._report.advance(state.global_step)
        self.interrupted_by = ranks.largest(self.asked_by)
        if self.interrupted_by:
            control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps:  # the last loss is known, whatever the steps between lines
            control.should_log = True
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if self.interrupted_by:  # a stopped run has its checkpoint already, and nobody waits for a validation
            control.should_save = control.should_evaluate = False
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:
        if "loss" in logs or any(name.startswith("eval_") for name in logs):
            self.take(state.global_step, logs, trained="loss" in logs)

    def take(self, step: int, logs: Mapping[str, float], *, trained: bool) -> None:
        """Write the figures of a step; with its speed when something was `trained` since they were taken last.

        Raises ModelError when one is no number.
        """
        figures = {name: float(value) for name, value in logs.items()}
        if not all(math.isfinite(value) for value in figures.values()):
            raise ModelError(
                f"step {step}: the loss is not a number any more",
                hint="lower --lr, use --precision bf16 or fp32 instead of fp16, or go back with --resume",
            )
        if trained:
            now, tokens = time.monotonic(), self._tokens()
            figures["tokens_per_second"] = round((tokens - self._counted) / max(now - self._clock, 1e-9), 1)
            figures["memory_gib"] = round(devices.memory_gib(self._device), 3)
            self._clock, self._counted = now, tokens
        if self._writes:
            self._run.log(step, figures)
        for tracker in self._trackers:
            tracker.log(figures, step)
        self.figures |= figures
        self._report.measure(step, figures)


@contextlib.contextmanager
def interrupts(watch: Watch) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run after its step with a checkpoint; the second one ends it at once."""
    several, asked_at = worlds.current().size > 1, 0.0

    def stop(number: int, frame: Any) -> None:
        nonlocal asked_at
        if not watch.asked_by:
            watch.asked_by, asked_at = number, time.monotonic()
        elif time.monotonic() - asked_at > (_GRACE if number == signal.SIGTERM or several else 0.0):
            raise interruption_by(number)

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
