"""The report of a comparison: whole, by itself, safe to show, and the same each time."""

import re
from dataclasses import replace

import pytest

from medcli.core.paired import Preferred
from medcli.core.record import Message
from medcli.core.score import Score
from medcli.core.speaker import DISCLAIMER
from medcli.steps.compare import compare
from medcli.steps.compare_report import MOST_PAIRS, forest, write
from tests.examinations import SETTINGS, both
from tests.steps.test_data_card import EVIL, Page

GROUPS = [("医师考试", "执业医师")] * 20 + [("医师考试", "助理医师")] * 20 + [("药师考试", "中药师")] * 20
LEAK = {"leaked": 1, "exact": "", "items": {"q1": "huatuo: 7, 0.93"}, "unknown": ["a run is gone"]}


def made(*exams, **given):
    return compare([one for one, _ in exams], [other for _, other in exams], seed=1, **given)


def report_of(tmp_path, found):
    path = tmp_path / "report.html"
    write(found, path)
    return path.read_text("utf-8")


def answers_of(side, **texts):
    marks = tuple(replace(mark, answer=texts.get(mark.item.id, mark.answer)) for mark in side.marked)
    return replace(side, marked=marks)


@pytest.fixture
def found():
    one, other = both([1] * 30 + [0] * 30, [0] * 5 + [1] * 50 + [0] * 5, groups=GROUPS)
    other = replace(other, leak=LEAK, settings=SETTINGS | {"device": "cuda"})
    refused = replace(other.marked[59], outcome="refused", answer="抱歉")
    other = replace(other, marked=(*other.marked[:59], refused))
    plain = both([3.5, 2.0] * 9, [3.0, 2.5] * 9, exam="consultations", primary="helpfulness", kind="dialogue")
    plain = [replace(side, scores=(*side.scores, Score(metric="perplexity", value=9.5, count=9, low=9, high=10)))
             for side in plain]  # fmt: skip
    general = both([1] * 40, [0] * 12 + [1] * 28, exam="general")
    preferred = Preferred(wins=9, losses=5, ties=4, consistency=0.75)
    return made((one, other), plain, general, preferences={"consultations": preferred})


def test_it_says_all_that_is_known(tmp_path, found):
    page = Page(report_of(tmp_path, found))
    for said in (
        "lora against base",
        "Of 2 exams, lora is better in 1, not shown to differ in 1.",
        "general, accuracy: 100.0 % → 70.0 %, −30.0 (",
        "p < 0.001: forgotten.",
        "cmb-test accuracy, % 60 50.0",
        "lora was trained on 1 of the 60 questions.",
        "lora may have been trained on exams: a run is gone.",
        "refused 0 (0.0 %) 1 (1.7 %)",
        "药师考试 / 中药师 20 0.0 75.0 +75.0*",
        "preferred lora in 9 cases, base in 5 and neither in 4",
        "perplexity ↓ 9.50",
        "not paired",
        "lora is worse: 5 answers side by side",
        "lora is better: 25 answers side by side",
        "wrong, trained on this question",
        "sha256 " + "ab" * 32,
        "base: cpu; lora: cuda",
        "max_tokens 256",
        "torch 2.13",
        DISCLAIMER,
    ):
        assert said in page.text
    assert page.tags.count("article") == 5 + 25 + 18 + 12
    assert {"details", "summary", "svg"} <= set(page.tags)


def test_it_needs_nothing_else_and_runs_nothing(tmp_path, found):
    text = report_of(tmp_path, found)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import|\bsrc=", text)
    assert "prefers-color-scheme: dark" in text
    assert str(tmp_path) not in text


def test_text_of_models_stays_text(tmp_path):
    one, other = both([1, 0], [0, 1], exam=EVIL, names=(EVIL, "lora"), groups=[(EVIL,), ("二",)])
    one = answers_of(one, q0=EVIL)
    first = one.marked[0]
    prompt = (Message(role="system", content=EVIL), Message(role="user", content=EVIL))
    changed = replace(first.item, prompt=prompt, reference=EVIL)
    one, other = (
        replace(side, marked=(replace(side.marked[0], item=changed), *side.marked[1:]), settings={"system": EVIL})
        for side in (one, other)
    )
    text = report_of(tmp_path, made((one, other)))
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("&lt;script&gt;") > 8
    assert "1 message before" in Page(text).text


def test_the_same_examinations_give_the_same_bytes(tmp_path, found):
    assert report_of(tmp_path, found) == report_of(tmp_path, found)


def test_what_is_too_much_is_counted(tmp_path):
    many = MOST_PAIRS + 7
    page = Page(report_of(tmp_path, made(both([1] * many, [0] * many))))
    assert page.tags.count("article") == MOST_PAIRS
    assert f"lora is worse: {many} answers" in page.text
    assert "7 more are left out here" in page.text


def test_two_models_that_do_not_differ_have_a_report_too(tmp_path):
    page = Page(report_of(tmp_path, made(both([0.5, 0.5], [0.5, 0.5], primary="rouge-l"))))
    assert "50.0 %: as much" in page.text
    assert "details" not in page.tags


def test_an_empty_answer_is_seen(tmp_path):
    one, other = both([1, 0], [0, 0])
    assert "(nothing)" in Page(report_of(tmp_path, made((one, answers_of(other, q0=" "))))).text


def chart(*exams):
    return forest([(exam.exam, exam.primary, exam.p, exam.shown) for exam in made(*exams).exams], share=True)


def test_a_chart_has_one_scale_with_zero_on_it():
    found = chart(both([0] * 30, [1] * 20 + [0] * 10, exam="a"), both([1] * 30, [0] * 5 + [1] * 25, exam="b"))
    gained, lost = found.rows
    assert 0 <= lost.low < lost.middle < lost.high
    assert lost.middle < found.zero < gained.low < gained.middle < gained.high <= 100
    assert (gained.tone, lost.tone) == ("gain", "chance")
    assert (found.zero, "0") in found.ticks
    places, labels = zip(*found.ticks, strict=True)
    assert list(places) == sorted(places)
    assert labels == ("−20", "0", "+20", "+40", "+60", "+80")
    scale = (gained.middle - found.zero) / gained.contrast.gain.value
    assert (places[-1] - found.zero) / 0.8 == pytest.approx(scale)


def test_a_gain_is_drawn_to_the_right_where_less_is_better():
    found = chart(both([1] * 30, [0] * 30, primary="unsafe-advice"))
    assert found.rows[0].middle > found.zero
    assert found.rows[0].tone == "gain"


def test_ticks_are_round_and_few():
    for size in (1, 3, 7, 20, 60, 99):
        found = chart(both([0] * 100, [1] * size + [0] * (100 - size)))
        assert 2 <= len(found.ticks) <= 7
