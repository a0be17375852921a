"""The order of a padded epoch: rows of one batch are of like length, so that little of it is padding."""

from collections.abc import Callable, Iterator, Sequence

import numpy
from torch.utils.data import Sampler

from medcli.engine.dealt import Filled
from medcli.engine.pack import Samples

POOL = 50  # batches among which rows are sorted by length, as transformers' own grouping does


class LengthGroups(Sampler[int]):
    """Shuffled rows, sorted by length within pools of POOL batches, and the batches shuffled again.

    The order follows from seed and epoch alone, so a resumed run can skip what it has done. The longest batch comes
    first: when memory does not suffice, it is known at once. What is left over from whole batches comes last.
    """

    def __init__(self, data: Samples | Filled, batch: int, seed: int, epoch: Callable[[], int]) -> None:
        """`batch` is how many rows an optimizer step takes, `epoch` tells the present one, from 0."""
        samples = data.samples if isinstance(data, Filled) else data
        self._lengths, self._size = samples.lengths, len(data)
        self._batch, self._seed, self._epoch = batch, seed, epoch

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        chance = numpy.random.default_rng([self._seed, self._epoch()])
        rows = chance.permutation(len(self._lengths))
        whole = len(rows) - len(rows) % self._batch
        sorted_rows = [self._by_length(rows[at : min(at + POOL * self._batch, whole)])
                       for at in range(0, whole, POOL * self._batch)]  # fmt: skip
        batches = numpy.concatenate([*sorted_rows, rows[:0]]).reshape(-1, self._batch)
        batches = batches[chance.permutation(len(batches))]
        if len(batches):
            longest = int(self._lengths[batches].max(axis=1).argmax())
            batches[[0, longest]] = batches[[longest, 0]]
        yield from batches.ravel().tolist()
        yield from rows[whole:].tolist()
        yield from range(len(rows), self._size)  # the empty ones

    def _by_length(self, rows: numpy.ndarray) -> numpy.ndarray:
        ordered: numpy.ndarray = rows[self._lengths[rows].argsort(kind="stable")]
        return ordered


def padding(lengths: numpy.ndarray, order: Sequence[int], batch: int) -> float:
    """The share of padding among all positions of an epoch in `order`, in rows as long as their batch's longest."""
    ordered = lengths[list(order)]
    starts = numpy.arange(0, len(ordered), batch)
    rows = numpy.diff([*starts, len(ordered)])
    positions = (numpy.maximum.reduceat(ordered, starts) * rows).sum()
    return 1 - float(ordered.sum() / positions)
