"""Bounds for scripts."""

import pytest

from medcli.core.errors import BoundMissed, UsageError
from medcli.core.exam_settings import EvalSettings
from medcli.steps.bounds import bounds_of, check
from tests.examinations import examination, marked


def found():
    return [examination("base", [marked(f"q{number}", value) for number, value in enumerate((1, 1, 0, 1))])]


def bounds(least=(), most=()):
    return bounds_of(EvalSettings(min=least, max=most))


def test_what_is_reached_passes():
    check(found(), bounds(("accuracy=0.75",), ("accuracy=0.75",)))
    check(found(), bounds(("choice:accuracy=0.5", "cmb-test:accuracy=0.5")))


def test_all_that_is_missed_is_told():
    with pytest.raises(BoundMissed, match="accuracy is 0.75, and --min accuracy=0.8") as caught:
        check(found(), bounds(("accuracy=0.8",), ("cmb-test:accuracy=0.5",)))
    assert "--max cmb-test:accuracy=0.5" in caught.value.message
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "=0.5", "accuracy=viel", "cmb:=1"])
def test_what_is_no_bound_is_told_before_all_else(text):
    with pytest.raises(UsageError, match="is no bound"):
        bounds((text,))


@pytest.mark.parametrize(
    ("text", "said"), [("acuracy=0.5", "did you mean 'accuracy'?"), ("other:accuracy=1", "did you mean")]
)
def test_a_figure_that_is_not_there_is_told(text, said):
    with pytest.raises(UsageError) as caught:
        check(found(), bounds((text,)))
    assert said in caught.value.hint
