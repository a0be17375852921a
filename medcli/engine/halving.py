"""Out of memory: the step is done again in smaller pieces, and so are those after it; the weights come out the same."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.engine.pack import EXAMPLES, Batch, Example

Step = Callable[[Batch], Tensor]  # forward and backward of a batch; gives its share of the step's loss
Collate = Callable[[Sequence[Example | list[Example]]], Batch]


class Halving:
    """Does micro-batches whole as long as memory suffices, else in `parts` pieces.

    A piece's loss is divided by the learnt tokens of the whole optimizer step, so the sum over pieces is the loss of
    the whole. What a backward that broke off has left in the gradients is not known: the optimizer step starts again.
    """

    def __init__(self, collate: Collate, batch: int, run: RunFolder, report: Report, together: int = 1) -> None:
        """`batch` is how many samples a whole micro-batch has, `together` how many examples each of them has."""
        self._collate, self._batch, self._run, self._report = collate, batch, run, report
        self._together = together
        self.parts = 1
        self._number, self._done = -1, list[Batch]()

    @property
    def figures(self) -> dict[str, float]:
        """The samples that are done at one time, when that is less than was asked for."""
        return {"micro_batch": max(1, self._batch // self.parts)} if self.parts > 1 else {}

    def run(self, number: int, batch: Batch, model: nn.Module, step: Step) -> Tensor:
        """The loss of one micro-batch of optimizer step `number`.

        Raises torch.OutOfMemoryError when a single sample is too long for the memory.
        """
        if number != self._number:
            self._number, self._done = number, []
        self._done.append(batch)
        todo = self._done[-1:]
        while (losses := self._tried(todo, step)) is None:
            # Here the exception is gone, and with it the frames that held on to the activations.
            model.zero_grad(set_to_none=True)
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
            self._halve(number)
            todo = self._done
        return losses[-1]

    def _tried(self, batches: Sequence[Batch], step: Step) -> list[Tensor] | None:
        """The batches' losses, or None when memory did not suffice but smaller pieces may fit."""
        piece: Sequence[Example] = ()
        losses = []
        try:
            for batch in batches:
                pieces = cut(batch[EXAMPLES], self.parts, self._together)
                loss = None
                for piece in pieces:
                    part = step(dict(batch) if len(pieces) == 1 else self._collate(list(piece)))
                    loss = part if loss is None else loss + part
                assert loss is not None  # a batch has at least one example
                losses.append(loss)
        except torch.OutOfMemoryError:
            if len(piece) <= self._together:
                raise
            return None
        return losses

    def _halve(self, number: int) -> None:
        if self.parts == 1:
            self._report.note(
                f"step {number + 1}: memory does not suffice for the batch; from now on it is done in pieces and "
                "summed up, which learns the same"
            )
        self.parts *= 2
        self._run.log(number, self.figures)


def cut(examples: Sequence[Example], parts: int, together: int = 1) -> list[Sequence[Example]]:
    """At most `parts` pieces of whole samples, each of `together` examples, of about as many tokens each."""
    total = sum(len(example.ids) for example in examples)
    pieces: list[list[Example]] = [[] for _ in range(parts)]
    before = 0
    for start in range(0, len(examples), together):
        sample = examples[start : start + together]
        length = sum(len(example.ids) for example in sample)
        pieces[min(int((before + length / 2) * parts / total), parts - 1)].extend(sample)
        before += length
    return [piece for piece in pieces if piece]
