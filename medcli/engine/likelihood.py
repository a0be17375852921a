"""How likely a model finds given tokens: the log-probabilities that exams read, and the perplexity of a data set."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medcli.core.errors import DataError
from medcli.core.record import Conversation
from medcli.core.report import Report
from medcli.engine.encode import Losses, encode_all
from medcli.engine.loaded import Loaded
from medcli.engine.pack import IGNORED, Example, Examples, on_device, padded

TOKENS = 4096  # in one batch


def perplexity(
    loaded: Loaded, conversations: Sequence[Conversation], report: Report, max_length: int = 4096
) -> tuple[float, int, list[float]]:
    """exp of the mean negative log-likelihood of the answers' tokens, their number, and the mean of each dialogue."""
    losses = Losses()
    examples = Examples(
        encode_all(
            conversations,
            loaded.template,
            loaded.tokenizer,
            max_length=min(max_length, loaded.context or max_length),
            losses=losses,
        )
    )
    if losses.too_long or losses.untrained:
        report.note(
            f"perplexity: {losses.too_long} dialogues too long and {losses.untrained} without an answer left out"
        )
    if not len(examples):
        raise DataError("no answer to measure the perplexity of")
    return perplexity_of(loaded, examples, report, "dialogues")


def perplexity_of(loaded: Loaded, examples: Examples, report: Report, unit: str) -> tuple[float, int, list[float]]:
    """The same of all that is learnt in encoded examples, of which there is at least one."""
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    means = [0.0] * len(examples)
    total, count = 0.0, 0
    report.stage("perplexity", total=len(examples), unit=unit)
    done = 0
    for batch in _batches(order, examples):
        sums, counts = _batch_nll(loaded, [examples[index] for index in batch])
        for index, nll, tokens in zip(batch, sums, counts, strict=True):
            means[index] = nll / tokens
        total, count = total + sum(sums), count + sum(counts)
        done += len(batch)
        report.advance(done)
    return math.exp(total / count), count, means


def _batches(order: list[int], examples: Examples) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    for index in order:  # shortest first, so the newest is the longest of its batch
        if batches[-1] and (len(batches[-1]) + 1) * len(examples[index].ids) > TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches


def _batch_nll(loaded: Loaded, batch: Sequence[Example]) -> tuple[list[float], list[int]]:
    inputs = on_device(padded(batch, 0), loaded.device)
    labels = inputs.pop("labels")[:, 1:]
    rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
    which = torch.arange(len(rows), device=loaded.device)
    targets = Targets(rows=rows, columns=columns, which=which, tokens=labels[rows, columns])
    found = log_probabilities(loaded, inputs | {"use_cache": False}, targets)
    sums = found.new_zeros(len(batch)).index_add(0, rows, -found)
    return sums.tolist(), rows.bincount(minlength=len(batch)).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Tokens of which it is asked how likely they are: `tokens` [n], each after the position `which` [n] of those at
    `rows` and `columns` [positions] of a batch."""

    rows: Tensor
    columns: Tensor
    which: Tensor
    tokens: Tensor


@torch.inference_mode()
def log_probabilities(loaded: Loaded, inputs: dict[str, Any], targets: Targets) -> Tensor:
    """The log-probability of each target, [n] float32 in nat, from one forward of the model on `inputs`.

    Only the positions asked for reach the head: the logits of a whole batch would be the largest tensor by far.
    """
    head = loaded.causal_lm.get_output_embeddings()
    asked = head.register_forward_pre_hook(
        lambda _, given: (given[0][targets.rows, targets.columns][None], *given[1:])  # [1, positions, width]
    )
    try:
        logits = loaded.model(**inputs).logits[0].float()
    finally:
        asked.remove()
    found: Tensor = logits[targets.which, targets.tokens] - logits.logsumexp(-1)[targets.which]
    return found
