"""Checkpoints that are there whole or not at all, and only as many of them as are wanted."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from medcli.core.atomic import full_disk_said
from medcli.engine import ranks
from medcli.engine.best import best_step


class WholeCheckpoints(Trainer):
    """A Trainer whose checkpoints are there whole or not at all.

    The newest `keep` of them stay, and the best one with `keep_best`; `before_checkpoint` are told before one is
    written.
    """

    keep = 1
    keep_best = False
    before_checkpoint: Sequence[Callable[[], None]] = ()
    _aside: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers does, but aside first; the older checkpoints go only when the new one is in place."""
        for tell in self.before_checkpoint:
            tell()
        home, first = Path(self.args.output_dir), self.is_world_process_zero()
        try:
            with whole(home, first=first) as self._aside:
                super()._save_checkpoint(model, trial)
        finally:
            self._aside = None
        if first:
            best = best_step(self.state.log_history) if self.keep_best else None
            remove_old(home, self.keep, best)
        ranks.wait_for_all()


@contextmanager
def whole(home: Path, *, first: bool) -> Iterator[Path]:
    """A folder aside for checkpoints, which take their place in `home` only when the block ends well.

    Every process writes its random numbers there; only the first makes and moves it. Raises StorageError when the
    disk is full; the older checkpoints are as they were.
    """
    aside = home / ".part"
    try:
        with full_disk_said(home):
            if first:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
            ranks.wait_for_all()
            yield aside
            ranks.wait_for_all()
        if first:
            _put_in_place(aside, home)
    finally:
        if first:
            shutil.rmtree(aside, ignore_errors=True)


def remove_old(home: Path, keep: int, best: int | None) -> None:
    """Keep the newest `keep` checkpoints, and that of step `best`."""
    steps = sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for old in steps[:-keep]:
        if old.name != f"checkpoint-{best}":
            shutil.rmtree(old)


def learning_of_frozen(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that learn when others do not: all that a checkpoint needs. None for peft, which sees to it itself.

    There is no config.json beside them, so that nobody takes the folder for a whole model.
    """
    weights = dict(model.named_parameters())
    learning = {name: weight.detach() for name, weight in weights.items() if weight.requires_grad}
    return learning if isinstance(model, PreTrainedModel) and len(learning) < len(weights) else {}


def _put_in_place(aside: Path, home: Path) -> None:
    for finished in aside.glob("checkpoint-*"):
        (finished / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
        shutil.rmtree(home / finished.name, ignore_errors=True)
        finished.replace(home / finished.name)
