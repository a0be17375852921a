"""Padded epochs: every row once, an order of its own for seed and epoch, and little padding."""

import numpy
import pytest

from medcli.core.batches import batches
from medcli.engine.dealt import Filled
from medcli.engine.length_groups import LengthGroups, padding
from medcli.engine.pack import Example, Examples

LENGTHS = (
    numpy.random.default_rng(0).lognormal(4.5, 0.8, 3003).astype(int) + 4
)  # as dialogues are: many short, few long


def examples(lengths=LENGTHS):
    return Examples(Example(ids=numpy.zeros(n, numpy.int32), trained=numpy.zeros(n, bool)) for n in lengths)


def order(data, rows=8, seed=42, epoch=0):
    return list(LengthGroups(data, rows, seed, lambda: epoch))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 3003])
def test_every_row_comes_once(count):
    data = examples(LENGTHS[:count])
    found = order(data)
    assert sorted(found) == list(range(count))
    assert len(LengthGroups(data, 8, 42, lambda: 0)) == count


def test_the_order_is_that_of_seed_and_epoch():
    data = examples()
    assert order(data) == order(data)
    assert order(data) != order(data, epoch=1)
    assert order(data) != order(data, seed=43)


def test_little_of_a_batch_is_padding():
    data = examples()
    shuffled = numpy.random.default_rng(1).permutation(len(LENGTHS))
    assert padding(LENGTHS, shuffled, 8) > 0.4
    assert padding(LENGTHS, order(data), 8) < 0.1


def test_padding_is_counted_over_all_positions():
    assert padding(numpy.array([1, 3, 2]), [0, 1, 2], 2) == pytest.approx(1 - 6 / 8)  # rows of 3 and 3, then of 2
    assert padding(numpy.array([5, 5]), [1, 0], 2) == 0


def test_the_longest_batch_comes_first_and_the_rest_is_in_no_order_of_length():
    longest = [int(LENGTHS[list(batch)].max()) for batch in batches(order(examples()), 8)]
    assert longest[0] == max(longest[:-1])
    assert abs(numpy.corrcoef(numpy.arange(len(longest) - 2), longest[1:-1])[0, 1]) < 0.2


def test_processes_meet_the_same_rows_and_then_the_empty_ones():
    data = examples(LENGTHS[:21])
    assert order(Filled(data, 8)) == [*order(data), 21, 22, 23]
