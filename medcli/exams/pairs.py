"""Pairs of answers: a reward model gives each answer a number, and the better one is to get the higher.

The metrics of `medcli.metrics` compare an answer with a reference; those of pairs are made from two rewards, and stand
here with what they measure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from medcli.core.calibration import calibration, in_bins
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import DataError, ModelError
from medcli.core.exam import Item, Marked, Paper, Sitting
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message, Preference
from medcli.core.rewarder import RewardModel
from medcli.core.score import Score, resampled, score_of

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt

HELP = "a reward model judges both answers to each prompt"
KIND = "preference"  # of data set
PRIMARY = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rewards of a pair's better and worse answer, and how long these are in characters."""

    id: str
    source: str
    rewards: tuple[float, float]
    lengths: tuple[int, int]

    @property
    def margin(self) -> float:
        """How much higher the better answer's reward is."""
        return self.rewards[0] - self.rewards[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPaper:
    """Pairs to judge."""

    records: Sequence[Preference]

    @property
    def items(self) -> Sequence[Item]:
        """The prompts, with the better answer as the one that is wanted; grouped by source where there are several."""
        several = len({record.source for record in self.records}) > 1
        return [
            Item(
                id=record.id,
                prompt=record.prompt,
                reference=record.chosen,
                groups=(record.source,) if several else (),
                asks=(record.prompt[-1].content,) if record.prompt else (),
            )
            for record in self.records
        ]

    def sit(self, sitting: Sitting) -> list[Marked]:
        """Reward both answers of each pair; a pair longer than the model reads is left out of every figure."""
        judge = sitting.rewarder
        if judge is None:
            raise ModelError("pairs of answers are judged by a reward model", hint="train one: med train rm")
        fitting = [record for record in self.records if all(map(judge.fits, dialogues_of(record)))]
        if not fitting:
            raise DataError(
                "every pair is longer than the model reads", hint="take a reward model with a longer context"
            )
        judged = _judged(fitting, judge, sitting)
        marked = [_marked(item, record, judged) for item, record in zip(self.items, self.records, strict=True)]
        if long := len(self.records) - len(fitting):
            sitting.report.note(f"{long} of {len(marked)} pairs are longer than the model reads, and are left out")
        if ties := sum(pair.margin == 0 for pair in judged.values()):
            sitting.report.note(f"{ties} of {len(judged)} pairs are ties, and count as half right")
        return marked


def prepare(settings: EvalSettings, dataset: DatasetFolder | None, split: str) -> Paper:
    """The pairs of a split; raises DataError when there are none."""
    assert dataset is not None
    if dataset.kind != KIND:
        raise DataError(
            f"the data set '{dataset.name}' holds {dataset.kind}s, and a reward model judges pairs of answers",
            hint="`med data list` shows what each data set holds",
        )
    found = []
    for record in dataset.records(split, settings.limit):
        if not isinstance(record, Preference):
            raise DataError(f"{dataset.file(split)}: the record '{record.id}' is no pair of answers")
        found.append(_with_system(record, settings.system) if settings.system is not None else record)
    if not found:
        raise DataError(
            f"the data set '{dataset.name}' has no pair in {settings.split or 'test or valid'}",
            hint="choose another part with --split, or build the data set from more records",
        )
    return PairPaper(records=found)


def scores(marked: Sequence[Marked], seed: int) -> list[Score]:
    """The figures of all pairs that were judged."""
    return figures([Judged(**one.detail["judged"]) for one in marked if "judged" in one.detail], seed)


def dialogues_of(record: Preference) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The prompt with the better answer, and with the worse one."""
    better, worse = (Message(role="assistant", content=text) for text in (record.chosen, record.rejected))
    return (*record.prompt, better), (*record.prompt, worse)


def figures(judged: Sequence[Judged], seed: int) -> list[Score]:
    """What the rewards of pairs tell, each with its 95 % interval over pairs; `judged` must not be empty.

    accuracy: the share of pairs the right way round, where a tie is half right. margin: better - worse.
    log-loss, brier: of the probability sigmoid(margin) that the better answer wins (Bradley & Terry 1952); the first is
    the pairwise loss of the training, in nat. ece: see `core.calibration`.
    length-correlation: Pearson's r between reward and length over all answers. longer-preferred and longer-right: the
    shares of pairs in which the longer answer gets the higher reward, and in which it is the better one; the first one
    above the second is the known bias of reward models towards length (Singhal et al. 2023). Where lengths do not
    differ, or rewards do not, what cannot be measured is left out.
    """
    won = [win_probability(pair.margin) for pair in judged]
    found = [
        score_of("accuracy", [right(pair.margin) for pair in judged], seed),
        score_of("margin", [pair.margin for pair in judged], seed),
        score_of("log-loss", [_softplus(-pair.margin) for pair in judged], seed),
        score_of("brier", [(1 - probability) ** 2 for probability in won], seed),
        resampled("ece", [_oriented_both_ways(probability) for probability in won], calibration, seed),
    ]
    differ = [pair for pair in judged if pair.lengths[0] != pair.lengths[1]]
    if len({reward for pair in judged for reward in pair.rewards}) > 1 and len(_lengths(judged)) > 1:
        sums = [_products(pair) for pair in judged]
        found.append(resampled("length-correlation", sums, correlation, seed))
    if differ:
        found += [
            score_of("longer-preferred", [right(_towards_longer(pair)) for pair in differ], seed),
            score_of("longer-right", [float(pair.lengths[0] > pair.lengths[1]) for pair in differ], seed),
        ]
    return found


def right(margin: float) -> float:
    """1 for the right way round, 0 for the wrong one, a half for a tie."""
    return 0.5 if margin == 0 else float(margin > 0)


def win_probability(margin: float) -> float:
    """sigmoid(margin): how likely the first of two answers is the better one, by Bradley and Terry."""
    return math.exp(-_softplus(-margin))


def correlation(sums: "npt.NDArray[numpy.float64]") -> "npt.NDArray[numpy.float64]":
    """Pearson's r from the sums (…, 6) of 1, x, y, xx, yy, xy; 0 where one of the two does not vary."""
    import numpy

    count, x, y, xx, yy, xy = numpy.moveaxis(sums, -1, 0)
    spread = numpy.sqrt(numpy.maximum(count * xx - x * x, 0) * numpy.maximum(count * yy - y * y, 0))
    together = count * xy - x * y
    r: npt.NDArray[numpy.float64] = numpy.divide(
        together, spread, out=numpy.zeros_like(together), where=spread > 1e-12 * numpy.abs(together)
    )
    return r


def _with_system(record: Preference, system: str) -> Preference:
    rest = tuple(message for message in record.prompt if message.role != "system")
    return replace(record, prompt=(Message(role="system", content=system), *rest))


def _judged(records: Sequence[Preference], judge: RewardModel, sitting: Sitting) -> dict[str, Judged]:
    """The pairs with their rewards, by id; raises ModelError where one is no number."""
    dialogues = [dialogue for record in records for dialogue in dialogues_of(record)]
    sitting.report.stage("judging", total=len(dialogues), unit="answers")
    rewards = judge.rewards(dialogues, sitting.report.advance)
    found = {}
    for record, chosen, rejected in zip(records, rewards[::2], rewards[1::2], strict=True):
        if not (math.isfinite(chosen) and math.isfinite(rejected)):
            raise ModelError(
                f"the pair '{record.id}' is rewarded with {chosen} and {rejected}",
                hint="the model is broken: look at the losses of its training with med runs show",
            )
        lengths = (len(record.chosen), len(record.rejected))
        found[record.id] = Judged(id=record.id, source=record.source, rewards=(chosen, rejected), lengths=lengths)
    return found


def _marked(item: Item, record: Preference, judged: Mapping[str, Judged]) -> Marked:
    """The answer that gets the higher reward stands for what the model said."""
    pair = judged.get(record.id)
    if pair is None:
        return Marked(item=item, answer="", values={}, outcome="unparsed", detail={"too long": True})
    preferred = record.chosen if pair.margin >= 0 else record.rejected
    values = {"accuracy": right(pair.margin), "margin": pair.margin}
    return Marked(item=item, answer=preferred, values=values, detail={"judged": asdict(pair)})


def _oriented_both_ways(probability: float) -> list[list[float]]:
    """That the better answer stands first says nothing of calibration: each pair is counted both ways round.

    With p for "the first one wins", and with 1 - p for "it does not".
    """
    return in_bins([(probability, 1.0), (1 - probability, 0.0)])


def _products(pair: Judged) -> list[float]:
    both = list(zip(pair.rewards, pair.lengths, strict=True))
    return [sum(values) for values in zip(*((1.0, x, y, x * x, y * y, x * y) for x, y in both), strict=True)]


def _towards_longer(pair: Judged) -> float:
    """How much higher the longer answer's reward is."""
    return pair.margin if pair.lengths[0] > pair.lengths[1] else -pair.margin


def _lengths(judged: Sequence[Judged]) -> set[int]:
    return {length for pair in judged for length in pair.lengths}


def _softplus(value: float) -> float:
    """log(1 + exp(value)) without overflow."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
