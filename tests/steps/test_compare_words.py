"""What a comparison is said to show; no more than it does."""

from dataclasses import replace

import pytest

from medcli.core.paired import Difference, Preferred
from medcli.steps import compare_words as words
from medcli.steps.compare import compare
from tests.examinations import both


def compared(ones, others, exam="cmb-test", **changes):
    one, other = both(ones, others, exam=exam, **changes)
    return compare([one], [other], seed=1)


def of_general(won, lost, same):
    values = [0] * won + [1] * lost + [1] * same, [1] * won + [0] * lost + [1] * same
    return compared(*values, exam="general").exams[0]


@pytest.mark.parametrize(
    ("won", "lost", "same", "said"),
    [
        (2, 14, 104, "forgotten"),
        (14, 2, 104, "kept, and better"),
        (1, 1, 198, "kept: a loss of more than 5 points is ruled out"),
        (5, 9, 106, "not shown to be lost, but 120 items cannot rule out a loss of 9.7 points"),
        (0, 0, 12, "not shown to be lost, but 12 items (few items) cannot rule out a loss of 19.8 points"),
    ],
)
def test_what_is_forgotten_follows_from_the_interval(won, lost, same, said):
    assert words.forgetting(of_general(won, lost, same)) == said


def test_equal_marks_of_few_items_prove_nothing():
    few = compared([0.5] * 8, [0.5] * 8, exam="general", primary="rouge-l").exams[0]
    assert words.forgetting(few).startswith("not shown to be lost, but 8 items (few items)")


def test_the_forgetting_row_holds_all_of_it():
    line = words.general_line(of_general(2, 14, 104))
    assert line == "general, accuracy: 98.3 % → 88.3 %, −10.0 (−16.4 – −3.2), p 0.004: forgotten"


@pytest.mark.parametrize(
    ("others", "verdict", "end"),
    [
        ([1] * 20, "better", "lora is better, by more than chance explains."),
        ([0] * 20, "worse", "lora is worse, by more than chance explains."),
        ([1, 0] * 9 + [1, 1], "not shown to differ", "Chance alone could make this difference."),
    ],
)
def test_an_exam_in_a_sentence(others, verdict, end):
    found = compared([1, 0] * 10, others)
    said = words.sentence(found.exams[0], "base", "lora")
    assert words.verdict(found.exams[0]) == verdict
    assert said.startswith("lora has accuracy ")
    assert said.endswith(end)
    assert words.summary(found) == f"On cmb-test, {said}"


def test_less_is_better_is_said():
    found = compared([0] * 20, [1] * 20, primary="unsafe-advice").exams[0]
    said = words.sentence(found, "base", "lora")
    assert "100.0 points more" in said
    assert "less is better). lora is worse" in said
    assert words.metric_name(found.primary) == "unsafe-advice ↓"


def test_several_exams_are_counted_and_the_general_one_stands_apart():
    pairs = [
        both([0] * 20, [1] * 20, exam="a"),
        both([1] * 20, [0] * 20, exam="b"),
        both([1] * 20, [1] * 20, exam="c"),
        both([1] * 20, [0] * 20, exam="general"),
    ]
    found = compare([one for one, _ in pairs], [other for _, other in pairs], seed=1)
    assert words.summary(found) == (
        "Of 3 exams, lora is better in 1, worse in 1, not shown to differ in 1. General ability, general: forgotten."
    )


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [
        ("base", "lora", ("base", "lora")),
        ("/models/qwen", "runs/huatuo/", ("qwen", "huatuo")),
        ("a/qwen", "b/qwen", ("A", "B")),
        ("Qwen2.5-7B-Instruct", "lora", ("A", "B")),
    ],
)
def test_labels_are_short_and_differ(one, other, labels):
    assert words.labels(compare(*([side] for side in both([1], [1], names=(one, other))), seed=1)) == labels


def test_figures():
    assert words.figure(0.6199, True) == "62.0"
    assert (words.figure(12.3456, False), words.figure(0.42161, False)) == ("12.35", "0.422")
    assert [words.signed(value, True) for value in (0.07, -0.0701, 0.0001, -0.0001)] == ["+7.0", "−7.0", "0.0", "0.0"]
    assert words.difference_interval(Difference(value=-0.06, low=-0.112, high=-0.009), True) == "−11.2 – −0.9"
    assert [words.probability(p) for p in (0.0001, 0.0042, 0.23)] == ["< 0.001", "0.004", "0.23"]


def test_marks_of_an_answer():
    one, other = both([1, 0.25], [0, 0.5], primary="rouge-l", leak={"items": {"q1": "huatuo: 7, 0.93"}})
    found = compare([one], [replace(other, leak={})], seed=1).exams[0]
    pair = found.wins[0]
    assert words.marks(pair.one, found.one, found) == "rouge-l 25.0, trained on this question"
    assert words.marks(replace(pair.other, outcome="refused"), found.other, found) == "rouge-l 50.0, refused"
    unsafe = compared([0, 1], [1, 1], primary="unsafe-advice").exams[0]
    assert words.marks(unsafe.losses[0].one, unsafe.one, unsafe) == "right"
    assert words.marks(unsafe.losses[0].other, unsafe.other, unsafe) == "wrong"


def test_leaks_are_told_and_doubts_apart():
    one, other = both([1, 0], [1, 0], leak={"leaked": 0, "exact": "", "items": {}, "unknown": ["run x is gone"]})
    assert words.leak_note(one) == ""
    assert words.leak_doubts(one) == ["base may have been trained on exams: run x is gone"]
    leaky = replace(other, leak={"leaked": 1, "exact": "", "items": {"q0": "huatuo: 7, 0.93"}})
    assert words.leak_note(leaky) == "lora was trained on 1 of the 2 questions"
    assert words.leak_note(replace(other, leak={"leaked": 2, "exact": "the very file"})) == "the very file"


def test_a_judges_preference_in_words():
    said = words.preference(Preferred(wins=10, losses=2, ties=3, consistency=0.8), "base", "lora")
    assert "preferred lora in 10 cases, base in 2 and neither in 3 (p 0.039)" in said
    assert "80 %" in said
