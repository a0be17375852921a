"""How a comparison is printed."""

import json
from dataclasses import replace

import pytest

from medcli.cli import eval_compare
from medcli.core.catalogue import translated
from medcli.core.paired import Preferred
from medcli.core.speaker import DISCLAIMER
from medcli.steps.compare import compare
from tests.examinations import both

LONG = "头晕可能是高血压引起的，请连续监测血压。" * 60


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def show(*exams, **given):
        found = compare([one for one, _ in exams], [other for _, other in exams], seed=1, **given)
        eval_compare.show(found)
        return capsys.readouterr()

    return show


def cells(line):
    return sum(2 if "\u2e80" <= character <= "\uffef" else 1 for character in line)


def answers_of(side, **texts):
    return replace(side, marked=tuple(replace(one, answer=texts.get(one.item.id, one.answer)) for one in side.marked))


def test_figures_come_first_then_answers(printed):
    out = printed(both([1] * 30 + [0] * 30, [0] * 5 + [1] * 50 + [0] * 5, groups=[("甲",), ("乙",)] * 30)).out
    for said in (
        "lora against base",
        "On cmb-test, lora has accuracy 83.3 %, base 50.0 %: 33.3 points more",
        "cmb-test: accuracy, %, n = 60",
        "p < 0.001 (exact McNemar test): better",
        "lora is better on 25, as good on 30, worse on 5",
        "甲        30  50.0  83.3",
        "+33.3*",
        "cmb-test, q0: lora is worse",
        "wanted: 多喝水",
        "right                                   wrong",
    ):
        assert said in out
    assert out.index("as good on") < out.index("cmb-test, q0")
    assert "\x1b" not in out  # no terminal, no colours


def test_losses_come_before_wins_and_both_are_shown(printed):
    captured = printed(both([1] * 9 + [0] * 9, [0] * 9 + [1] * 9))
    told = [line.split(", ")[1].split(":")[0] for line in captured.out.splitlines() if line.startswith("cmb-test, q")]
    assert told == ["q0", "q1", "q2", "q9", "q10"]
    assert "13 more answers of cmb-test differ" in captured.err
    told = [line for line in printed(both([0] * 9, [1] * 9)).out.splitlines() if line.startswith("cmb-test, q")]
    assert len(told) == 5


def test_answers_of_several_exams_share_the_room(printed):
    exams = [both([1] * 9, [0] * 9, exam=name) for name in ("a", "b", "general")]
    out = printed(*exams).out
    assert [out.count(f"\n{name}, q") for name in ("a", "b", "general")] == [1, 1, 1]
    assert "general ability: general, accuracy: 100.0 % → 0.0 %" in out


def test_columns_are_as_wide_as_the_terminal_in_cells(printed):
    one, other = both([1, 0], [0, 0])
    out = printed((answers_of(one, q0=LONG), answers_of(other, q0=LONG))).out
    beside = [line for line in out.splitlines() if line.count("血压") >= 2 or line.count("的") >= 2]
    assert len(beside) > 20
    assert all(cells(line) <= 80 for line in beside)
    assert "…" in out  # 1,200 characters are not all shown


def test_control_characters_of_an_answer_do_nothing(printed):
    one, other = both([1, 0], [0, 0])
    out = printed((one, answers_of(other, q0="好\x1b[31m的\x07\r\n再见"))).out
    assert "\x1b" not in out
    assert "\\x1b[31m" in out
    assert "\x07" not in out


def test_markup_of_an_answer_stays_text(printed):
    one, other = both([1, 0], [0, 0])
    assert "[bold]甲[/bold]" in printed((one, answers_of(other, q0="[bold]甲[/bold]"))).out


def test_an_empty_answer_is_seen(printed):
    one, other = both([1, 0], [0, 0])
    assert "(nothing)" in printed((one, answers_of(other, q0=""))).out


def test_leaks_preferences_and_what_is_left_out_are_told(printed):
    one, other = both([1, 0, 1], [0, 1, 1])
    other = replace(other, leak={"leaked": 2, "items": {"q0": "x", "q1": "y"}, "unknown": ["a run is gone"]})
    other = replace(other, marked=(*other.marked[:2], replace(other.marked[2], values={}, outcome="unparsed")))
    preferred = Preferred(wins=2, losses=1, ties=0, consistency=1)
    captured = printed((one, other), preferences={"cmb-test": preferred})
    assert "lora was trained on 2 of the 3 questions" in captured.out
    assert "items left out, without accuracy in one of the two: 1" in captured.out
    assert "preferred lora in 2 cases, base in 1 and neither in 0" in captured.out
    assert "unparsed  0 (0.0 %)  1 (33.3 %)" in captured.out
    assert "a run is gone" in captured.err
    assert translated(DISCLAIMER, "en") in captured.err


def test_long_names_have_labels(printed):
    out = printed(both([1, 0], [0, 0], names=("/models/Qwen2.5-7B-Instruct", "lora"))).out
    assert "A = /models/Qwen2.5-7B-Instruct\nB = lora\n" in out
    assert "cmb-test, q0: B is worse" in out


def test_json_is_all_there_is_on_stdout(capsys, tmp_path):
    one, other = both([1, 0], [0, 0])
    eval_compare.show(compare([one], [other], seed=1), tmp_path / "report.html", as_json=True)
    table = json.loads(capsys.readouterr().out)
    assert table["exams"][0]["lost"] == ["q0"]
    assert table["report"] == str(tmp_path / "report.html")


def test_the_report_is_named(capsys, tmp_path):
    one, other = both([1, 0], [0, 0])
    eval_compare.show(compare([one], [other], seed=1), tmp_path / "report.html")
    assert str(tmp_path / "report.html") in capsys.readouterr().out.replace("\n", "")
