"""Conversations of built data sets as cases: what the patient says first, what it keeps, what it is measured by."""

import json

import pytest

from medcli.core.dialogue_patient import scripted
from medcli.core.dialogue_record import case_of, is_record
from medcli.core.errors import DataError
from medcli.core.record import Conversation
from tests.conftest import shared
from tests.consulting import assistant, user

RECORD = """现病史
（1）病史摘要
    男，40岁，3天前无明显诱因出现右耳流脓，无发热。
（2）主诉
    右耳流脓3天。

既往史
   既往有高血压。

体格检查
（1）专科查体
    鼓膜穿孔；外耳道有脓。

辅助检查
（1）实验室检查
    血常规：白细胞升高。
（2）CT检查
    鼓膜穿孔；
请给出诊断。
A. 中耳炎
B. 外耳道炎"""
ANSWERS = ("诊断：慢性化脓性中耳炎伴鼓膜穿孔。\n鉴别诊断：外耳道炎。", "抗感染，必要时手术。")


def conversation(*texts, meta=None):
    roles = (user, assistant)
    messages = tuple(roles[index % 2](text) for index, text in enumerate(texts))
    return Conversation(id="c", messages=messages, source="hand", meta=meta or {})


def test_a_record_opens_with_its_chief_complaint_only():
    case = case_of(conversation(RECORD, ANSWERS[0], "如何治疗？", ANSWERS[1], meta={"department": "耳鼻喉科"}))
    assert case.opening == "医生您好，右耳流脓3天。请问这是怎么回事？"
    assert [fact.says for fact in case.facts] == [
        "男，40岁，3天前无明显诱因出现右耳流脓，无发热。",
        "既往有高血压。",
        "鼓膜穿孔；",
        "外耳道有脓。",
        "血常规：白细胞升高。",
    ]
    assert case.reference == "\n".join(ANSWERS)
    assert case.diagnosis == ("慢性化脓性中耳炎", "鼓膜穿孔")
    assert (case.department, case.complete) == ("耳鼻喉科", False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("做过什么检查吗？", "鼓膜穿孔；外耳道有脓。血常规：白细胞升高。"),
        ("有慢性病吗？", "既往有高血压。"),
        ("发热吗？", "男，40岁，3天前无明显诱因出现右耳流脓，无发热。"),
        ("多久了？", "男，40岁，3天前无明显诱因出现右耳流脓，无发热。"),
        ("能具体描述一下吗？", "男，40岁，3天前无明显诱因出现右耳流脓，无发热。"),
        ("大便怎么样？", "这个我不太清楚。"),
    ],
)
def test_a_record_is_told_when_asked_for(asked, told):
    case = case_of(conversation(RECORD, *ANSWERS[:1]))
    assert scripted(case, (user(case.opening), assistant(asked)), last=False) == told


def test_a_record_without_a_chief_complaint_opens_with_what_brought_the_patient():
    record = "现病史\n女，30岁，因“咳嗽5天”入院。有痰。\n体格检查\n双肺清。\n简述诊断。"
    assert case_of(conversation(record, "支气管炎。")).opening == "医生您好，咳嗽5天。请问这是怎么回事？"
    record = "现病史\n女，30岁，咳嗽5天。有痰。\n体格检查\n双肺清。\n简述诊断。"
    assert case_of(conversation(record, "支气管炎。")).opening == "医生您好，女，30岁，咳嗽5天。请问这是怎么回事？"


def test_a_consultation_opens_as_it_did_and_tells_what_was_stated_later():
    case = case_of(
        conversation("孩子咳嗽怎么办？", "几天了？", "三天了。有点发烧。要吃药吗？", "考虑感冒。", "谢谢。", "不客气。")
    )
    assert case.opening == "孩子咳嗽怎么办？"
    assert [fact.says for fact in case.facts] == ["三天了。", "有点发烧。", "谢谢。"]
    assert case.reference == "几天了？\n考虑感冒。\n不客气。"
    assert scripted(case, (user(case.opening), assistant("发热吗？")), last=False) == "有点发烧。"


def test_one_question_and_its_answer_are_a_case_without_facts():
    case = case_of(conversation("感冒了怎么办？", "多喝水。"))
    assert (case.opening, case.facts, case.diagnosis) == ("感冒了怎么办？", (), ())


@pytest.mark.parametrize("texts", [("没有回答",), ()])
def test_a_conversation_without_an_answer_is_refused(texts):
    with pytest.raises(DataError, match="no question with an answer"):
        case_of(conversation(*texts))


def test_one_heading_makes_no_record():
    assert is_record(RECORD)
    assert is_record("病例资料\n男，30岁。")
    assert not is_record("医生，我的主诉就是头疼。")


def _answers(row):
    return "\n".join(pair.get("answer") or pair["solution"] for pair in row["QA_pairs"])


def test_no_patient_of_cmb_clin_tells_the_whole_case_at_once():
    rows = json.loads(shared("cmb/CMB-test-qa.json").read_text("utf-8"))
    cases = [
        case_of(conversation(f"{row['description']}\n{row['QA_pairs'][0]['question']}", _answers(row))) for row in rows
    ]
    assert len(cases) == 74
    for case, row in zip(cases, rows, strict=True):
        assert len(case.opening) < 90, case.opening
        assert len(case.facts) >= 3
        assert not any(row["QA_pairs"][0]["question"].strip() in fact.says for fact in case.facts)
        assert not any(fact.says.rstrip("。；") in case.opening for fact in case.facts)
        assert all(fact.words for fact in case.facts)
    assert sum(bool(case.diagnosis) for case in cases) > 30
