"""What --dataset and --replay take of each set."""

from collections import Counter

import pytest

from medcli.core.errors import UsageError
from medcli.core.mixture import Share, chosen, shares_of, with_replay


def test_names_weights_and_caps():
    assert shares_of(["a", "b:0.3", "c:5000", "data/d:2.0", "C:/e"], ["g:0.2", "h"]) == [
        Share(name="a"),
        Share(name="b", times=0.3),
        Share(name="c", cap=5000),
        Share(name="data/d", times=2.0),
        Share(name="C:/e"),
        Share(name="g", replay=0.2),
        Share(name="h", replay=0.1),
    ]


@pytest.mark.parametrize("text", ["a:0", "a:0.0", "a:-1", "a:x", "a:nan", "a:inf", "a:"])
def test_a_number_that_takes_nothing_is_refused(text):
    with pytest.raises(UsageError, match="a"):
        shares_of([text])


@pytest.mark.parametrize("text", ["g:0", "g:1", "g:1.5", "g:nan"])
def test_a_replay_that_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="g"):
        shares_of(["a"], [text])


def test_a_set_named_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        shares_of(["a", "a:0.5"])


def test_as_many_as_asked_for_without_repeats_and_by_the_seed():
    assert list(chosen(Share(name="a"), 5, 1)) == [0, 1, 2, 3, 4]
    some = list(chosen(Share(name="a", times=0.3), 1000, 1))
    assert len(some) == len(set(some)) == 300
    assert some == sorted(some)
    assert some == list(chosen(Share(name="a", times=0.3), 1000, 1))
    assert some != list(chosen(Share(name="a", times=0.3), 1000, 2))
    assert some != list(chosen(Share(name="b", times=0.3), 1000, 1))
    assert len(list(chosen(Share(name="a", cap=7), 1000, 1))) == 7
    assert len(list(chosen(Share(name="a", cap=5000), 1000, 1))) == 1000
    assert list(chosen(Share(name="a", times=0.5), 0, 1)) == []


def test_more_than_once_is_evenly_more():
    times = Counter(chosen(Share(name="a", times=2.5), 10, 1))
    assert Counter(times.values()) == {2: 5, 3: 5}


def test_replay_makes_up_its_part_of_the_whole():
    shares = with_replay(shares_of(["a", "b:0.5"], ["g:0.1", "h:0.3"]), [1000, 400, 9999, 100])
    counts = [share.count(records) for share, records in zip(shares, [1000, 400, 9999, 100], strict=True)]
    assert counts == [1000, 200, 200, 100]  # of 2,000: a tenth is g; h has no more than 100
    with pytest.raises(UsageError, match="no room"):
        with_replay(shares_of(["a"], ["g:0.6", "h:0.4"]), [1, 1, 1])
