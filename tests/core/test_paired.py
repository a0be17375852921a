"""Differences over the same items, against what can be counted out by hand."""

import random
from collections import Counter
from itertools import product
from math import comb, sqrt
from statistics import fmean, stdev

import pytest

from medcli.core.paired import (
    DRAWS,
    Preferred,
    difference,
    holm,
    mcnemar,
    p_value,
    paired_bootstrap,
    share_interval,
    sign_flip,
    unpaired,
)
from medcli.core.score import score_of
from medcli.core.units import lower_is_better


def shares_as_far_from_zero(gaps):
    """The sign-flip test by its definition: all signs, one after the other."""
    seen = abs(sum(gaps))
    sums = [
        abs(sum(sign * gap for sign, gap in zip(signs, gaps, strict=True)))
        for signs in product((1, -1), repeat=len(gaps))
    ]
    return sum(one >= seen - 1e-9 for one in sums) / len(sums)


def exact_of_whole_numbers(gaps):
    """The same for many gaps that are whole numbers: how often each sum comes out."""
    ways = Counter({0: 1})
    for gap in gaps:
        ways = sum(
            (Counter({total + sign * gap: count for total, count in ways.items()}) for sign in (1, -1)), Counter()
        )
    return sum(count for total, count in ways.items() if abs(total) >= abs(sum(gaps))) / 2 ** len(gaps)


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (1, 0), (0, 5), (2, 2), (1, 8), (7, 4)])
def test_mcnemar_is_what_all_coins_give(only_one, only_other):
    items = only_one + only_other
    far = abs(only_one - only_other)
    tosses = list(product((1, -1), repeat=items))
    assert mcnemar(only_one, only_other) == pytest.approx(sum(abs(sum(toss)) >= far for toss in tosses) / len(tosses))


def test_mcnemar_of_known_tables():
    assert mcnemar(2, 10) == pytest.approx(0.03857422, abs=1e-8)  # R: binom.test(2, 12)$p.value
    assert mcnemar(5, 15) == pytest.approx(0.04138947, abs=1e-8)  # R: binom.test(5, 20)$p.value
    assert 0 <= mcnemar(0, 5000) < 1e-300
    assert mcnemar(5000, 5000) == 1


def test_mcnemar_errs_no_more_often_than_it_says():
    for items in (1, 6, 13, 40):
        wrong = sum(comb(items, ones) for ones in range(items + 1) if mcnemar(ones, items - ones) < 0.05) / 2**items
        assert wrong < 0.05


def test_signs_are_tried_one_by_one_where_gaps_are_few():
    draw = random.Random(1)
    for count in (1, 2, 5, 9):
        gaps = [round(draw.uniform(-1, 1.5), 2) for _ in range(count)]
        assert sign_flip(gaps, seed=0) == pytest.approx(shares_as_far_from_zero(gaps))
    assert sign_flip([0.0, 0.0], seed=0) == 1
    assert sign_flip([0.1 + 0.2, -0.3], seed=0) == 1  # 0.30000000000000004


def test_signs_drawn_at_random_come_near_all_signs():
    draw = random.Random(2)
    for shift in (0, 1, 2):
        gaps = [draw.randint(-4, 4) + shift for _ in range(40)]
        exact = exact_of_whole_numbers(gaps)
        error = 4 * sqrt(exact * (1 - exact) / DRAWS) + 2 / DRAWS
        assert sign_flip(gaps, seed=3) == pytest.approx(exact, abs=error)


def test_a_sign_flip_is_never_nothing_and_repeatable():
    gaps = [1.0] * 60
    assert sign_flip(gaps, seed=4) == 1 / (DRAWS + 1)
    mixed = [1.0, -0.5, 0.25, 2.0] * 6
    assert sign_flip(mixed, seed=5) == sign_flip(mixed, seed=5)


def test_right_and_wrong_give_the_same_p_by_both_tests():
    ones, others = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    assert p_value(ones, others, 0, shares=True) == pytest.approx(p_value(ones, others, 0, shares=False))


