"""The shipped questions: as many of each subject and letter, all different, and figures worked out again."""

import re
from calendar import isleap
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from itertools import permutations
from math import comb, log2

import pytest

from medcli.core.general_questions import questions, shots
from medcli.core.letters import options_of

LETTERS = "ABCD"
ALL = questions() + shots()


def right(question):
    return question.choices[LETTERS.index(question.answer)]


def number_in(choice):
    """Its figure: "2/9", "−6", "20%" (as 20) or "x = 7"."""
    return Fraction(re.search(r"-?\d+(?:\.\d+)?(?:/\d+)?", choice.replace("−", "-"))[0])


def factorial_of(number):
    return 1 if number < 2 else number * factorial_of(number - 1)


def at_two_places(numbers):
    """How many numbers a list holds by its other name, after one more was appended by that name."""
    other = numbers
    other.append(4)
    return len(numbers)


FIGURES = {
    "mathematics-01": 37 * 24 - 188,
    "mathematics-02": Fraction(210 + 30) / Fraction("0.8"),
    "mathematics-03": Fraction(14 + 7, 5 - 2),
    "mathematics-04": 4 + 19 * 3,
    "mathematics-05": sum(number % 3 == 0 and number % 4 == 0 for number in range(1, 51)),
    "mathematics-06": Fraction(3 * 4, 2),
    "mathematics-07": Fraction(comb(5, 2), comb(10, 2)),
    "mathematics-08": 1 / (Fraction(1, 10) + Fraction(1, 15)),
    "mathematics-09": int(log2(64)) + next(power for power in range(9) if 3**power == 27),
    "mathematics-10": min(x**2 - 6 * x + 11 for x in range(-10, 11)),
    "mathematics-11": 6 * 2**2 - 5,
    "mathematics-12": sum(row[0] != 0 and row[-1] != 0 for row in permutations(range(5))),
    "mathematics-shot": 60 * Fraction("2.5"),
    "science-01": 8 * next(seconds for seconds in range(9) if 10 * seconds**2 / 2 == 20),
    "science-02": 1 / (Fraction(1, 4) + Fraction(1, 12)),
    "science-04": Fraction(1500, 1000) * Fraction(20, 60),
    "science-07": Fraction(3 * 2 + 4, 2),
    "science-08": Fraction("11.2") / Fraction("22.4") * 32,
    "science-10": Fraction(sum("D" in (one, other) for one in "Dd" for other in "dd"), 4),
    "science-12": Fraction(100 - 2 * 30, 2),
    "geography-05": 10 - 8,
    "geography-12": Fraction(6 * 500_000, 100 * 1000),
    "daily-life-12": 2 * (5 + 2 * 5 + 1),  # soldiers, five pairs, a general
    "logic-02": 47 * 2 + 1,
    "logic-08": 25 + 18 - (40 - 6),
    "logic-10": 3 + 1,
    "logic-11": next(weighings for weighings in range(9) if 3**weighings >= 27),
    "computing-01": 0b101101,
    "computing-02": 7 // 2 + 7 % 2,
    "computing-04": next(steps for steps in range(99) if 2**steps > 1000),
    "computing-07": 8 * 1024,
    "computing-09": at_two_places([1, 2, 3]),
    "computing-12": factorial_of(5),
    "english-09": 16,  # half past six, two hours earlier
    "society-03": 20_000 * Fraction("0.02") * 3,
    "society-12": Fraction(2400, 8000) * 100,
}


def test_every_subject_has_as_many():
    counted = Counter(question.subject for question in questions())
    assert len(counted) == 10
    assert set(counted.values()) == {12}
    assert [question.subject for question in shots()] == list(counted)


def test_every_letter_is_right_as_often():
    counted = Counter(question.answer for question in questions())
    assert counted == dict.fromkeys(LETTERS, 30)
    by_subject = Counter((question.subject, question.answer) for question in questions())
    assert set(by_subject.values()) == {3}
    assert set(Counter(question.answer for question in shots()).values()) == {2, 3}


def test_letters_follow_no_pattern():
    letters = "".join(question.answer for question in questions())
    assert not re.search(r"(.)\1\1\1", letters)
    for apart in range(1, 13):
        again = sum(letter == later for letter, later in zip(letters, letters[apart:], strict=False))
        assert again <= 45, f"the letter {apart} before is right too often"  # 30 by chance, with a deviation of 4.7


def test_all_are_different():
    assert len({question.id for question in ALL}) == len(ALL) == 130
    assert len({question.stem for question in ALL}) == len(ALL)
    assert not {question.stem for question in questions()} & {question.stem for question in shots()}


@pytest.mark.parametrize("question", ALL, ids=lambda question: question.id)
def test_a_question_is_whole(question):
    assert question.source == "general"
    assert question.answer in tuple(LETTERS)
    assert len(set(question.choices)) == 4
    texts = (question.stem, question.subject, *question.choices)
    assert all(text and text == text.strip() for text in texts)
    assert re.search(r"[\u4e00-\u9fff]", question.stem)
    lines = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    assert list(options_of(lines).values()) == list(question.choices)


@pytest.mark.parametrize("extreme", [max, min], ids=["longest", "shortest"])
def test_length_does_not_give_the_answer_away(extreme):
    expected = 0.0
    for question in questions():
        lengths = [len(choice) for choice in question.choices]
        if len(right(question)) == extreme(lengths):
            expected += 1 / lengths.count(extreme(lengths))
    assert expected <= 33, "whoever picks by length should find 30 of 120"


@pytest.mark.parametrize("id", FIGURES)
def test_figures_are_right(id):
    question = next(question for question in ALL if question.id == id)
    equal = [choice for choice in question.choices if number_in(choice) == FIGURES[id]]
    assert equal == [right(question)]


def test_what_else_can_be_worked_out_is_right():
    by_id = {question.id: question for question in ALL}
    years = [choice for choice in by_id["daily-life-09"].choices if isleap(int(number_in(choice)))]
    assert years == [right(by_id["daily-life-09"])]
    wednesday = date(2025, 1, 1)
    weekday = "一二三四五六日"[(wednesday + timedelta(days=100)).weekday()]
    assert right(by_id["logic-06"]) == f"星期{weekday}"
    said = {"甲": lambda who: who == "乙", "乙": lambda who: who != "乙", "丙": lambda who: who != "丙"}
    assert [who for who in said if sum(true(who) for true in said.values()) == 1] == [right(by_id["logic-03"])]
    assert right(by_id["logic-12"]) == "".join(chr(ord(letter) + 3) for letter in "DOG")
