"""The validation: means over all learnt tokens or samples, whatever batches and processes they fall into."""

import math

import torch
from torch import nn
from transformers import Trainer

from medcli.engine.objective import Objective
from medcli.engine.pack import IGNORED, Batch, Samples

_COUNT = "count"


@torch.no_grad()
def means_of(trainer: Trainer, data: Samples, objective: Objective | None) -> dict[str, float]:
    """eval_loss: the mean loss per learnt token of `data`, in nat; or that of an objective's samples, and its figures.

    transformers takes the mean of the batches' means, in which a token of a short batch counts for more; its data
    loader also draws from the random numbers of the training. Processes take batches in turn; one that has none left
    goes through the last batch for nothing, for sharded weights need every process in every forward.
    """
    model = trainer._wrap_model(trainer.model, training=False)
    model.eval()
    size, processes = trainer.args.per_device_eval_batch_size, trainer.args.world_size
    starts = range(0, len(data), size)
    sums: dict[str, float] = {}
    for turn in range(math.ceil(len(starts) / processes)):
        mine = turn * processes + trainer.args.process_index
        start = starts[min(mine, len(starts) - 1)]
        batch = trainer.data_collator([data[index] for index in range(start, min(start + size, len(data)))])
        found = _sums(trainer, model, batch, objective)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value * (mine < len(starts))
    totals = torch.tensor([*sums.values()], dtype=torch.float64)
    if processes > 1:
        totals = trainer.accelerator.reduce(totals.to(trainer.args.device), "sum")
    means = (totals / totals[0]).tolist()
    return {f"eval_{name}": mean for name, mean in zip(sums, means, strict=True) if name != _COUNT}


def _sums(trainer: Trainer, model: nn.Module, batch: Batch, objective: Objective | None) -> dict[str, float]:
    """By how much to divide, and what."""
    if objective is None:
        count = learnt_tokens(batch)
        return {_COUNT: count, "loss": float(model(**trainer._prepare_inputs(batch)).loss) * count}
    part = objective.measure(model, trainer._prepare_inputs(batch))
    figures = {name: float(value) for name, value in part.figures.items()}
    return {_COUNT: part.count, "loss": float(part.loss), **figures}


def learnt_tokens(batch: Batch) -> int:
    """How many positions of a batch carry a label; the first of a padded row is no target."""
    if "shift_labels" in batch:
        return int((batch["shift_labels"] != IGNORED).sum())
    return int((batch["labels"][:, 1:] != IGNORED).sum())
