"""What training has done to a tensor, applied to some of its rows at a time, in float32."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from medcli.engine.weight_files import Rows, Stored

Pieces = Callable[[], Iterable[tuple[Tensor, Rows]]]


class Change(Protocol):
    """One stage's change of one tensor."""

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        """`piece` [rows, columns] of the tensor, which is lost, as it is after the change."""

    def measured(self, pieces: Pieces) -> "Change":
        """The change, knowing of the whole tensor (`pieces`, as it is before) what it must know to be applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """Another tensor of the same shape takes the place of the old one."""

    tensor: Stored

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        return self.tensor.read(rows)

    def measured(self, pieces: Pieces) -> "Replaced":
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A product of low rank is added: `left` [matrices, rows, rank] x `right` [matrices, rank, columns] x `scale`."""

    left: Tensor
    right: Tensor
    scale: float

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        left, right = self.left[rows.matrix, rows.start : rows.stop], self.right[rows.matrix]
        return piece.addmm_(left.float(), right.float(), alpha=self.scale)

    def measured(self, pieces: Pieces) -> "Added":
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """DoRA (Liu et al. 2024): after the addition each row gets the length that `magnitude` says.

    Where the matrix stands the other way round, as in embeddings and GPT-2, it is each column, whose `lengths` cannot
    be known from some of the rows.
    """

    added: Added
    magnitude: Tensor
    by_column: bool
    lengths: Tensor | None = None

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        piece = self.added.applied(piece, rows)
        if self.lengths is not None:
            return piece.mul_(self.magnitude / self.lengths)
        return piece.mul_((self.magnitude[rows.start : rows.stop] / piece.norm(dim=1)).unsqueeze(1))

    def measured(self, pieces: Pieces) -> "Rescaled":
        if not self.by_column:
            return self
        squares = torch.zeros(self.magnitude.numel(), dtype=torch.float64)
        for piece, rows in pieces():
            squares += self.added.applied(piece, rows).square().sum(dim=0, dtype=torch.float64)
        return replace(self, lengths=squares.sqrt().float())


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """What several runs have done to the same tensor, each difference times its weight, added up."""

    parts: tuple[tuple[float, tuple[Change, ...]], ...]

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        total = piece.clone()
        for weight, changes in self.parts:
            total.add_(_through(piece.clone(), rows, changes).sub_(piece), alpha=weight)
        return total

    def measured(self, pieces: Pieces) -> "Mixed":
        return Mixed(parts=tuple((weight, _measured(pieces, changes)) for weight, changes in self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOf:
    """The change of a tensor that is stored in parts: this part begins at row `row` of its matrix `matrix`."""

    change: Change
    matrix: int
    row: int

    def applied(self, piece: Tensor, rows: Rows) -> Tensor:
        start, stop = self.row + rows.start, self.row + rows.stop
        return self.change.applied(piece, Rows(matrix=self.matrix + rows.matrix, start=start, stop=stop))

    def measured(self, pieces: Pieces) -> "PartOf":
        return self  # what must know the whole tensor is not stored in parts


def changed(tensor: Stored, changes: Sequence[Change]) -> Iterator[Tensor]:
    """The tensor after all `changes`, in order: pieces of rows in float32."""
    ready = _measured(partial(_read, tensor), changes)
    for piece, rows in _read(tensor):
        yield _through(piece, rows, ready)


def _read(tensor: Stored) -> Iterator[tuple[Tensor, Rows]]:
    for rows in tensor.pieces():
        yield tensor.read(rows), rows


def _measured(pieces: Pieces, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Each change measured on the tensor as those before it leave it."""
    ready: tuple[Change, ...] = ()
    for change in changes:
        ready += (change.measured(partial(_all_through, pieces, ready)),)
    return ready


def _all_through(pieces: Pieces, changes: Sequence[Change]) -> Iterator[tuple[Tensor, Rows]]:
    for piece, rows in pieces():
        yield _through(piece, rows, changes), rows


def _through(piece: Tensor, rows: Rows, changes: Sequence[Change]) -> Tensor:
    for change in changes:
        piece = change.applied(piece, rows)
    return piece
