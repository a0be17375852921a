"""Train a reward model: of two answers to a prompt, the better one is to get the higher number."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch.nn.functional as F

from medcli.core.alignment_settings import RewardSettings
from medcli.core.errors import ModelError
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.engine import full, lora
from medcli.engine.loaded import Loaded
from medcli.engine.objective import Part
from medcli.engine.pack import Batch, Example, Samples
from medcli.engine.score_head import HEAD, AtEnds, batch_of, classifier_of, packs
from medcli.engine.trainer import Outcome


class PairwiseReward:
    """The loss of Bradley and Terry (1952) on pairs of a better and a worse answer, each read at its last token.

    -log sigmoid(better - worse - margin) + centring * (better + worse)^2, the second term by Eisenstein et al. 2023.
    Figures: accuracy, the share of pairs the right way round, where a tie is half right; margin, better - worse; and
    reward, the mean of both.
    """

    together = 2

    def __init__(self, loaded: Loaded, settings: RewardSettings) -> None:
        self._classifier, self._packing = loaded.causal_lm, settings.packing
        self._pad = pad_of(loaded)
        self._margin, self._centring = settings.margin, settings.centring
        self._reader = AtEnds()

    def laid_over(self) -> AbstractContextManager[None]:
        """The head is to give the rewards of whole answers."""
        return self._reader.laid_on(self._classifier)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Better and worse answers by turns, in a row without padding or in padded rows, and where each ends."""
        return batch_of(examples, self._pad, packing=self._packing)

    def count(self, examples: Sequence[Example]) -> int:
        """Pairs; a batch of nothing has none."""
        return len(examples) // 2

    def measure(self, model: object, batch: Batch) -> Part:
        """Loss and figures of the batch's pairs; of a batch without a pair a zero that is connected to the graph."""
        rewards = self._reader.rewards(model, batch)
        count = len(rewards) // 2
        if not count:
            return Part(loss=rewards.sum() * 0.0, count=0)
        better, worse = rewards.view(count, 2).unbind(1)
        apart = better - worse
        loss = -F.logsigmoid(apart - self._margin).sum()
        if self._centring:
            loss = loss + self._centring * (better + worse).square().sum()
        apart = apart.detach()
        figures = {
            "accuracy": ((apart > 0).float() + (apart == 0).float() / 2).sum(),
            "margin": apart.sum(),
            "reward": rewards.detach().sum() / 2,
        }
        return Part(loss=loss, count=count, figures=figures)


def prepare(loaded: Loaded, settings: RewardSettings) -> Loaded:
    """The model as a classifier of one number, whose head learns beside adapters or with the whole model.

    Raises ModelError when the architecture has none, or cannot read rows without padding as one.
    """
    loaded = replace(loaded, model=classifier_of(loaded.model, pad_of(loaded), settings.seed))
    if settings.packing and loaded.model.device.type != "meta" and not packs(loaded.model, loaded.device):
        raise ModelError(
            f"rows without padding change the rewards of {type(loaded.model).__name__}",
            hint="train it with --no-packing",
        )
    if settings.tuner == "full":
        return full.prepare(loaded, settings)
    return lora.prepare(loaded, settings, task="SEQ_CLS", whole=(HEAD,))


def train(
    prepared: Loaded,
    data: Samples,
    valid: Samples | None,
    settings: RewardSettings,
    run: RunFolder,
    report: Report,
) -> Outcome:
    """Train head and tuner: an adapter with the head in it to `run.adapter`, or a whole classifier to `run.model`."""
    objective = PairwiseReward(prepared, settings)
    if settings.tuner == "full":
        return full.train(prepared, data, valid, settings, run, report, objective)
    return lora.train(prepared, data, valid, settings, run, report, objective)


def pad_of(loaded: Loaded) -> int:
    """The id that fills padded rows; it is never read."""
    pad = loaded.tokenizer.pad_token_id
    return loaded.stops[0] if pad is None else int(pad)
