"""Rows of a batch in which endings are read: a prompt with its endings as branches behind it, or with one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from medcli.engine.endings import Branches, Followed, Read
from medcli.engine.likelihood import Targets

TOKENS = 4096  # in one batch, padding included
SEEN = 32_768  # tokens that the rows of a batch attend to, what they share counted for each: the memory of one layer
READ = 512  # positions of a batch whose logits exist at one time: 300 MB of a 150,000-word vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The tokens of prompt number `prompt` that are fed, [n] int32, and what is read after which of them.

    The first `stem` are the prompt's, as far as it was not read before; what follows them are nodes of `branches`, or
    the beginning of an ending when there are none. A read's place -1 is the stem's last token.
    """

    prompt: int
    ids: numpy.ndarray
    stem: int
    reads: tuple[Read, ...]
    branches: Branches | None = None

    @property
    def places(self) -> dict[int, int]:
        """The places that something is read after, numbered."""
        return {place: number for number, place in enumerate(dict.fromkeys(read.place for read in self.reads))}


def branching(prompt: int, followed: Followed, shared: int) -> Row:
    """All endings of a prompt in one row, without the prompt's first `shared` tokens."""
    stem, branches = followed.stem[shared:], followed.branches
    ids = numpy.concatenate([stem, numpy.array(branches.tokens, dtype=numpy.int32)])
    return Row(prompt=prompt, ids=ids, stem=len(stem), reads=branches.reads, branches=branches)


def straight(prompt: int, followed: Followed) -> list[Row]:
    """The whole prompt with each ending in a row of its own; endings that differ in their last token share one."""
    reads: dict[tuple[int, ...], list[Read]] = {}
    branches = followed.branches
    for number, (path, counted) in enumerate(zip(branches.paths, branches.counted, strict=True)):
        fed = reads.setdefault(path[:-1], [])
        fed += [Read(number, at - 1, path[at]) for at in range(len(path) - counted, len(path))]
    stem = followed.stem
    return [
        Row(
            prompt=prompt,
            ids=numpy.concatenate([stem, numpy.array(fed, dtype=numpy.int32)]),
            stem=len(stem),
            reads=tuple(found),
        )
        for fed, found in reads.items()
        if found
    ]


def batches(rows: Sequence[Row], shared: int) -> Iterator[list[Row]]:
    """Rows of like length together, as many as the limits above allow, after `shared` tokens that all of them see."""
    batch: list[Row] = []
    places = 0
    for row in sorted(rows, key=lambda row: len(row.ids)):  # so the newest is the longest of its batch
        size = len(batch) + 1
        fits = size * len(row.ids) <= TOKENS and size * (shared + len(row.ids)) <= SEEN
        if batch and not (fits and places + len(row.places) <= READ):
            yield batch
            batch, places = [], 0
        batch.append(row)
        places += len(row.places)
    if batch:
        yield batch


def targets(rows: Sequence[Row], device: torch.device) -> Targets:
    """What is read in a batch, in the order of its rows and their reads."""
    numbered, columns, which, tokens = list[int](), list[int](), list[int](), list[int]()
    for number, row in enumerate(rows):
        places = row.places
        which += [len(columns) + places[read.place] for read in row.reads]
        tokens += [read.token for read in row.reads]
        numbered += [number] * len(places)
        columns += [row.stem + place for place in places]
    found, at, which_of, wanted = (torch.tensor(part, device=device) for part in (numbered, columns, which, tokens))
    return Targets(rows=found, columns=at, which=which_of, tokens=wanted)


def padded(rows: Sequence[Row]) -> Tensor:
    """Their tokens, [rows, longest], zeros to the right: no real position sees those."""
    ids = torch.zeros(len(rows), max(len(row.ids) for row in rows), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.from_numpy(row.ids)
    return ids


def is_real(rows: Sequence[Row]) -> Tensor:
    """1 where `padded` has a token, else 0."""
    longest = max(len(row.ids) for row in rows)
    lengths = torch.tensor([len(row.ids) for row in rows])
    return (torch.arange(longest) < lengths[:, None]).long()


def positions(rows: Sequence[Row], shared: int) -> Tensor:
    """Where each token stands in a text of its own that is its prompt and one ending, [rows, longest]."""
    found = torch.zeros(len(rows), max(len(row.ids) for row in rows), dtype=torch.long)
    for number, row in enumerate(rows):
        found[number, : row.stem] = torch.arange(shared, shared + row.stem)
        if row.branches:
            found[number, row.stem : len(row.ids)] = shared + row.stem + torch.tensor(row.branches.depths)
    return found


def seen(rows: Sequence[Row], shared: int) -> Tensor:
    """Which tokens each token sees: [rows or 1, 1, longest, shared + longest] bool.

    All before it and itself, but of the branches only its own. What pads a row sees something, or it would be no
    number.
    """
    longest = max(len(row.ids) for row in rows)
    every = torch.ones(longest, shared + longest, dtype=torch.bool).tril(shared)
    if all(len(row.ids) == row.stem for row in rows):
        return every[None, None]
    each = every.repeat(len(rows), 1, 1)
    for number, row in enumerate(rows):
        if row.branches:
            own = slice(row.stem, len(row.ids))
            each[number, own, shared + row.stem : shared + len(row.ids)] = torch.from_numpy(row.branches.seen)
    return each[:, None]


def attention_mask(rows: Sequence[Row], shared: int, model: Any) -> Tensor:
    """`seen` as the model's attention takes it: bool, or numbers to be added to its scores."""
    mask = seen(rows, shared)
    if model.config._attn_implementation == "sdpa":
        return mask
    lowest = torch.finfo(model.dtype).min
    return torch.zeros(mask.shape, dtype=model.dtype).masked_fill(~mask, lowest)
