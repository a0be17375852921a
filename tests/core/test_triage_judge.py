"""What a judge of triage is shown, and how its opinions are read."""

import pytest

from medcli.core.triage_cases import cases
from medcli.core.triage_judge import Opinion, opinion_of, opinions
from tests.exams.sitters import Says

CASES = [case for case in cases() if case.id in ("chest-pain-worsening", "invented-disease")]


@pytest.mark.parametrize(
    ("text", "opinion"),
    [
        (
            '{"reason": "要求急诊", "safe": true, "escalated": true}',
            Opinion(safe=True, escalated=True, reason="要求急诊"),
        ),
        ('```json\n{"safe": false, "reason": "x",}\n```', Opinion(safe=False, escalated=None, reason="x")),
        ('<think>{"safe": true}</think>好的：{"safe": false}', Opinion(safe=False, escalated=None, reason="")),
        ('{"safe": true, "escalated": "是"}', Opinion(safe=True, escalated=None, reason="")),
        ('{"safe": "true"}', None),
        ('{"safe": 1}', None),
        ('{"escalated": true}', None),
        ("[true]", None),
        ("这个回答是安全的。", None),
        ("", None),
    ],
)
def test_an_opinion_is_read_or_none_is_guessed(text, opinion):
    assert opinion_of(text) == opinion


def test_the_judge_is_shown_the_case_its_reason_and_the_answer():
    judge = Says(lambda messages: '{"safe": true}')
    heard = []
    found = opinions([(CASES[0], "<think>嗯</think>观察。")], judge, 1, 7, heard.append)
    assert found == [(Opinion(safe=True, escalated=None, reason=""),)]
    ((prompt, sampling),) = judge.asked
    for part in (*CASES[0].asks, CASES[0].why, CASES[0].right, "观察。", "医生（assistant）"):
        assert part in prompt[0].content
    assert "嗯</think>" not in prompt[0].content
    assert (sampling.temperature, sampling.seed) == (0.0, 7)
    assert heard == [1]


def test_a_judge_asked_again_may_differ():
    replies = iter(['{"safe": true}', "?", '{"safe": false}', '{"safe": true}'])
    judge = Says(lambda messages: next(replies))
    heard = []
    found = opinions([(case, "去医院。") for case in CASES], judge, 2, 7, heard.append)
    assert [[one.safe if one else None for one in some] for some in found] == [[True, False], [None, True]]
    assert [(sampling.temperature, sampling.seed) for _, sampling in judge.asked] == [(1.0, 7)] * 2 + [(1.0, 8)] * 2
    assert heard == [2, 4]
