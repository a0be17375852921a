"""What every metric keeps to, and exact match."""

import tracemalloc

import pytest

from medcli.core.sameness import is_same
from medcli.core.score import Answer
from medcli.core.shelf import Shelf
from medcli.exams import generation
from tests.metrics import pairs

METRICS = Shelf("medcli.metrics", "metric")
OF_THE_ANSWER_ALONE = {"length", "repetition"}  # which ask no reference
MOST_MEMORY = 64 * 2**20

ANSWERS = [
    Answer(text=text, reference=reference)
    for text, reference in [
        ("多喝水，注意休息", "多喝水，注意休息"),
        ("", "头痛"),
        ("头痛", ""),
        ("。", "头痛"),
        ("", ""),
    ]
]


def same_columns(one, other):
    return one.keys() == other.keys() and all(one[name] == pytest.approx(other[name]) for name in one)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_keeps_the_contract(name):
    metric = METRICS.get(name)
    assert metric.HELP
    columns = metric.scores(ANSWERS)
    assert columns or metric.figures(ANSWERS, 1)
    for column in columns.values():
        assert len(column) == len(ANSWERS)
        assert all(isinstance(value, float) and value >= 0 for value in column)
    if name not in OF_THE_ANSWER_ALONE:
        assert all(column == [pytest.approx(1), 0, 0, 0, 0] for column in columns.values())
    assert all(column == [] for column in metric.scores([]).values())
    assert metric.figures([], 1) == []


@pytest.mark.parametrize("name", METRICS.names())
def test_odd_text_gives_shares(name):
    metric = METRICS.get(name)
    for column in metric.scores(pairs.odd()).values():
        assert name == "length" or all(0 <= value <= 1 + 1e-12 for value in column)
    for answers in (pairs.odd(), pairs.odd()[:1], [Answer(text="", reference="")] * 30):
        for figure in metric.figures(answers, 1):
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
            assert figure.count == len(answers)


@pytest.mark.parametrize("name", METRICS.names())
def test_values_do_not_hang_on_the_company(name):
    metric, answers = METRICS.get(name), pairs.odd() + pairs.drawn(8, 20)
    alone = [metric.scores([answer]) for answer in answers]
    together = metric.scores(answers)
    assert same_columns(together, {metric: [row[metric][0] for row in alone] for metric in together})


@pytest.mark.parametrize("name", METRICS.names())
def test_a_long_pair_takes_little_memory(name):
    # Words that no dictionary has cost jieba most; of all else it is many different pieces.
    metric, answer = METRICS.get(name), pairs.long()["rare" if name == "rouge" else "random"]
    metric.scores(ANSWERS), metric.figures(ANSWERS, 1)  # what is loaded once is not the pair's
    tracemalloc.start()
    metric.scores([answer]), metric.figures([answer], 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY


@pytest.mark.parametrize("name", [name for name in METRICS.names() if name not in OF_THE_ANSWER_ALONE | {"distinct"}])
def test_a_long_text_is_like_itself(name):
    metric, answers = METRICS.get(name), [pairs.long()["equal"]]
    found = [*(column[0] for column in metric.scores(answers).values())]
    found += [figure.value for figure in metric.figures(answers, 1)]
    assert found == pytest.approx([1] * len(found))


def test_figures_are_repeatable():
    answers = pairs.drawn(9, 60)
    for name in METRICS.names():
        figures = METRICS.get(name).figures(answers, 3)
        assert figures == METRICS.get(name).figures(answers, 3)
        assert all(figure.low < figure.value < figure.high for figure in figures)


def test_the_exam_takes_every_metric():
    assert sorted(generation.METRICS) == METRICS.names()


@pytest.mark.parametrize(
    ("text", "reference", "same"),
    [
        ("多喝水。", "多喝水", True),
        ("多 喝\n水！", "多喝水", True),
        ("Ｂ型", "B型", True),
        ("5%", "5", False),
        ("多喝水", "少喝水", False),
        ("。", "！", False),
        ("", "", False),
    ],
)
def test_exact_match_looks_past_form(text, reference, same):
    assert is_same(text, reference) is same
