"""The patient: what a script tells and keeps, and what a model that plays one is given."""

from dataclasses import replace

import pytest

from medcli.core.dialogue_case import shipped
from medcli.core.dialogue_patient import MOST, as_patient, own_turn, says_goodbye, scripted
from medcli.core.record import Message
from tests.consulting import COLD, assistant, user


def answer(*said, case=COLD, last=False):
    """What the patient says after its opening and `said`, the doctor's words first."""
    turns = [assistant(text) if index % 2 == 0 else user(text) for index, text in enumerate(said)]
    return scripted(case, (user(case.opening), *turns), last=last)


def test_tells_what_is_asked_for_and_nothing_else():
    assert answer("发烧吗？") == "量过，37.2℃。"
    assert answer("您有痰吗？咳了几天了？") == "有一点白痰。从上周三开始的。"  # in the doctor's order


def test_tells_three_things_at_most():
    asked = answer("请问几天了？发烧吗？有痰吗？过敏吗？吃药了吗？")
    assert asked == "从上周三开始的。量过，37.2℃。有一点白痰。"
    assert MOST == 3


def test_tells_everything_once():
    assert answer("发烧吗？", "量过，37.2℃。", "体温多少？") == "这个我刚才说过了。"
    assert answer("发烧吗？", "量过，37.2℃。", "体温多少？有痰吗？") == "有一点白痰。"


def test_a_statement_asks_for_nothing():
    assert answer("发热的时候多喝水。") == COLD.concern


def test_knows_what_a_whole_file_does_not_hold():
    assert answer("小便怎么样？") == "小便没什么异常。"
    assert answer("您做过什么检查？") == "还没有做过检查。"
    assert answer("您还有什么不舒服吗？") == "没有别的不舒服了。"


def test_does_not_know_what_another_file_does_not_hold():
    assert answer("小便怎么样？", case=replace(COLD, complete=False)) == "这个我不太清楚。"
    assert answer("您的血型是什么？") == "这个我不太清楚。"
    assert answer("您多大年纪？") == "这个我不太清楚。"  # nobody has no age


def test_does_not_deny_what_the_opening_tells():
    assert answer("咳嗽厉害吗？") == "这个我不太清楚。"


def test_asks_what_to_do_when_nothing_is_asked_and_leaves_in_the_end():
    said = []
    for _ in range(4):
        said += ["多休息。"]
        said.append(answer(*said))
    told = said[1::2]
    assert told[0] == COLD.concern
    assert len(set(told)) == 4
    assert [says_goodbye(text) for text in told] == [False, False, False, True]


def test_wants_to_know_what_it_is_in_its_last_turn():
    assert answer("发烧吗？", last=True) == "量过，37.2℃。您看我这是怎么回事，该怎么办？"
    assert answer("多休息。", last=True) == COLD.concern


@pytest.mark.parametrize("case", shipped(), ids=[case.id for case in shipped()])
def test_never_tells_the_reference(case):
    everything = "请问" + "？".join(word for fact in case.facts for word in fact.words) + "？"
    said = []
    for _ in range(8):
        said += [everything]
        said.append(answer(*said, case=case))
    told = "".join(said[1::2])
    assert all(fact.says in told for fact in case.facts)
    assert not any(sentence in told for sentence in case.reference.split("。") if len(sentence) > 5)


def test_a_model_that_plays_the_patient_sees_the_other_side():
    system = Message(role="system", content="你是一位医生。")
    given = as_patient(COLD, (system, user(COLD.opening), assistant("几天了？")))
    assert [message.role for message in given] == ["system", "user", "assistant", "user"]
    assert given[0].content.startswith("你现在扮演一位来看病的患者")
    assert all(fact.says in given[0].content for fact in COLD.facts)
    assert not any("支气管炎" in message.content or "你是一位医生" in message.content for message in given)
    assert [message.content for message in given[2:]] == [COLD.opening, "几天了？"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("患者：三天了。", "三天了。"),
        ("三天了。\n医生：发烧吗？\n患者：不烧。", "三天了。"),
        ("<think>我是患者</think>三天了。", "三天了。"),
        ("  ", ""),
    ],
)
def test_only_its_own_turn_is_taken_from_a_model(text, said):
    assert own_turn(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "谢谢医生，再见！",
        "好的，谢谢医生的建议。我会按照您的建议进行处理。",
        "我明白了，非常感谢！",
        "没有别的问题了。",
        "好的，我会密切关注我的症状，并在需要时寻求医生的帮助。谢谢医生的建议！",
    ],
)
def test_takes_leave(text):
    assert says_goodbye(text)


@pytest.mark.parametrize(
    "text",
    [
        "好的，我发烧三天了。谢谢医生。",
        "谢谢医生，那我需要忌口吗？",
        "谢谢。我能不能吃海鲜",
        "好的。",
        "还有点头晕，谢谢。",
        "",
    ],
)
def test_stays(text):
    assert not says_goodbye(text)
