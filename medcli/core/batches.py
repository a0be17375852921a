"""Rows by the handful."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows, the last one maybe shorter."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch
