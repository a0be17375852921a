"""What asks, what states, and what is denied."""

import pytest

from medcli.core.dialogue_speech import questions, says, statements, without_thoughts


@pytest.mark.parametrize(
    "text",
    [
        "您发烧吗？",
        "请问有没有咳嗽",
        "想了解一下您的既往史。",
        "Do you cough?",
        "请描述一下疼痛的性质。",
    ],
)
def test_asks(text):
    assert questions(text) == [text]
    assert statements(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "建议多休息。",
        "请注意观察是否发热。",
        "如果有没有缓解的疼痛，请就医。",
        "请问还有其他问题吗？",
        "有什么可以帮您的吗？",
        "您还有什么需要咨询的吗？",
    ],
)
def test_does_not_ask_for_a_fact(text):
    assert questions(text) == []
    assert statements(text) == [text]


def test_the_points_of_a_list_ask_where_a_request_leads_them_in():
    text = "您好。请提供以下信息：\n1. 疼痛的性质\n2、有无发热\n\n- 大小便情况\n建议先休息。\n1. 多喝水"
    assert questions(text) == ["请提供以下信息：", "1. 疼痛的性质", "2、有无发热", "- 大小便情况"]
    assert statements(text) == ["您好。", "建议先休息。", "1. 多喝水"]


def test_a_sentence_asks_and_the_next_one_states():
    text = "疼多久了？这很可能是胃炎。"
    assert (questions(text), statements(text)) == (["疼多久了？"], ["这很可能是胃炎。"])


@pytest.mark.parametrize(
    ("text", "term", "said"),
    [
        ("考虑心梗。", "心肌梗死/心梗", True),
        ("不考虑心梗。", "心肌梗死/心梗", False),
        ("不能排除心梗。", "心梗", True),
        ("特别要警惕心梗，非常危险。", "心梗", True),
        ("不要紧张，拍个CT。", "CT", True),
        ("不需要做CT。", "CT", False),
        ("嵌顿性的腹股沟斜疝可能性大", "嵌顿性腹股沟斜疝", True),
        ("腹股沟斜着疼", "嵌顿性腹股沟斜疝", False),
        ("排除嵌顿性腹股沟斜疝以外，没有嵌顿的腹股沟斜疝", "嵌顿性腹股沟疝", True),
        ("没有嵌顿的腹股沟斜疝", "嵌顿性腹股沟斜疝", False),
        ("", "心梗", False),
    ],
)
def test_a_term_is_said_where_it_is_not_denied(text, term, said):
    assert says(text, term) is said


def test_thoughts_are_not_said():
    assert without_thoughts("<think>是心梗吗？</think>\n\n您好。") == "您好。"
    assert without_thoughts(" 您好。 ") == "您好。"
