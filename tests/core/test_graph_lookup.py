import pytest

from medcli.core.graph_lookup import FactIndex
from medcli.core.graph_questions import forms

ATTRIBUTES = [name for name in forms()["attribute"] if name != "other"]


def index(names=("高血压",), attributes=ATTRIBUTES):
    numbers = {
        name: {attribute: [row * 100 + place] for place, attribute in enumerate(attributes)}
        for row, name in enumerate(names)
    }
    return FactIndex(facts=numbers, names={name: [name] for name in names})


def asked(question, before="", **what):
    return [ATTRIBUTES[number % 100] for number in index(**what).asked(question, before)]


def test_a_name_and_an_attribute_are_looked_up():
    assert asked("高血压有哪些并发症") == ["complications"]
    assert asked("请问高血压吃什么药，挂什么科？") == ["department", "drugs"]


def test_every_shipped_wording_of_a_question_leads_to_its_attribute():
    told = [
        (attribute, asked(wording.format(d="高血压")))
        for attribute in ATTRIBUTES
        for split in ("questions", "held_out")
        for wording in forms()["attribute"][attribute][split]
    ]
    assert not [attribute for attribute, found in told if attribute not in found]
    assert sum([attribute] == found for attribute, found in told) > 0.98 * len(told)


@pytest.mark.parametrize("question", ["", "高血压", "有哪些并发症", "今天天气怎么样", "并发症和高血病"])
def test_without_a_name_or_an_attribute_nothing_is_asked_for(question):
    assert asked(question) == []


def test_the_name_may_stand_in_the_question_before():
    assert asked("有哪些并发症？", "高血压是什么病") == ["complications"]
    assert asked("肺炎有哪些并发症？", "高血压是什么病", names=("高血压", "肺炎")) == ["complications"]
    assert index(("高血压", "肺炎")).asked("肺炎有哪些并发症？", "高血压是什么病")[0] >= 100


def test_the_longest_name_counts_and_a_name_within_it_does_not():
    found = index(("高血压", "妊娠期高血压")).asked("妊娠期高血压要注意什么")
    assert [number // 100 for number in found] == [1]


def test_another_name_leads_to_the_same_facts():
    facts = FactIndex(facts={"秋燥": {"symptoms": [5]}}, names={"秋燥": ["秋燥"], "秋天干燥": ["秋燥"]})
    assert facts.asked("秋天干燥有什么症状") == [5]


def test_an_attribute_that_only_this_graph_has_is_asked_for_by_its_name():
    facts = FactIndex(facts={"秋燥": {"高危因素": [3], "symptoms": [5]}}, names={"秋燥": ["秋燥"]})
    assert facts.asked("秋燥的高危因素有哪些") == [3]


def test_a_name_that_holds_an_attribute_s_word_does_not_ask_for_it():
    assert asked("药物性肝炎的症状", names=("药物性肝炎",)) == ["symptoms"]
