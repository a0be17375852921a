"""chrF against sacrebleu's own function, and against its formula."""

import random
from collections import Counter
from statistics import fmean

import pytest
from sacrebleu import sentence_chrf

from medcli.core.score import Answer
from medcli.metrics import chrf
from tests.metrics import pairs


def values(answers):
    return chrf.scores(answers)["chrf"]


def formula(text, reference):
    """Popović 2015 with β 2, over the orders that both texts have."""
    text, reference = "".join(text.split()), "".join(reference.split())
    precisions, recalls = [], []
    for size in range(1, 7):
        said, wanted = (
            Counter(one[start : start + size] for start in range(len(one) - size + 1)) for one in (text, reference)
        )
        if said and wanted:
            precisions.append((said & wanted).total() / said.total())
            recalls.append((said & wanted).total() / wanted.total())
    precision, recall = (fmean(found) if found else 0 for found in (precisions, recalls))
    return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0


@pytest.mark.parametrize("answers", [pairs.odd(), pairs.drawn(1, 200), list(pairs.long().values())])
def test_equals_sacrebleu_and_the_formula(answers):
    found = values(answers)
    assert found == [sentence_chrf(answer.text, [answer.reference]).score / 100 for answer in answers]
    assert found == pytest.approx([formula(answer.text, answer.reference) for answer in answers])


def test_what_is_left_out_costs_more_than_what_is_added():
    draw = random.Random(2)
    text = "".join(draw.sample("头痛发热咳嗽乏力恶心呕吐腹泻便秘胸闷气短", k=20))
    short, long = values([Answer(text=text[:10], reference=text), Answer(text=text, reference=text[:10])])
    assert short < long < 1
