"""Train on pairs of answers directly: DPO and its kin, by log-probabilities of a policy and of what it began as.

What the reference says of an answer never changes, so it is asked once, before the first step: no second model is held,
no step waits for one, and a resumed run reads what was kept.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed

from medcli.core import world as worlds
from medcli.core.alignment_settings import DpoSettings
from medcli.core.atomic import folder_aside
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.engine import device as devices
from medcli.engine import full, lora, ranks
from medcli.engine.loaded import Loaded
from medcli.engine.log_probabilities import counts_of, read, summed, tokens_as_loss
from medcli.engine.objective import Part
from medcli.engine.pack import NOTHING, Batch, Example, Examples, Pairs, Samples, on_device
from medcli.engine.preference_losses import AVERAGED, divergence_of, loss_of
from medcli.engine.rehearsal import HALVES
from medcli.engine.train_arguments import precision_of
from medcli.engine.trainer import Outcome, inputs_of

_FILE = "log_probabilities.safetensors"
_COUNTS, _REFERENCE, _MISMATCHED = "counts", "reference", "mismatched"  # in a batch, beside the model's inputs
_CPU = torch.device("cpu")


class Preference:
    """The chosen preference loss, and how pairs fare by it.

    Figures, means over pairs: accuracy, how often the implicit reward beta * score puts the better answer first, where
    a tie is half right; margin, chosen_reward and rejected_reward; and chosen_log_probability, the mean log-probability
    of a token of the better answer, in nat: it may well fall while margins grow, and then the model unlearns to speak.
    """

    together = 2

    def __init__(
        self,
        loaded: Loaded,
        settings: DpoSettings,
        reference: Tensor | None = None,
        mismatched: Examples | None = None,
    ) -> None:
        """`reference` [pairs, 2] is what the reference gives the better and the worse answer, by the pairs' numbers.

        kto has `mismatched` answers, one a pair, and what the reference gives them in a third column. Without either,
        as in a rehearsal, they count as zero.
        """
        self._loaded, self._settings = loaded, settings
        self._reference, self._mismatched = reference, mismatched

    def laid_over(self) -> AbstractContextManager[None]:
        """The model is to give the log-probabilities of the answers' tokens."""
        return tokens_as_loss(self._loaded.causal_lm, packing=self._settings.packing)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Better and worse answers by turns, in a row without padding or in padded rows, and what is known of them."""
        batch = self._inputs(examples)
        pairs = [example.number // 2 for example in examples[::2][: self.count(examples)]]
        columns = 2 if self._mismatched is None else 3
        known = torch.zeros(len(pairs), columns) if self._reference is None else self._reference[pairs]
        batch |= {_COUNTS: counts_of(examples[: 2 * len(pairs)], _CPU), _REFERENCE: known}
        if self._mismatched is not None:
            others = [self._mismatched[pair] for pair in pairs]
            batch[_MISMATCHED] = self._inputs(others or [NOTHING]) | {_COUNTS: counts_of(others, _CPU)}
        return batch

    def count(self, examples: Sequence[Example]) -> int:
        """Pairs; a batch of nothing has none."""
        return len(examples) // 2

    def measure(self, model: Any, batch: Batch) -> Part:
        """Loss and figures of the batch's pairs; of a batch without a pair a zero that is connected to the graph."""
        settings, known, counts = self._settings, batch[_REFERENCE], batch[_COUNTS]
        divergence = self._divergence(model, batch)
        tokens = read(model, _of_model(batch)).log_probabilities
        if not len(known):
            return Part(loss=tokens.sum() * 0.0, count=0)
        policy = summed(tokens, counts)
        scores = policy - known[:, :2].reshape(-1)
        scores = scores / counts if settings.loss in AVERAGED else scores
        chosen, rejected = scores.view(-1, 2).unbind(1)
        losses = loss_of(settings, chosen, rejected, divergence)
        better, worse = (settings.beta * score.detach() for score in (chosen, rejected))
        figures = {
            "accuracy": ((better > worse).float() + (better == worse).float() / 2).sum(),
            "margin": (better - worse).sum(),
            "chosen_reward": better.sum(),
            "rejected_reward": worse.sum(),
            "chosen_log_probability": (policy.detach() / counts)[::2].sum(),
        }
        if self._mismatched is not None:
            figures["divergence"] = divergence * len(known)
        return Part(loss=losses.sum(), count=len(known), figures=figures)

    def _inputs(self, examples: Sequence[Example]) -> Batch:
        return inputs_of(examples, self._settings, self._loaded)

    @torch.no_grad()
    def _divergence(self, model: Any, batch: Batch) -> Tensor:
        """kto's z0 over the batch, by a forward of its own: half as many answers again, but nothing is kept for them.

        The smaller the batch (or the pieces it is cut into when memory does not suffice), the rougher it is.
        """
        known: Tensor = batch[_REFERENCE]
        if _MISMATCHED not in batch:
            return known.new_zeros(())
        others = batch[_MISMATCHED]
        tokens = read(model, _of_model(others)).log_probabilities
        if not len(known):
            return known.new_zeros(())
        return divergence_of(summed(tokens, others[_COUNTS]) - known[:, 2])


def prepare(loaded: Loaded, settings: DpoSettings) -> Loaded:
    """The model with adapters, or with every weight learning; ModelError when no layer bears a target's name."""
    return full.prepare(loaded, settings) if settings.tuner == "full" else lora.prepare(loaded, settings)


def rehearsed(loaded: Loaded, settings: DpoSettings, data: Pairs) -> Preference:
    """The objective as a plan rehearses it: with all it reads, of which nothing is known."""
    return Preference(
        loaded, settings, None, _mismatched([data], settings.max_length) if settings.loss == "kto" else None
    )


