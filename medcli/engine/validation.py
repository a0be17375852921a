"""The validation loss: a mean over all learnt tokens, whatever batches and processes they fall into."""

import math

import torch
from transformers import Trainer

from medcli.engine.pack import IGNORED, Batch, Samples


@torch.no_grad()
def mean_loss(trainer: Trainer, data: Samples) -> float:
    """The mean loss per learnt token of `data`, in nat.

    transformers takes the mean of the batches' means, in which a token of a short batch counts for more; its data
    loader also draws from the random numbers of the training. Processes take batches in turn; one that has none left
    goes through the last batch for nothing, for sharded weights need every process in every forward.
    """
    model = trainer._wrap_model(trainer.model, training=False)
    model.eval()
    size, processes = trainer.args.per_device_eval_batch_size, trainer.args.world_size
    starts = range(0, len(data), size)
    total = torch.zeros(2, dtype=torch.float64)  # summed loss, learnt tokens
    for turn in range(math.ceil(len(starts) / processes)):
        mine = turn * processes + trainer.args.process_index
        start = starts[min(mine, len(starts) - 1)]
        batch = trainer.data_collator([data[index] for index in range(start, min(start + size, len(data)))])
        count = learnt_tokens(batch)
        loss = float(model(**trainer._prepare_inputs(batch)).loss)
        if mine < len(starts):
            total += torch.tensor([loss * count, count])
    if processes > 1:
        total = trainer.accelerator.reduce(total.to(trainer.args.device), "sum")
    return float(total[0] / total[1])


def learnt_tokens(batch: Batch) -> int:
    """How many positions of a batch carry a label; the first of a padded row is no target."""
    if "shift_labels" in batch:
        return int((batch["shift_labels"] != IGNORED).sum())
    return int((batch["labels"][:, 1:] != IGNORED).sum())
