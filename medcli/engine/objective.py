"""What a run minimises, when that is not the model's own loss: figures of samples made of several examples."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from medcli.engine.pack import Batch, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The loss of a batch, summed over its `count` samples, and figures summed likewise (detached)."""

    loss: Tensor
    count: int
    figures: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """How a batch becomes a loss. The trainer divides by the samples of the whole optimizer step."""

    together: int  # examples that make up one sample, and stay in one batch

    def laid_over(self) -> AbstractContextManager[Any]:
        """What the model must be made while it is trained and validated."""
        ...

    def collate(self, examples: Sequence[Example]) -> Batch:
        """The model's inputs and what `measure` needs beside them; [NOTHING] is a batch without a sample."""
        ...

    def count(self, examples: Sequence[Example]) -> int:
        """How many samples these are."""
        ...

    def measure(self, model: Any, batch: Batch) -> Part:
        """One forward of `model`, which may be wrapped, so it is to be called and not looked into."""
        ...


class Means:
    """Running means of figures, read now and then. Tensors are added, so that no step waits for a GPU."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, part: Part) -> None:
        """Take the figures of another batch in."""
        self._count += part.count
        for name, value in part.figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value

    def taken(self) -> dict[str, float]:
        """The means since this was asked last."""
        means = {name: float(value) / self._count for name, value in self._sums.items()} if self._count else {}
        self._sums, self._count = {}, 0
        return means
