"""What every metric keeps to, and exact match."""

import pytest

from medcli.core.sameness import is_same
from medcli.core.score import Answer
from medcli.exams import generation
from medcli.steps.evaluate import METRICS

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


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_keeps_the_contract(name):
    metric = METRICS.get(name)
    assert metric.HELP
    columns = metric.scores(ANSWERS)
    assert columns
    for column in columns.values():
        assert len(column) == len(ANSWERS)
        assert all(isinstance(value, float) and 0 <= value <= 1 for value in column)
        assert column[0] == pytest.approx(1)
        assert column[1:] == [0, 0, 0, 0]
    assert all(column == [] for column in metric.scores([]).values())


def test_the_exam_names_metrics_that_exist():
    assert set(generation.METRICS) <= set(METRICS.names())


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
