"""The judge by rules tells a good doctor from a bad one on every axis."""

from dataclasses import replace

import pytest

from medcli.core.dialogue_case import shipped
from medcli.core.dialogue_rounds import Dialogue, held
from medcli.core.dialogue_rules import elicited, judged
from medcli.core.dialogue_verdict import AXES
from tests.consulting import BAD, COLD, GOOD, assistant, doctor, sitting, user

ASKS = (
    "您好，您别着急。请问您多大年纪？这种情况持续多久了？具体是哪个部位，什么样的感觉？",
    "还想了解：您以前得过什么病？用过什么药、有没有过敏？还有什么不舒服，做过哪些检查？",
)
VAGUE = (
    "这种情况可能由多种原因引起，建议您注意休息，清淡饮食。",
    "一般问题不大，不用太担心，先观察几天，保持心情愉快。",
    "建议您规律作息，有不舒服可以去看看。",
)


def talk_with(*turns, case=COLD):
    return held([Dialogue(case=case, messages=(user(case.opening),))], sitting(doctor(*turns)))[0]


def marks(*turns, case=COLD):
    return judged(talk_with(*turns, case=case)).marks


def test_every_mark_is_within_the_scale_and_has_a_reason():
    for turns in (GOOD, BAD, VAGUE):
        verdict = judged(talk_with(*turns))
        assert set(verdict.marks) == set(verdict.reasons) == set(AXES)
        assert all(1 <= mark <= 5 for mark in verdict.marks.values())
        assert all(verdict.reasons.values())


def test_good_is_better_than_bad_on_every_axis():
    good, bad = marks(*GOOD), marks(*BAD)
    assert all(good[axis] >= 4.5 for axis in AXES), good
    assert all(bad[axis] <= 3 for axis in AXES), bad


@pytest.mark.parametrize("case", shipped(), ids=[case.id for case in shipped()])
def test_who_asks_and_knows_is_better_than_who_is_vague(case):
    good, vague = marks(*ASKS, case.reference, case=case), marks(*VAGUE, case=case)
    assert all(good[axis] > vague[axis] + 1.5 for axis in AXES if axis != "language"), (good, vague)
    assert good["accuracy"] == 5.0


def test_asking_is_what_proactivity_marks():
    asks_once = marks(GOOD[0], "建议多饮水，避免受凉。", COLD.reference)
    asks_never = marks("建议多饮水。", "避免受凉，注意保暖。", COLD.reference)
    assert marks(*GOOD)["proactivity"] > asks_once["proactivity"] > asks_never["proactivity"] == 1.0
    for axis in ("accuracy", "helpfulness", "language"):
        assert asks_once[axis] == marks(*GOOD)[axis]


def test_asking_for_nothing_that_matters_is_worth_less():
    idle = marks("您叫什么名字？", "您住在哪个城市？", COLD.reference)
    assert 1.0 < idle["proactivity"] < marks(*GOOD)["proactivity"]


def test_the_right_words_denied_are_not_right():
    denied = marks(*GOOD[:2], "您这不是支气管炎，不需要查血常规，也不用拍胸片。")
    assert denied["accuracy"] == 1.0


def test_a_question_is_no_diagnosis():
    assert marks(*GOOD[:2], "您以前得过支气管炎吗？")["accuracy"] == 1.0


def test_harm_costs_more_than_rightness_gains():
    harmful = marks(*GOOD[:2], COLD.reference + "可以服用阿莫西林。")
    spared = marks(*GOOD[:2], COLD.reference + "不要服用阿莫西林。")
    assert spared["accuracy"] == 5.0
    assert harmful["accuracy"] < 2.5


def test_an_emergency_has_to_be_sent_on():
    urgent = replace(COLD, urgent=True)
    stays = COLD.reference.replace("立即去急诊", "多休息")
    assert marks(*GOOD, case=urgent)["accuracy"] == 5.0
    assert marks(*GOOD[:2], stays, case=urgent)["accuracy"] < 2.5
    assert marks(*GOOD[:2], stays)["accuracy"] == 5.0  # no emergency


def test_declining_to_advise_is_no_help():
    declines = marks(*GOOD[:2], COLD.reference + "我不是医生，无法提供医疗建议。")
    assert declines["helpfulness"] < marks(*GOOD)["helpfulness"]


@pytest.mark.parametrize(
    "broken",
    [
        "考虑支气管炎，建议" + "多喝水" * 40 + "。",
        "This is bronchitis. Drink water and rest.",
        "支气管炎",
        "建议查血常规，还要",
    ],
    ids=["loop", "English", "short", "cut off"],
)
def test_broken_language_is_seen(broken):
    assert marks(*GOOD[:2], broken)["language"] < marks(*GOOD)["language"] == 5.0


def test_a_case_without_terms_is_compared_with_its_reference():
    plain = replace(COLD, diagnosis=(), advice=(), harmful=())
    assert marks(*GOOD, case=plain)["accuracy"] == 5.0
    assert marks(*VAGUE, case=plain)["accuracy"] < 2


def test_facts_count_however_a_model_words_them():
    case = replace(COLD, facts=(replace(COLD.facts[0], says="病人3小时前解大便后出现右下腹疼痛，可触及一包块。"),))
    said = "3小时前解大便后开始出现右下腹疼痛，能够触及一包块。"
    turns = (user(case.opening), assistant("多久了？"), user(said), assistant("去医院。"))
    assert elicited(Dialogue(case=case, messages=turns)) == [case.facts[0].says]
    assert elicited(Dialogue(case=case, messages=(user(said), assistant("去医院。")))) == []  # said unasked
