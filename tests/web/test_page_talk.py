from dataclasses import replace

from medcli.core.catalogue import words
from medcli.core.passage import Passage
from medcli.web.page_talk import Said, Talk, bubbles

WORDS = words("zh", "page")


def talk_of(*turns: tuple[str, str]) -> Talk:
    """Questions and answers of the left side."""
    talk = Talk()
    for question, answer in turns:
        talk = talk.asked(question, [0]).heard(0, Said(text=answer, done=True))
    return talk


def contents(talk: Talk, side: int, system: str = "") -> list[str]:
    return [f"{message.role}: {message.content}" for message in talk.messages(side, system)]


def test_the_model_hears_what_its_own_side_has_said():
    talk = talk_of(("一", "甲")).asked("二", [0, 1])
    talk = talk.heard(0, Said(text="乙", done=True)).heard(1, Said(text="丙", done=True)).asked("三", [0, 1])
    assert contents(talk, 0) == ["user: 一", "assistant: 甲", "user: 二", "assistant: 乙", "user: 三"]
    assert contents(talk, 1, "系统") == ["system: 系统", "user: 二", "assistant: 丙", "user: 三"]


def test_a_question_without_an_answer_is_not_told_again():
    talk = talk_of(("一", "")).asked("二", [0])
    assert contents(talk, 0) == ["user: 二"]


def test_asking_again_counts_and_a_new_question_starts_anew():
    talk = talk_of(("一", "甲"), ("二", "乙"))
    again = talk.again([0]).again([0])
    assert again.retries == 2
    assert contents(again, 0) == contents(talk.before(1).asked("二", [0]), 0)
    assert again.asked("三", [0]).retries == 0


def test_before_a_turn_that_is_not_there_nothing_was_said():
    assert talk_of(("一", "甲")).before(-1) == Talk()
    assert talk_of(("一", "甲")).before(5) == talk_of(("一", "甲"))


def test_a_talk_has_ended_when_all_sides_have():
    assert Talk().ended
    talk = Talk().asked("一", [0, 1])
    assert not talk.ended
    assert not talk.heard(0, Said(done=True)).ended
    assert talk.heard(0, Said(done=True)).heard(1, Said(done=True)).ended


def test_stopping_remarks_only_on_those_who_had_not_ended():
    talk = Talk().asked("一", [0, 1]).heard(0, Said(text="甲", done=True)).heard(1, Said(text="乙"))
    stopped = talk.stopped("停")
    assert stopped.turns[-1].said == {0: Said(text="甲", done=True), 1: Said(text="乙", done=True, remark="停")}
    assert Talk().stopped("停") == Talk()


def test_what_stands_on_a_side():
    talk = talk_of(("一", "甲")).asked("二", [0, 1])
    problem = Said(done=True, passages=(), problem="太忙")
    talk = talk.heard(0, problem).heard(1, Said(text="乙", done=True, remark="停"))
    assert [(b.role, b.text, b.turn) for b in bubbles(talk, 0, WORDS)] == [
        ("user", "一", 0),
        ("assistant", "甲", 0),
        ("user", "二", 1),
        ("assistant", "⚠️ 太忙", 1),
    ]
    assert [(b.role, b.text, b.turn) for b in bubbles(talk, 1, WORDS)] == [
        ("user", "二", 1),
        ("assistant", "乙\n\n—— 停", 1),
    ]


PASSAGES = (Passage(text="少盐\n多动", source="指南:1"), Passage(text="睡好", source="手册:2"))


def test_sources_are_numbered_and_folded():
    said = Said(text="少盐[1]。", done=True, passages=PASSAGES)
    last = bubbles(Talk().asked("一", [0]).heard(0, said), 0, WORDS)[-1]
    assert last.heading == "依据（2）"
    assert last.text == "**[1]** 指南:1\n\n> 少盐\n> 多动\n\n**[2]** 手册:2\n\n> 睡好"


def test_a_number_without_a_source_is_pointed_out():
    said = Said(text="少盐[1]，多睡[7]。", done=True, passages=PASSAGES)
    answer = bubbles(Talk().asked("一", [0]).heard(0, said), 0, WORDS)[1]
    assert answer.text == "少盐[1]，多睡[7]。\n\n⚠️ 回答里的 [7] 没有对应的资料，不可当作有依据。"


def test_that_nothing_was_found_is_said_when_the_answer_is_there():
    talk = Talk().asked("一", [0])
    said = Said(text="甲", passages=())
    assert [b.text for b in bubbles(talk.heard(0, said), 0, WORDS)] == ["一", "甲"]
    assert [b.text for b in bubbles(talk.heard(0, replace(said, done=True)), 0, WORDS)] == ["一", "甲\n\n—— 未找到依据"]


def test_a_thought_is_folded_from_its_first_word():
    talk = Talk().asked("一", [0])
    begun = bubbles(talk.heard(0, Said(text="<think>先想")), 0, WORDS)
    assert [(b.text, b.heading) for b in begun[1:]] == [("先想", "思考过程")]
    ended = bubbles(talk.heard(0, Said(text="<think>先想</think>\n\n再答")), 0, WORDS)
    assert [(b.text, b.heading) for b in ended[1:]] == [("先想", "思考过程"), ("再答", "")]
