"""Corpus BLEU against sacrebleu's own function."""

import random

import pytest
import sacrebleu

from medcli.core.score import Answer
from medcli.metrics import corpus_bleu
from tests.metrics import pairs


def figure(answers, seed=1):
    (found,) = corpus_bleu.figures(answers, seed)
    return found


def oracle(answers):
    texts, references = [answer.text for answer in answers], [answer.reference for answer in answers]
    return sacrebleu.corpus_bleu(texts, [references], tokenize="zh").score / 100


CORPORA = [
    pairs.odd(),
    pairs.drawn(1, 60),
    pairs.drawn(2, 60, longest=5),  # hardly a 4-gram, so smoothing counts
    pairs.drawn(3, 40, letters="ab .,-/0123456789头"),
    [Answer(text=text, reference=text) for text in ("多喝水，注意休息。", "ok.")],
    [Answer(text="", reference="头痛"), Answer(text=" ", reference="")],
    list(pairs.long().values()),
]


@pytest.mark.parametrize("answers", CORPORA)
def test_equals_sacrebleu(answers):
    assert figure(answers).value == pytest.approx(oracle(answers), abs=1e-12)


@pytest.mark.parametrize("answer", pairs.odd()[:3] + pairs.drawn(4, 6))
def test_of_one_answer_it_equals_sacrebleu_and_has_no_width(answer):
    found = figure([answer])
    assert found.value == found.low == found.high == pytest.approx(oracle([answer]), abs=1e-12)


def test_the_interval_is_that_of_whole_corpora_drawn_anew():
    answers = pairs.drawn(5, 50, letters="头痛发热")
    found = figure(answers)
    draw = random.Random(6)
    drawn = sorted(oracle(draw.choices(answers, k=50)) for _ in range(120))
    assert found.low == pytest.approx(drawn[3], abs=0.03)
    assert found.high == pytest.approx(drawn[-4], abs=0.03)
    assert found.count == 50


def test_a_perfect_corpus_is_no_more_than_perfect():
    found = figure([Answer(text="多喝水，注意休息。", reference="多喝水，注意休息。")] * 3)
    assert found.value == found.low == found.high == 1


def test_many_answers_that_end_in_a_lonely_full_stop_give_no_warning(caplog):
    figure([Answer(text="没事 .", reference="没事 .")] * 120)
    assert not caplog.records
