"""Tidying text: what is mended, what must survive, and that a second time changes nothing."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.gates import normalise
from medcli.gates.normalise import tidy
from tests.gates.records import dialogue, document, opened

MENDED = {
    "头疼\r\n三天\r又好\u2028了": "头疼\n三天\n又好\n了",
    "多\xa0休息，\u3000多\u2003喝水\u3000": "多 休息， 多 喝水",
    "第一段。\n　　第二段。": "第一段。\n第二段。",
    "血压１４０／９０ｍｍＨｇ，ＷＢＣ１２．５％": "血压140/90mmHg,WBC12.5%".replace(",", "，"),
    "体温\u200b38\ufeff度\u202c": "体温38度",
    "血糖\x07高\x9f": "血糖高",
    "白细胞&lt;3.5&times;10&sup9;": "白细胞<3.5×10&sup9;",
    "卵泡&nbsp;&#39;大&#39;&nbsp 小": "卵泡 '大' 小",
    "&amp;lt;b&amp;gt;注意&lt;/b&gt;": "注意",
    "湿疹会&65533;好": "湿疹会好",
    "意见：<br>多喝水<BR/><p class='a'>休息</p>": "意见：\n多喝水\n\n休息",
    '<b>注意</b><span style="color:red">禁酒</span>': "注意禁酒",
    "计数10<sup>9</sup>/L，H<sub>2</sub>O": "计数10^9/L，H2O",
    "<table><tr><td>红细胞</td><td>4.5</td></tr></table>": "红细胞 4.5",
    "见下<!-- 广告 -->文": "见下文",
    "好\ufffd的" + "休息" * 20: "好的" + "休息" * 20,
    "多  休息\t \t吧": "多 休息 吧",
    "一\n\n\n \n二   \n三": "一\n\n二\n三",
}


@pytest.mark.parametrize("text", MENDED)
def test_mends(text):
    assert tidy(text) == MENDED[text]


@pytest.mark.parametrize(
    "text",
    [
        "钾<3.5mmol/L，血压<140且>90",
        "P<0.05，a<b且c>d，若a<b and c>d则停药",
        "<user>：头疼 <bot>：休息",
        "你好，（头疼）：三天；真的？是！“嗯”……",
        "R&D，AT&T，A&B;，Ca&Mg",
        "👩‍⚕️说❤️可以",
        "10～20分钟，温度－般。".replace("－", "一"),
        "用`<p>`标签",
        "```html\n<p>一  段&nbsp;</p>\n```",
        "<!DOCTYPE html>\n<html>\n  <p>段&lt;</p>\n</html>",
        "def f():\n    return 1",
        "α-干扰素 5×10⁹/L ±2 ℃ Ⅱ度",
    ],
)
def test_leaves(text):
    assert tidy(text) == text


def test_much_that_is_broken_stays_for_the_quality_gate():
    text = "\ufffd\ufffd\ufffd疼痛\ufffd\ufffd"
    assert tidy(text) == text


def test_traditional_characters_become_simplified_when_asked():
    record = dialogue("頭髮乾燥，後來發炎，是乾隆年間的藥", "多休息，檸檬薴")
    assert opened(normalise)(record) == record
    simplified = opened(normalise, simplify=True)(record)
    assert [m.content for m in simplified.messages] == ["头发干燥，后来发炎，是乾隆年间的药", "多休息，柠檬苎"]
    assert opened(normalise, simplify=True)(simplified) == simplified


def test_counts_records_by_what_was_mended():
    changed = Counter()
    check = opened(normalise, changed)
    check(dialogue("头疼&nbsp;三天&nbsp;了", "５天<br>后&lt;复查"))
    check(dialogue("头疼", "休息 ", id=" b "))
    assert changed == {
        "HTML entities": 1,
        "HTML tags": 1,
        "full-width characters": 1,
    }


def test_tidies_ids_and_drops_an_empty_system_message():
    record = opened(normalise)(dialogue(" \u200b", "问", "答", roles=("system", "user", "assistant"), id=" 1\t"))
    assert record.id == "1"
    assert [m.role for m in record.messages] == ["user", "assistant"]


PIECES = [
    "<b",
    "r>",
    "&",
    "lt;",
    "#60;",
    "nbsp",
    "&amp;",
    "amp;",
    "<sup>9</sup>",
    "\r",
    "\n",
    "  ",
    "\u3000",
    "\u200d",
    "⚕",
]
PIECES += [
    "\ufffd",
    "１",
    "＜",
    "；",
    "```",
    "<p a=1>",
    "/p>",
    "`",
    "65533;",
    "\x85",
    "薴",
    "乾",
    "疼",
    "<!--",
    "-->",
    "\u200b",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=14).map("".join), st.booleans())
def test_twice_is_once(text, simplify):
    check = opened(normalise, simplify=simplify)
    once = check(document(text))
    assert check(once) == once


@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
def test_chinese_text_stays(text):
    assert tidy(text) == text
