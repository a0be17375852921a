"""From examples to batches: padding-free rows, or padded ones where a model needs them."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy
import torch

from medcli.core.reading import Asked

Batch = dict[str, Any]  # tensors by the model's argument names, and numbers beside them
IGNORED = -100
EXAMPLES = "examples"  # in a batch, the examples it was made of: for whoever counts or cuts it; not for the model
GRAIN = 128  # tokens; without it a run of 245 steps over 245 lengths grew to 2.9 GiB on a CPU, with it to half

_EMPTY_ARRAY = 128  # bytes of an .npy file's head


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One tokenised record: ids [tokens] int32, which of them are learnt, [tokens] bool, and its place in the data."""

    ids: numpy.ndarray
    trained: numpy.ndarray
    number: int = -1


NOTHING = Example(ids=numpy.zeros(2, numpy.int32), trained=numpy.zeros(2, bool))  # of which nothing is learnt


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


class Examples:
    """Many examples in three flat arrays: 5 bytes a token, whatever the number of records."""

    def __init__(self, examples: Iterator[Example]) -> None:
        ids, trained, ends = [], [], [0]
        for example in examples:
            ids.append(example.ids.astype(numpy.int32, copy=False))
            trained.append(example.trained.astype(bool, copy=False))
            ends.append(ends[-1] + len(example.ids))
        self.ids = numpy.concatenate(ids) if ids else numpy.zeros(0, numpy.int32)
        self.trained = numpy.concatenate(trained) if trained else numpy.zeros(0, bool)
        self.ends = numpy.array(ends)
        self._first = 0

    def numbered_from(self, first: int) -> Self:
        """The same examples with numbers that go on from `first`, so that those of several sets are told apart."""
        other = copy(self)
        other._first = first
        return other

    def save(self, folder: Path) -> None:
        """Write the arrays into `folder`."""
        for name, array in (("ids", self.ids), ("trained", self.trained), ("ends", self.ends)):
            numpy.save(folder / f"{name}.npy", array)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """What `save` wrote, read from the disk as it is needed: processes that open it share one copy in memory."""
        opened = cls(iter(()))
        # Copy on write, for torch warns of arrays that may not be written to; an empty file cannot be mapped.
        mode: Literal["c"] | None = "c" if (folder / "ids.npy").stat().st_size > _EMPTY_ARRAY else None
        opened.ids = numpy.load(folder / "ids.npy", mmap_mode=mode)
        opened.trained = numpy.load(folder / "trained.npy", mmap_mode=mode)
        opened.ends = numpy.load(folder / "ends.npy")
        return opened

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        where = slice(self.ends[index], self.ends[index + 1])
        return Example(ids=self.ids[where], trained=self.trained[where], number=self._first + index)

    @property
    def examples(self) -> "Examples":
        """Itself: what samples of any kind are made of."""
        return self

    @property
    def lengths(self) -> numpy.ndarray:
        """The tokens of each sample."""
        lengths: numpy.ndarray = numpy.diff(self.ends)
        return lengths

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        return int(self.trained.sum())


class Blocks:
    """Examples put together, in their order, into blocks of at most `size` tokens: what continued pre-training reads.

    Each document stays a document of its own; nothing is cut here, and nothing dropped.
    """

    def __init__(self, examples: Examples, size: int) -> None:
        self.examples = examples
        starts = [0]
        for index in range(len(examples)):
            if examples.ends[index + 1] - examples.ends[starts[-1]] > size and index > starts[-1]:
                starts.append(index)
        self.starts = [*starts, len(examples)] if len(examples) else [0]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> list[Example]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return [self.examples[number] for number in range(self.starts[index], self.starts[index + 1])]

    @property
    def lengths(self) -> numpy.ndarray:
        lengths: numpy.ndarray = numpy.diff(self.examples.ends[self.starts])
        return lengths

    @property
    def tokens(self) -> int:
        return self.examples.tokens

    @property
    def trained_tokens(self) -> int:
        return self.examples.trained_tokens


class Pairs:
    """Examples two by two: the better answer to a prompt, then the worse one."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples) // 2

    def __getitem__(self, index: int) -> list[Example]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return [self.examples[2 * index], self.examples[2 * index + 1]]

    @property
    def lengths(self) -> numpy.ndarray:
        lengths: numpy.ndarray = self.examples.lengths.reshape(-1, 2).sum(1)
        return lengths

    @property
    def tokens(self) -> int:
        return self.examples.tokens

    @property
    def trained_tokens(self) -> int:
        """The tokens of the answers."""
        return self.examples.trained_tokens


class Prompts:
    """What a model is to answer, as tokens and as messages."""

    def __init__(self, examples: Examples, asked: Sequence[Asked]) -> None:
        self.examples, self.asked = examples, asked

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    @property
    def lengths(self) -> numpy.ndarray:
        return self.examples.lengths

    @property
    def tokens(self) -> int:
        """The tokens of the prompts; those of the answers are not known before they are drawn."""
        return self.examples.tokens

    @property
    def trained_tokens(self) -> int:
        return 0


Samples = Examples | Blocks | Pairs | Prompts


def flat(samples: Sequence[Example | list[Example]]) -> list[Example]:
    """The examples of a batch, whether its samples are examples or blocks of them."""
    return [one for sample in samples for one in (sample if isinstance(sample, list) else [sample])]


def side_by_side(examples: Sequence[Example]) -> Batch:
    """One row of all examples: [1, tokens]. Position 0 begins each document; its first token is no target.

    There is deliberately no `attention_mask`: an all-ones mask makes transformers attend across documents in silence.
    A last document of nothing rounds the row up to a multiple of GRAIN, so that libraries which prepare and keep one
    kernel a shape meet few shapes.
    """
    real = sum(len(example.ids) for example in examples)
    if real % GRAIN:
        nothing = numpy.zeros(GRAIN - real % GRAIN, numpy.int32)
        examples = [*examples, Example(ids=nothing, trained=nothing.astype(bool))]
    lengths = [len(example.ids) for example in examples]
    ids = torch.from_numpy(numpy.concatenate([example.ids for example in examples])).long()
    # Position p is labelled when the token after it, in the same document, is learnt.
    labelled = torch.from_numpy(
        numpy.concatenate([numpy.append(example.trained[1:], False) for example in examples])
    ).nonzero()[:, 0]
    targets = ids[labelled + 1][None]
    ends = torch.tensor([0, *numpy.cumsum(lengths)], dtype=torch.int32)
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": targets,
        "shift_labels": targets,
        "logits_to_keep": labelled,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "use_cache": False,
    }


def padded(examples: Sequence[Example], pad_id: int) -> Batch:
    """The plain twin: [examples, longest], right padding, labels -100 where nothing is learnt."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), longest), pad_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.from_numpy(example.ids).long()
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, : len(tokens)] = torch.where(torch.from_numpy(example.trained), tokens, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
