"""How likely a model finds texts where they stand: an exam's letters, its options, a data set; nothing is written."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from medcli.core.record import Conversation, Message
from medcli.core.report import Report
from medcli.core.speaker import Likelihood
from medcli.engine import attention, likelihood, rows, shared_prefix
from medcli.engine.endings import Followed, encode_endings
from medcli.engine.likelihood import log_probabilities
from medcli.engine.loaded import Loaded
from medcli.engine.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Rows, and the tokens that stand before each of them, [tokens]; in `sharing` these are read apart, and once."""

    beginning: numpy.ndarray
    rows: list[Row]
    sharing: bool


class LocalReader:
    """A `Reader` over a loaded model."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def likelihoods(
        self,
        prompts: Sequence[Sequence[Message]],
        endings: Sequence[Sequence[str]],
        advance: Callable[[int], None],
        *,
        ended: bool = False,
    ) -> list[list[Likelihood]]:
        """See `core.speaker.Reader`; which tokens count is told in `engine/endings.py`.

        A prompt is one row of a batch, with its endings behind it as branches that do not see each other, and without
        what it shares with others. Models that cannot share read the prompt anew with each ending.
        """
        every = encode_endings(self.loaded, prompts, endings, ended=ended)
        fitting = [number for number, one in enumerate(every) if self._fits(one)]
        short = self._read(
            [every[number] for number in fitting], lambda done: advance(done + len(every) - len(fitting))
        )
        found = dict(zip(fitting, short, strict=True))
        return [found.get(number, []) for number in range(len(every))]

    def _fits(self, one: Followed) -> bool:
        return self.loaded.context is None or one.longest <= self.loaded.context

    def _read(self, followed: Sequence[Followed], advance: Callable[[int], None]) -> list[list[Likelihood]]:
        plans = self._plans(followed)
        left = Counter(row.prompt for plan in plans for row in plan.rows)
        totals = [[0.0] * len(one.branches.paths) for one in followed]
        with attention.own(self.loaded.causal_lm):
            for batch, inputs in (pair for plan in plans for pair in self._batches(plan)):
                found = log_probabilities(self.loaded, inputs, rows.targets(batch, self.loaded.device)).tolist()
                reads = ((row.prompt, read.ending) for row in batch for read in row.reads)
                for (prompt, ending), value in zip(reads, found, strict=True):
                    totals[prompt][ending] += value
                left.subtract(row.prompt for row in batch)
                advance(len(followed) - sum(count > 0 for count in left.values()))
        return [
            [Likelihood(total=total, tokens=tokens) for total, tokens in zip(sums, one.branches.counted, strict=True)]
            for sums, one in zip(totals, followed, strict=True)
        ]

    def perplexity(self, conversations: Sequence[Conversation], report: Report) -> tuple[float, int, list[float]]:
        """See `core.speaker.Reader`."""
        return likelihood.perplexity(self.loaded, conversations, report)

    def _plans(self, followed: Sequence[Followed]) -> list[_Plan]:
        if not shared_prefix.can_share(self.loaded, max((one.longest for one in followed), default=0)):
            every = [row for number, one in enumerate(followed) for row in rows.straight(number, one)]
            return [_Plan(beginning=numpy.zeros(0, numpy.int32), rows=every, sharing=False)]
        return [
            _Plan(
                beginning=followed[group.texts[0]].stem[: group.shared],
                rows=[
                    rows.branching(number, followed[number], group.shared)
                    for number in group.texts
                    if followed[number].branches.reads
                ],
                sharing=True,
            )
            for group in shared_prefix.groups([one.stem for one in followed])
        ]

    def _batches(self, plan: _Plan) -> Iterator[tuple[list[Row], dict[str, Any]]]:
        """The rows of a plan in batches, with what the model is given."""
        shared, device = len(plan.beginning), self.loaded.device
        cache = shared_prefix.read(self.loaded, plan.beginning) if shared and plan.rows else None
        for batch in rows.batches(plan.rows, shared):
            inputs: dict[str, Any] = {"input_ids": rows.padded(batch).to(device), "use_cache": cache is not None}
            if not plan.sharing:
                inputs["attention_mask"] = rows.is_real(batch).to(device)
            elif shared or any(len(row.ids) > row.stem for row in batch):  # else what comes before is seen, as always
                mask = rows.attention_mask(batch, shared, self.loaded.causal_lm)
                inputs["position_ids"] = rows.positions(batch, shared).to(device)
                inputs |= {"attention_mask": mask.to(device), "past_key_values": cache}
            yield batch, inputs
