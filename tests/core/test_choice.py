"""Exam questions: how they are put, how a choice is got, and what it is worth."""

import math
import random

import pytest

from medcli.core import choice
from medcli.core.choice import ChoicePaper
from medcli.core.errors import UsageError
from medcli.core.exam_question import Put, in_order, text_of
from medcli.core.exam_settings import EvalSettings
from medcli.core.letters import options_of
from medcli.core.record import Question
from tests.building import Notes
from tests.exams.sitters import Finds, Says, sitting

CHOICES = ("35℃", "37℃", "39℃", "3")


def question(id="q1", answer="B", choices=CHOICES, subject="医师考试/内科", stem="正常体温约为？"):
    return Question(id=id, stem=stem, choices=choices, answer=answer, subject=subject, source="hand")


def paper(*questions, shots=None, **settings):
    return ChoicePaper(questions=questions, shots=shots or {}, settings=EvalSettings(**settings))


def sat(one, speaker=None, reader=None):
    return one.sit(sitting(speaker, reader, **{name: getattr(one.settings, name) for name in ("mode", "shuffles")}))


def knows(*right):
    """Chooses the letters under which the texts `right` are shown."""
    return Says(lambda messages: "".join(k for k, v in options_of(messages[-1].content).items() if v in right))


def test_a_question_shows_all_options_the_short_ones_too():
    text = text_of(in_order(question(choices=("甲", "乙", "3", "丁", "戊", "己"))))
    assert text.splitlines() == [
        "正常体温约为？",
        "A. 甲",
        "B. 乙",
        "C. 3",
        "D. 丁",
        "E. 戊",
        "F. 己",
        "请直接回答选项字母。",
    ]
    english = question(stem="What is normal?", choices=("35", "37"))
    assert text_of(in_order(english)).endswith("Answer with the letter of the right option only.")


def test_mixed_papers_say_how_many_options_are_right():
    several = question(id="q2", answer="AD")
    texts = [item.prompt[-1].content for item in paper(question(), several).items]
    assert texts[0].startswith("（单项选择题）")
    assert texts[1].startswith("（多项选择题）")
    assert texts[1].endswith("请直接回答所有正确选项的字母。")
    assert not paper(question()).items[0].prompt[-1].content.startswith("（")


def test_letters_follow_their_options_into_another_order():
    put = Put(question=question(answer="AD"), order=(2, 0, 3, 1))
    assert put.shown == {"A": "39℃", "B": "35℃", "C": "3", "D": "37℃"}
    assert put.as_shown("AD") == "BC"
    assert put.of_record("BC") == "AD"
    assert in_order(question(answer="AD")).sets() == [
        *("AB", "AC", "AD", "BC", "BD", "CD"),
        *("ABC", "ABD", "ACD", "BCD"),
        "ABCD",
    ]


def test_written_answers_are_read_and_never_guessed():
    answers = {"q1": "答案：B", "q2": "需要做CT检查", "q3": "抱歉，我无法回答。", "q4": " ", "q5": "选D和A"}
    asked = [question(id=id, answer="AD" if id == "q5" else "B", stem=id) for id in answers]
    speaker = Says(lambda messages: next(said for id, said in answers.items() if id in messages[-1].content))
    marked = sat(paper(*asked), speaker)
    assert [one.outcome for one in marked] == ["answered", "unparsed", "refused", "empty", "answered"]
    assert [one.values["accuracy"] for one in marked] == [1, 0, 0, 0, 1]
    assert marked[4].detail["letters"] == "AD"
    assert marked[0].item.groups == ("医师考试", "内科")


def test_likelihood_takes_the_likeliest_letter_and_keeps_the_probabilities():
    reader = Finds(lambda messages, letter: {"A": -3.0, "B": -1.0, "C": -2.0, "D": -4.0}[letter])
    one = sat(paper(question()), reader=reader)[0]
    assert reader.asked[0][1:] == (("A", "B", "C", "D"), False)
    total = sum(map(math.exp, (-3, -1, -2, -4)))
    assert one.detail["confidence"] == pytest.approx(math.exp(-1) / total)
    shares = {letter: math.exp(nat) / total for letter, nat in zip("ABCD", (-3, -1, -2, -4), strict=True)}
    assert one.values["brier"] == pytest.approx(sum((p - (k == "B")) ** 2 for k, p in shares.items()))
    assert one.values["accuracy"] == 1


def test_several_right_options_are_chosen_as_a_whole_answer():
    reader = Finds(lambda messages, letters: -1.0 if letters in ("AD", "B") else -2.0)
    single, several = sat(paper(question(), question(id="q2", answer="AD")), reader=reader)
    assert (single.detail["letters"], several.detail["letters"]) == ("B", "AD")
    assert several.values["accuracy"] == 1
    assert [ended for _, _, ended in reader.asked] == [False, True]
    assert len(reader.asked[1][1]) == 11


