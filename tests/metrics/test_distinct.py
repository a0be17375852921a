"""Distinct-n against sets, and its interval against the jackknife done by hand."""

import random
from statistics import fmean

import pytest

from medcli.core.score import Answer
from medcli.metrics import distinct
from tests.metrics import pairs


def answers_of(*texts):
    return [Answer(text=text, reference="") for text in texts]


def share(answers, size):
    grams = []
    for answer in answers:
        packed = "".join(answer.text.split())
        grams += [packed[start : start + size] for start in range(len(packed) - size + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


@pytest.mark.parametrize("answers", [pairs.odd(), pairs.drawn(1, 100), list(pairs.long().values())])
def test_equals_the_definition(answers):
    one, two = distinct.figures(answers, 1)
    assert (one.metric, two.metric) == ("distinct-1", "distinct-2")
    assert (one.value, two.value) == (share(answers, 1), share(answers, 2))


def test_pairs_of_characters_do_not_reach_over_answers():
    one, two = distinct.figures(answers_of("头痛", "痛头", "头痛"), 1)
    assert one.value == pytest.approx(2 / 6)
    assert two.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [2, 7, 20, 60])
def test_the_interval_is_the_jackknifes(count):
    answers = pairs.drawn(2, count, longest=80)
    groups = [index % 20 for index in range(count)]
    random.Random(3).shuffle(groups)
    for size, figure in enumerate(distinct.figures(answers, 3), 1):
        kinds = sorted(set(groups))
        without = [share([a for a, of in zip(answers, groups, strict=True) if of != kind], size) for kind in kinds]
        error = ((len(kinds) - 1) / len(kinds) * sum((one - fmean(without)) ** 2 for one in without)) ** 0.5
        quantile = {2: 12.706, 7: 2.447, 20: 2.093}[len(kinds)]
        assert figure.low == pytest.approx(max(0, figure.value - quantile * error))
        assert figure.high == pytest.approx(min(1, figure.value + quantile * error))


def test_the_interval_holds_what_other_draws_give():
    draw = random.Random(4)
    words = ["".join(draw.choices("甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥", k=2)) for _ in range(150)]
    sets = [answers_of(*("".join(draw.choices(words, k=12)) for _ in range(40))) for _ in range(100)]
    found = [distinct.figures(answers, 1)[1] for answers in sets]
    wanted = fmean(figure.value for figure in found)
    assert sum(figure.low <= wanted <= figure.high for figure in found) >= 88


def test_one_answer_tells_nothing_of_others():
    assert {(figure.low, figure.high) for figure in distinct.figures(answers_of("头痛"), 1)} == {(0.0, 1.0)}


def test_there_is_a_quantile_for_every_number_of_groups():
    assert len(distinct._T) == distinct.GROUPS - 1
    assert list(distinct._T) == sorted(distinct._T, reverse=True)
