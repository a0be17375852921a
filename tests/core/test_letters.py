"""Letters read out of answers: stated ones, in any order, and none where none is stated."""

import pytest

from medcli.core.letters import chosen_letters, declines, options_of

OPTIONS = {"A": "35℃", "B": "37℃", "C": "39℃", "D": "41℃", "E": "3"}

READ = {
    "B": "B b B. (B) （B） B、37℃ \\boxed{B} **B** 答案：**B** [B] $B$ `B` BB 选B。 本题选B 故选B 37℃ 答案是37℃ "
    "答案：37℃ 选项B正确 A：看似正确。答案：B",
    "C": "应该选择C项 答案：C项 正确答案是【C】 Answer:C 答案为“C” answer:(C)",
    "ACD": "ACD DCA A、C、D A,C,D 答案：D、C、A 选A和C和D (A)(C)(D) 正确答案为ACD。",
    "E": "3 E A、B、C均正确，故选E 答案：3",
    "": "CT ABO A型 AB型 答案：A型血 因此答案是CT检查 患者做CT 维生素B ABO血型 答案：C7 答案：F 无 答案：A或B "
    "答案：不是A A不正确 从A、B、C、D中选择 请选A、B、C、D中的一项 做B超 "
    "血红蛋白A2 不选A 答案：IgA PaCO2 TNM分期 维生素B12 HBV-DNA T3和T4",
}


@pytest.mark.parametrize("letters", READ)
def test_letters_are_read_where_they_are_stated(letters):
    wrong = {text: found for text in READ[letters].split() if (found := chosen_letters(text, OPTIONS)) != letters}
    assert wrong == {}


def test_words_between_blanks_are_read_too():
    for text, letters in {
        "The answer is (C).": "C",
        "Answer: B. because the others are too high": "B",
        "B 37℃": "B",
        "A C D": "ACD",
        "A错。\n综上，本题答案为【D】。": "D",
        "<think>可能是A，答案：A</think>\n答案：D": "D",
        "答案：B\n仔细想想。\n答案：C": "C",
        "I am not sure about CT or ABO": "",
        "不选A，选B": "B",
    }.items():
        assert chosen_letters(text, OPTIONS) == letters, text


def test_going_through_all_options_chooses_none():
    every = "\n".join(f"{letter}. {text}" for letter, text in OPTIONS.items())
    assert chosen_letters(every, OPTIONS) == ""
    assert chosen_letters(every + "\n答案：C", OPTIONS) == "C"
    assert chosen_letters("A. 35℃\nC. 39℃", OPTIONS) == "AC"


def test_an_option_of_one_character_is_an_option():
    assert options_of("几项？\nA. 1\nB. 2\nC. 3") == {"A": "1", "B": "2", "C": "3"}
    assert chosen_letters("3", {"A": "1", "B": "2", "C": "3"}) == "C"


def test_declining_is_told_from_not_stating():
    for text in ("抱歉，我无法回答这个问题。", "作为AI，我不能提供诊断，无法判断。", "I'm sorry, but I cannot choose."):
        assert declines(text), text
    for text in ("需要做CT", "可能是A或B", ""):
        assert not declines(text), text
