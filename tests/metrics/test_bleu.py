"""BLEU against nltk, which is needed only here."""

import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.metrics.bleu import sentence_bleu
from tests.metrics import pairs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of nltk's own imports, which are not ours to mend
    from nltk.translate.bleu_score import SmoothingFunction
    from nltk.translate.bleu_score import sentence_bleu as nltk_bleu

PAIRS = [
    *pairs.ODD,
    ("头痛了", "头痛了吗"),
    ("the the the the the", "the cat is on the mat"),
    ("多喝水，注意休息。", "注意休息，多喝水。"),
    ("建议您到医院做血常规检查", "建议到医院检查血常规"),
    ("高血压\n糖尿病", "高血压 糖尿病"),
]


def oracle(text, reference):
    return float(nltk_bleu([list(reference)], list(text), smoothing_function=SmoothingFunction().method3))


@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_equals_nltk_on_odd_pairs(text, reference):
    assert sentence_bleu(text, reference) == pytest.approx(oracle(text, reference), abs=1e-12)


def test_equals_nltk_on_random_pairs():
    draw = random.Random(1)
    for _ in range(300):
        text, reference = ("".join(draw.choices("头痛发热咳，。", k=draw.randrange(30))) for _ in range(2))
        assert sentence_bleu(text, reference) == pytest.approx(oracle(text, reference), abs=1e-12)


@pytest.mark.parametrize("answer", pairs.long().values(), ids=pairs.long())
def test_equals_nltk_on_long_pairs(answer):
    found = sentence_bleu(answer.text, answer.reference)
    assert found == pytest.approx(oracle(answer.text, answer.reference), abs=1e-12)


@given(st.text(max_size=60), st.text(max_size=60))
def test_lies_between_0_and_1(text, reference):
    assert 0 <= sentence_bleu(text, reference) <= 1 + 1e-12


@given(st.text(min_size=4, max_size=60))
def test_a_perfect_answer_scores_1(text):
    assert sentence_bleu(text, text) == pytest.approx(1)