def test_cloze_compares_the_texts_whole_and_by_the_character():
    long = question(choices=("很长很长很长的一个选项", "短"), answer="A")
    reader = Finds(lambda messages, text: -2.2 if len(text) > 1 else -2.0)
    one = sat(paper(long, mode="cloze"), reader=reader)[0]
    assert "A." not in one.item.prompt[-1].content
    assert (one.values["accuracy"], one.values["accuracy-by-length"]) == (0, 1)
    assert reader.asked[0][2] is True


def test_cloze_leaves_several_right_options_out_and_says_so():
    reader = Finds(lambda messages, text: -1.0)
    marked = sat(paper(question(answer="AD"), question(id="q2"), mode="cloze"), reader=reader)
    assert [one.outcome for one in marked] == ["unparsed", "answered"]
    assert marked[0].values == {}


def test_other_orders_tell_who_knows_from_who_likes_a_letter():
    asked = [question(id=f"q{n}", stem=f"第{n}题") for n in range(12)]
    sure = sat(paper(*asked, shuffles=3), knows("37℃"))
    assert all(one.values["consistency"] == one.values["accuracy-all-orders"] == 1 for one in sure)
    always = sat(paper(*asked, shuffles=3), Says(lambda messages: "B"))
    assert all(one.values["accuracy"] == 1 for one in always)
    assert sum(one.values["consistency"] for one in always) <= 2
    assert sum(one.values["accuracy-all-orders"] for one in always) <= 2
    assert len(always[0].detail["orders"]) == 4


def test_nothing_chosen_in_every_order_is_not_consistent():
    assert sat(paper(question(), shuffles=1), Says(lambda messages: "不知道"))[0].values["consistency"] == 0


def test_shots_stand_before_the_question_as_turns_of_its_subject():
    shots = {
        "医师考试/内科": [question(id="s1", stem="内科例题", answer="D")],
        "": [question(id="s2", stem="别的例题")],
    }
    asked = [question(), question(id="q2", subject="外科")]
    own, other = ChoicePaper(
        questions=asked, shots=shots, settings=EvalSettings(shots=1, system="你是医生。")
    ).items  # fmt: skip
    assert [message.role for message in own.prompt] == ["system", "user", "assistant", "user"]
    assert own.prompt[1].content.startswith("内科例题")
    assert own.prompt[2].content == "D"
    assert other.prompt[1].content.startswith("别的例题")


def test_likelihood_of_who_only_speaks_is_an_error():
    with pytest.raises(UsageError, match="--mode likelihood"):
        sat(paper(question(), mode="likelihood"))


class Short(Finds):
    """Reads nothing of the second question."""

    def likelihoods(self, prompts, endings, advance, *, ended=False):
        found = super().likelihoods(prompts, endings, advance, ended=ended)
        return [[] if "二" in prompt[-1].content else row for prompt, row in zip(prompts, found, strict=True)]


@pytest.mark.parametrize("mode", ["likelihood", "cloze"])
def test_a_question_too_long_to_be_read_counts_as_wrong_and_is_told(mode):
    report = Notes()
    asked = paper(question(), question(id="q2", stem="第二题"), mode=mode)
    marked = asked.sit(sitting(reader=Short(lambda messages, text: -1.0), report=report, mode=mode))
    assert [one.outcome for one in marked] == ["answered", "empty"]
    assert marked[1].values["accuracy"] == 0
    assert "1 of 2 questions are longer than the model reads" in report.notes[0]


def test_too_many_sets_of_options_are_refused_with_their_number():
    many = question(answer="AB", choices=tuple(map(str, range(12))))
    with pytest.raises(UsageError, match="12 options"):
        sat(paper(many), reader=Finds(lambda messages, letters: -1.0))


def test_subjects_count_alike_in_the_macro_mean():
    big = [question(id=f"a{n}", subject="甲", stem=f"a{n}") for n in range(30)]
    small = [question(id=f"b{n}", subject="乙", stem=f"b{n}", answer="A") for n in range(10)]
    found = {score.metric: score for score in choice.scores(sat(paper(*big, *small), Says(lambda m: "B")), seed=1)}
    assert found["accuracy"].value == 0.75
    assert found["accuracy-macro"].value == 0.5
    assert 0.4 < found["accuracy-macro"].low < 0.5 < found["accuracy-macro"].high < 0.6


def test_a_group_of_one_is_no_certainty():
    score = choice.macro([[1.0], [0.0, 1.0, 0.0, 1.0]])
    assert score.value == 0.75
    assert score.low < 0.5


def test_calibration_is_measured_where_there_are_probabilities():
    draw = random.Random(3)
    asked = [question(id=f"q{n}", stem=f"第{n}题") for n in range(60)]
    chance = {f"第{n}题": draw.uniform(-3, 3) for n in range(60)}

    def likelihood(messages, letter):
        return chance[messages[-1].content.splitlines()[0]] if letter == "B" else 0.0

    found = {score.metric: score for score in choice.scores(sat(paper(*asked), reader=Finds(likelihood)), seed=1)}
    assert set(found) == {"accuracy", "brier", "ece", "aurc", "risk-at-80%"}
    assert found["risk-at-80%"].value < 1 - found["accuracy"].value  # what it is least sure of is most often wrong
    for score in found.values():
        assert score.low <= score.value <= score.high
