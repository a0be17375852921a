"""How the samples of an epoch are dealt out to several processes.

N processes with B samples each take what one process with N x B samples would take, in the same order, to the very end:
where an epoch does not fill the last batches they are filled with nothing, not with samples that some would meet twice.
"""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Dataset, Sampler

from medcli.engine.pack import Example, Samples


class Filled(Dataset[Example | list[Example]]):
    """`samples`, and after them as many empty ones as make the number a multiple of `multiple`."""

    def __init__(self, samples: Samples, multiple: int) -> None:
        self.samples = samples
        self._size = -(-len(samples) // multiple) * multiple

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Example | list[Example]:
        return self.samples[index] if index < len(self.samples) else []


class InOrder(Sampler[int]):
    """The samples of a `Filled`, shuffled anew each epoch as accelerate's sampler does, the empty ones last."""

    def __init__(self, filled: Filled, seed: int, epoch: Callable[[], int], *, shuffle: bool) -> None:
        """`epoch` tells the present one, from 0: accelerate does not, when a run is resumed within an epoch."""
        self._filled, self._seed, self._epoch, self._shuffle = filled, seed, epoch, shuffle

    def __len__(self) -> int:
        return len(self._filled)

    def __iter__(self) -> Iterator[int]:
        real = len(self._filled.samples)
        if self._shuffle:
            generator = torch.Generator().manual_seed(self._seed + self._epoch())
            yield from torch.randperm(real, generator=generator).tolist()
        else:
            yield from range(real)
        yield from range(real, len(self._filled))
