"""What judges write, read or refused; nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.dialogue_verdict import AXES, reason_of, side_of, verdict_of


def marks(said):
    """The four marks in order, or None."""
    verdict = verdict_of(said)
    return [verdict.marks[axis] for axis in AXES] if verdict else None


OURS = {axis: {"reason": f"理由{mark}", "score": mark} for axis, mark in zip(AXES, (5, 4, 3.5, 2), strict=True)}
LINES = "Proactivity: 5\nAccuracy: 4\nHelpfulness: 3.5\nLinguistic Quality: 2"


def test_reads_what_our_judge_is_asked_for():
    verdict = verdict_of(json.dumps(OURS, ensure_ascii=False))
    assert marks(json.dumps(OURS)) == [5, 4, 3.5, 2]
    assert verdict.reasons == {
        "proactivity": "理由5",
        "accuracy": "理由4",
        "helpfulness": "理由3.5",
        "language": "理由2",
    }


@pytest.mark.parametrize(
    "said",
    [
        f"```json\n{json.dumps(OURS)}\n```",
        f"好的，评分如下：{json.dumps(OURS, ensure_ascii=False)}以上。",
        f"[评分] {json.dumps(OURS)}",
        json.dumps(OURS)[:-1] + ",}",
        json.dumps({"scores": OURS}),
        OURS,
        {"Proactivity": 5, "accuracy": 4.0, "HELPFULNESS": "3.5", "language_quality": "2/5"},
        {"主动性": {"分数": 5, "理由": "问了"}, "准确性": {"评分": "4分"}, "有用性": {"得分": 3.5}, "语言质量": 2},
        '{"proactivity": 5, "accuracy": 4, "helpfulness": 3.5, "linguistic quality": 2}',
        f"<think>{json.dumps(dict.fromkeys(AXES, 1))}</think>{json.dumps(OURS)}",
        f"格式：{json.dumps(dict.fromkeys(AXES, 1))}\n结果：{json.dumps(OURS)}",
        json.dumps(dict.fromkeys(AXES, "1-5")) + json.dumps(OURS),
        LINES,
        f"```\n{LINES}\n```",
        LINES.replace("\n", ", "),
        LINES.upper(),
        "主动性：5\n准确性：4\n有用性：3.5\n语言质量：2",
        "主动性: 5分\n准确性: 4/5\n有用性: 3.5 分\n语言质量: 2 / 5",
        "**Proactivity**: **5**\n**Accuracy:** 4\n- Helpfulness = 3.5\n\"Language\": 2",
        "Proactivity: 5 (asks well)\nAccuracy: 4 out of 5\nHelpfulness: 3.5。\nLinguistic quality (fluency): 2",
        f"{LINES}\n\nIn short:\n{LINES}",
    ],
)  # fmt: skip
def test_reads(said):
    assert marks(said) == [5, 4, 3.5, 2]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "医生表现很好。",
        "5 4 3 2",
        LINES.replace("5", "6"),
        LINES.replace("5", "0"),
        LINES.replace("5", "-1"),
        LINES.replace("5", "5.5"),
        LINES.replace("5", "10"),
        LINES.replace("Proactivity: 5", "Proactivity: 8/10"),
        LINES.replace("Proactivity: 5", "Proactivity: 4-5"),
        LINES.replace("Proactivity: 5", "Proactivity: x"),
        LINES.replace("Proactivity: 5\n", ""),
        f"{LINES}\nProactivity: 4",
        json.dumps(dict.fromkeys(AXES[:3], 4)),
        json.dumps({axis: {"reason": "好"} for axis in AXES}),
        json.dumps(dict.fromkeys(AXES, True)),
        json.dumps(dict.fromkeys(AXES, "1-5")),
        json.dumps(dict.fromkeys(AXES)),
        json.dumps(dict.fromkeys(AXES, [4])),
        json.dumps(dict.fromkeys(AXES, 10**400)),
        json.dumps(dict.fromkeys(AXES, float("nan"))),
        '{"accuracy": ' + "[" * 100_000,
        json.dumps(dict.fromkeys(AXES, 4)) + json.dumps(dict.fromkeys(AXES, 6)),
        None,
        4,
        ["Proactivity: 5"],
        {},
    ],
)  # fmt: skip
def test_refuses(said):
    assert marks(said) is None


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ('{"reason": "问得细", "winner": "A"}', "A"),
        ('```json\n{"winner": "b", "reason": "x",}\n```', "B"),
        ('{"winner": "tie"}', "tie"),
        ('{"winner": "平局"}', "tie"),
        ('{"winner": "医生 B"}', "B"),
        ('格式 {"winner": "A 或 B 或 tie"} 结果 {"winner": "B"}', "B"),
        ('<think>{"winner": "A"}</think>{"winner": "B"}', "B"),
        ("A 更好。[[A]]", "A"),
        ("[[C]]", "tie"),
        ('{"winner": "A 或 B 或 tie"}', None),
        ('{"winner": "AB"}', None),
        ("两个都好", None),
        ("", None),
    ],
)
def test_reads_which_is_better(said, side):
    assert side_of(said) == side


def test_reads_why_it_is_better():
    assert reason_of('{"reason": "问得细", "winner": "A"}') == "问得细"
    assert reason_of("[[A]]") == ""


@given(st.text('{}[]":,.015/- accuracylanguage主动性helpfulness', max_size=80))
def test_whatever_is_said_is_read_or_refused(text):
    for said in (text, f"{LINES}{text}", json.dumps(OURS) + text):
        assert all(1 <= mark <= 5 for mark in marks(said) or [])
    side_of(text)
