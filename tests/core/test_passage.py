import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.passage import cut, cut_text


def test_short_lines_stand_together_and_say_where_they_begin():
    lines = [(7, "发热时多喝水。"), (8, "注意休息。"), (9, ""), (10, "咳嗽时戴口罩。")]
    assert list(cut(lines, 300)) == [(7, "发热时多喝水。\n注意休息。\n\n咳嗽时戴口罩。")]


def test_a_blank_line_ends_a_passage_that_is_half_full():
    assert [text for _, text in cut([(1, "一" * 30), (2, ""), (3, "二" * 10)], 50)] == ["一" * 30, "二" * 10]


def test_a_heading_begins_a_passage():
    assert list(cut(enumerate(["# 感冒", "多喝水。", "## 用药", "遵医嘱。"], 1), 300)) == [
        (1, "# 感冒\n多喝水。"),
        (3, "## 用药\n遵医嘱。"),
    ]


def test_long_lines_are_cut_at_the_ends_of_sentences():
    sentences = ["高血压患者应低盐饮食。", "他问：“能喝酒吗？”", "不能！", "每天量血压……"]
    assert cut_text("".join(sentences) * 3, 25)[:2] == [
        "高血压患者应低盐饮食。他问：“能喝酒吗？”不能！",
        "每天量血压……高血压患者应低盐饮食。",
    ]


def test_a_sentence_that_is_too_long_is_cut_after_a_comma():
    assert cut_text("头痛头晕，恶心呕吐，心慌胸闷乏力", 11) == ["头痛头晕，恶心呕吐，", "心慌胸闷乏力"]


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_nothing_has_no_passages(text):
    assert cut_text(text, 50) == []


@given(st.text(alphabet="高血压。，！\n #a”…", max_size=400), st.integers(5, 60))
def test_nothing_is_lost_and_no_piece_is_longer(text, length):
    pieces = cut_text(text, length)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= length for piece in pieces)
