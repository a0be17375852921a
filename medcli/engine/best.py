"""Which validation was the best: stop when none is better for long, and end with its weights.

All that is known lies in transformers' log of the run, which is part of each checkpoint, so a resumed run goes on
counting where it was.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from medcli.core.report import Report
from medcli.core.train_settings import TrainSettings

Row = Mapping[str, float]


class Judge(TrainerCallback):
    """Saves a checkpoint at each new lowest validation loss, and stops the run when it stays away for too long."""

    def __init__(self, settings: TrainSettings, report: Report) -> None:
        self._settings, self._report = settings, report
        self.stopped_early = False

    @property
    def facts(self) -> dict[str, float]:
        """For the run's record."""
        return {"stopped_early": True} if self.stopped_early else {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """The last weights are judged too, even when the steps between validations do not end with them."""
        if args.eval_strategy == "steps" and state.global_step >= state.max_steps:
            control.should_evaluate = True
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        step = best_step(state.log_history)
        if self._settings.best and step == state.global_step:
            control.should_save = True
        worse = [row for row in _judged(state.log_history) if row["step"] > (step or 0)]
        patience = self._settings.early_stop
        if patience and len(worse) >= patience and state.global_step < state.max_steps:
            self.stopped_early = control.should_training_stop = True
            self._report.note(
                f"stopped early at step {state.global_step} of {state.max_steps}: "
                f"no lower validation loss since step {step}"
            )
        return control


def best_step(history: Iterable[Row]) -> int | None:
    """The step of the lowest validation loss, the first of equals; None before any validation."""
    rows = _judged(history)
    return int(min(rows, key=_loss)["step"]) if rows else None


def take_best(trainer: Trainer, home: Path, report: Report) -> dict[str, float]:
    """Load the weights of the best validation whose checkpoint lies in `home`, and say which they are."""
    rows = [row for row in _judged(trainer.state.log_history) if (home / f"checkpoint-{row['step']}").is_dir()]
    if not rows:
        return {}
    best, last = min(rows, key=_loss), trainer.state.global_step
    if best["step"] != last:
        trainer._load_from_checkpoint(str(home / f"checkpoint-{best['step']}"))
        report.note(f"the weights of step {best['step']} are kept, validation loss {best['eval_loss']:.4f}")
    return {"best_step": best["step"], "best_eval_loss": best["eval_loss"]}


def _judged(history: Iterable[Row]) -> list[Row]:
    return [row for row in history if "eval_loss" in row]


def _loss(row: Row) -> float:
    return row["eval_loss"]
