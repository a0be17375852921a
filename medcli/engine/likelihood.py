"""How likely a model finds the answers of a data set."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

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


@torch.inference_mode()
def _batch_nll(loaded: Loaded, batch: Sequence[Example]) -> tuple[list[float], list[int]]:
    inputs = on_device(padded(batch, 0), loaded.device)
    labels = inputs.pop("labels")[:, 1:]
    logits = loaded.model(**inputs).logits[:, :-1].float()
    nll = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return nll.sum(1).tolist(), (labels != IGNORED).sum(1).tolist()
