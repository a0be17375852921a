"""The patients that come with med: what every one of their files has to hold."""

import pytest

from medcli.core.dialogue_case import shipped, topics
from medcli.core.dialogue_speech import says, spoken, statements
from tests.consulting import assistant, user

CASES = pytest.mark.parametrize("case", shipped(), ids=[case.id for case in shipped()])


def test_there_are_many_of_many_departments():
    assert len(shipped()) >= 14
    assert len({case.id for case in shipped()}) == len(shipped())
    assert len({case.department for case in shipped()}) >= 12
    assert 5 <= sum(case.urgent for case in shipped()) <= len(shipped()) - 5


@CASES
def test_a_file_is_whole(case):
    assert len(case.facts) >= 7
    assert case.opening.endswith("？")
    assert case.concern.endswith("？")
    assert case.complete
    assert len({fact.says for fact in case.facts}) == len(case.facts)
    by_name = {topic.name: topic for topic in topics()}
    for always_asked in ("年龄", "时间"):
        assert any(set(by_name[always_asked].words) <= set(fact.words) for fact in case.facts), always_asked


@CASES
def test_the_reference_names_all_that_is_looked_for_and_nothing_harmful(case):
    stated = "\n".join(statements(case.reference))
    assert [term for term in (*case.diagnosis, *case.advice) if not says(stated, term)] == []
    assert [term for term in case.harmful if says(stated, term)] == []


@CASES
def test_no_sentence_is_left_open(case):
    for text in (case.reference, *(fact.says for fact in case.facts)):
        assert text.endswith("。"), text


def test_topics_say_how_a_question_goes_and_what_is_there_when_nothing_is():
    assert len({topic.name for topic in topics()}) == len(topics())
    assert all(topic.words for topic in topics())
    assert all(topic.none == "" or topic.none.endswith("。") for topic in topics())


def test_a_consultation_is_read_with_who_says_what():
    assert spoken((user("疼。"), assistant("多久了？"))) == "患者：疼。\n医生：多久了？"