def train(
    prepared: Loaded,
    data: Samples,
    valid: Samples | None,
    settings: DpoSettings,
    run: RunFolder,
    report: Report,
) -> Outcome:
    """Ask the reference, unless the run has done so before, then train as the tuner does and save as it does."""
    assert isinstance(data, Pairs)
    splits = [data]
    if valid is not None:
        valid = Pairs(valid.examples.numbered_from(len(data.examples)))  # each pair has a number of its own
        splits.append(valid)
    mismatched = _mismatched(splits, settings.max_length) if settings.loss == "kto" else None
    reference = None
    if settings.has_reference:
        with ranks.joined(prepared.device), devices.out_of_memory_said(prepared.device, "try a smaller --max-length"):
            reference = reference_of(prepared, splits, mismatched, settings, run, report)
    objective = Preference(prepared, settings, reference, mismatched)
    tuner: Any = full if settings.tuner == "full" else lora
    outcome: Outcome = tuner.train(prepared, data, valid, settings, run, report, objective)
    return outcome


def reference_of(
    prepared: Loaded,
    splits: Sequence[Pairs],
    mismatched: Examples | None,
    settings: DpoSettings,
    run: RunFolder,
    report: Report,
) -> Tensor:
    """Summed log-probabilities, in nat, of all pairs by the model before its first step, [pairs, 2], or 3 with kto.

    They are kept in the run's folder, whole or not at all, and taken from there when they are of the same answers. To
    be called before a checkpoint is loaded: of a whole model nothing else remembers what it was.
    """
    parts = [split.examples for split in splits] + ([] if mismatched is None else [mismatched])
    made_of = _fingerprint(parts, prepared, settings)
    kept = _kept(run.reference / _FILE, made_of)
    if not ranks.any_of(kept is None):
        assert kept is not None
        return kept
    found = _asked(prepared, [part[index] for part in parts for index in range(len(part))], settings, report)
    pairs = sum(len(split) for split in splits)
    table = torch.cat([found[: 2 * pairs].view(pairs, 2), found[2 * pairs :].view(pairs, -1)], 1)
    if worlds.current().is_first:
        with folder_aside(run.reference) as aside:
            save_file({_REFERENCE: table.contiguous()}, aside / _FILE, {"made_of": made_of})
    return table


def _fingerprint(parts: Sequence[Examples], prepared: Loaded, settings: DpoSettings) -> str:
    """What the answers and who is asked come down to."""
    digest = hashlib.sha256(f"{prepared.base} {precision_of(settings, prepared.device)}".encode())
    for part in parts:
        for array in (part.ids, part.trained, part.ends):
            digest.update(numpy.ascontiguousarray(array).data)
    return digest.hexdigest()


def _kept(file: Path, made_of: str) -> Tensor | None:
    """What the run asked before, unless that was of something else."""
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as opened:
        table: Tensor = opened.get_tensor(_REFERENCE)
        return table if opened.metadata()["made_of"] == made_of else None


def _asked(prepared: Loaded, examples: Sequence[Example], settings: DpoSettings, report: Report) -> Tensor:
    """What the model as it is before training says of each example, [examples]; every process asks of its share."""
    world, size = worlds.current(), 2 * settings.batch  # as many answers as a training step reads at one time
    report.stage("asking the reference model", total=len(examples), unit="answers")
    order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
    found = torch.zeros(len(examples))
    with _as_reference(prepared, settings):
        for start in range(world.rank * size, len(order), world.size * size):
            chosen = order[start : start + size]
            found[chosen] = _sums(prepared, [examples[index] for index in chosen], settings)
            report.advance(min(start + world.size * size, len(order)))
    if world.size > 1:
        distributed.all_reduce(found)
    return found


@contextmanager
def _as_reference(prepared: Loaded, settings: DpoSettings) -> Iterator[None]:
    """The model before its training, in the training's own precision: without adapters, and without dropout."""
    model = prepared.model
    half = HALVES.get(precision_of(settings, prepared.device))
    was_training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            torch.autocast(prepared.device.type, dtype=half, enabled=half is not None),
            model.disable_adapter() if isinstance(model, PeftModel) else nullcontext(),
            tokens_as_loss(prepared.causal_lm, packing=settings.packing),
        ):
            yield
    finally:
        model.train(was_training)


def _sums(prepared: Loaded, examples: Sequence[Example], settings: DpoSettings) -> Tensor:
    """The log-probability of each answer, [examples], in pieces when memory does not suffice for all at one time."""
    try:
        batch = on_device(inputs_of(examples, settings, prepared), prepared.device)
        tokens = read(prepared.model, batch).log_probabilities
        return summed(tokens, counts_of(examples, prepared.device)).cpu()
    except torch.OutOfMemoryError:
        if len(examples) == 1:
            raise
    middle = len(examples) // 2
    return torch.cat([_sums(prepared, part, settings) for part in (examples[:middle], examples[middle:])])


def _mismatched(splits: Sequence[Pairs], max_length: int) -> Examples:
    """To each prompt the better answer to another one of its split, cut to fit; by the numbers of the pairs.

    That is one half round the split: neighbours often share a prompt.
    """

    def made() -> Iterator[Example]:
        for split in splits:
            for index in range(len(split)):
                (asked, _), (other, _) = split[index], split[(index + max(1, len(split) // 2)) % len(split)]
                prompt = asked.ids[: asked.trained.argmax()]
                ids = numpy.concatenate([prompt, other.ids[other.trained]])[:max_length]
                yield Example(ids=ids, trained=numpy.arange(len(ids)) >= len(prompt))

    return Examples(made())


def _of_model(batch: Batch) -> Batch:
    return {name: part for name, part in batch.items() if name not in (_COUNTS, _REFERENCE, _MISMATCHED)}