def test_p_is_uniform_where_two_models_are_alike():
    draw = random.Random(6)
    ps = [sign_flip([draw.gauss(0, 1) for _ in range(14)], seed=seed) for seed in range(400)]
    for level in (0.05, 0.25, 0.5, 0.75):
        assert sum(p <= level for p in ps) / len(ps) == pytest.approx(level, abs=3.5 * sqrt(level * (1 - level) / 400))


def test_swapping_the_models_turns_everything_round():
    draw = random.Random(7)
    ones, others = ([draw.random() for _ in range(50)] for _ in range(2))
    right, wrong = ([float(draw.random() < share) for _ in range(50)] for share in (0.7, 0.4))
    for first, second, shares in ((ones, others, False), (right, wrong, True)):
        there, back = difference(first, second, 8, shares=shares), difference(second, first, 8, shares=shares)
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
        assert p_value(first, second, 8, shares=shares) == p_value(second, first, 8, shares=shares)


def test_the_bootstrap_is_near_the_normal_interval():
    draw = random.Random(9)
    gaps = [draw.gauss(0.2, 1) for _ in range(800)]
    low, high = paired_bootstrap(gaps, seed=10)
    half = 1.96 * stdev(gaps) / sqrt(800)
    assert low == pytest.approx(fmean(gaps) - half, abs=half / 5)
    assert high == pytest.approx(fmean(gaps) + half, abs=half / 5)


def test_pairing_takes_off_what_both_have_in_common():
    draw = random.Random(11)
    hardness = [draw.random() for _ in range(300)]
    ones, others = ([hard + draw.gauss(0, 0.02) for hard in hardness] for _ in range(2))
    paired = difference(ones, others, 12, shares=False)
    apart = unpaired(score_of("rouge-l", ones), score_of("rouge-l", others))
    assert paired.high - paired.low < (apart.high - apart.low) / 5


def test_the_interval_of_two_shares_by_hand():
    # 21 items, 7 only the one got right and 1 only the other: (2 - 8) / 23 ± 1.959964 √((10/23 - (6/23)²) / 23)
    assert share_interval(7, 1, 21) == pytest.approx((-0.508352, -0.013387), abs=1e-5)
    assert share_interval(0, 0, 3) == pytest.approx((-0.554362, 0.554362), abs=1e-5)  # nothing differs, and no proof
    assert share_interval(0, 1, 1) == (pytest.approx(-0.733536, abs=1e-5), 1.0)


@pytest.mark.parametrize("count", [20, 60])
@pytest.mark.parametrize(("only_one", "only_other"), [(0.1, 0.1), (0.05, 0.2), (0.3, 0.15)])
def test_the_interval_of_two_shares_covers_what_it_says(count, only_one, only_other):
    covered = 0.0
    for ones in range(count + 1):
        for others in range(count + 1 - ones):
            rest = count - ones - others
            chance = comb(count, ones) * comb(count - ones, others) * only_one**ones * only_other**others
            low, high = share_interval(ones, others, count)
            if low <= only_other - only_one <= high:
                covered += chance * (1 - only_one - only_other) ** rest
    assert 0.93 < covered < 0.99


def test_figures_that_are_not_paired_have_the_interval_of_newcombe():
    one, other = score_of("", [1.0] * 48 + [0.0] * 32), score_of("", [1.0] * 56 + [0.0] * 14)
    found = unpaired(one, other)
    # Newcombe 1998, table II, method 10: 56/70 - 48/80
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert not found.holds_zero


def test_holm():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_several_tests_together_err_no_more_often_than_one():
    draw = random.Random(13)
    families = [[draw.random() for _ in range(12)] for _ in range(2000)]
    assert sum(min(holm(ps)) < 0.05 for ps in families) / 2000 == pytest.approx(0.05, abs=0.015)
    assert sum(min(ps) < 0.05 for ps in families) / 2000 > 0.4


def test_a_judges_preference_is_tested_without_ties():
    assert Preferred(wins=10, losses=2, ties=88, consistency=0.9).p == mcnemar(2, 10)


def test_less_is_better_of_some():
    assert all(map(lower_is_better, ("perplexity", "over-triage", "unsafe-advice", "ece", "brier", "risk-at-80%")))
    assert not any(map(lower_is_better, ("accuracy", "rouge-l", "recall")))
