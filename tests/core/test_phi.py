"""The finder of patient identifiers: how many of them it finds, and how much else."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.phi import LABELS, Identifier, Masker, find

MARKED = re.compile(r"\{([^|{}]+)\|([^{}]+)\}")
SENTENCES = [
    line
    for line in Path(__file__).with_name("phi_sentences.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
TRAPS = [line for line in SENTENCES if not MARKED.search(line)]
# What was measured when the sentences were last changed: none may become worse unseen.
LOWEST_PRECISION, LOWEST_RECALL = 0.98, 0.95


def plain(sentence: str) -> tuple[str, set[tuple[str, str]]]:
    """The text of a marked sentence, and the (kind, text) that are marked in it."""
    return MARKED.sub(r"\2", sentence), {(match[1], match[2]) for match in MARKED.finditer(sentence)}


def found(text: str) -> set[tuple[str, str]]:
    return {(identifier.kind, identifier.text) for identifier in find(text)}


def counts() -> tuple[Counter[str], Counter[str], Counter[str]]:
    """By kind: rightly found, wrongly found, missed."""
    right, wrong, missed = Counter(), Counter(), Counter()
    for sentence in SENTENCES:
        text, wanted = plain(sentence)
        got = found(text)
        right.update(kind for kind, _ in got & wanted)
        wrong.update(kind for kind, _ in got - wanted)
        missed.update(kind for kind, _ in wanted - got)
    return right, wrong, missed


def test_the_sentences_are_many_and_half_are_traps():
    assert len(SENTENCES) >= 150
    assert 0.4 < len(TRAPS) / len(SENTENCES) < 0.7
    kinds = Counter(kind for sentence in SENTENCES for kind, _ in plain(sentence)[1])
    assert kinds.keys() == LABELS.keys()


def test_precision_and_recall_over_all():
    right, wrong, missed = (counter.total() for counter in counts())
    assert right / (right + wrong) >= LOWEST_PRECISION
    assert right / (right + missed) >= LOWEST_RECALL


@pytest.mark.parametrize("kind", LABELS)
def test_precision_and_recall_of_each_kind(kind):
    right, wrong, missed = (counter[kind] for counter in counts())
    assert right / (right + wrong) >= 0.9, f"{wrong} wrongly found"
    assert right / (right + missed) >= 0.9, f"{missed} missed"


@pytest.mark.parametrize("sentence", TRAPS)
def test_a_trap_stays_as_it_is(sentence):
    assert Masker().mask(sentence) == sentence


def test_identifiers_stand_where_they_say_in_order():
    text = "李医生，我电话13800138000，住院号5566778，QQ：123456789，邮箱a@example.com"
    identifiers = find(text)
    assert [text[i.start : i.end] for i in identifiers] == [i.text for i in identifiers]
    assert all(a.end <= b.start for a, b in pairwise(identifiers))
    assert identifiers[0] == Identifier(kind="name", start=0, end=1, text="李")
    assert [i.kind for i in identifiers] == ["name", "mobile number", "record number", "messenger account", "e-mail"]


def test_the_same_identifier_has_the_same_placeholder_in_a_dialogue():
    masker = Masker()
    assert masker.mask("我叫陈思远，电话138 0013 8000，找王医生。") == "我叫[姓名1]，电话[电话1]，找[姓名2]医生。"
    assert (
        masker.mask("王医生和李医生都打过+8613800138000和13912345678")
        == "[姓名2]医生和[姓名3]医生都打过[电话1]和[电话2]"
    )
    assert masker.masked == {"name": 4, "mobile number": 3}
    assert Masker().mask("李医生") == "[姓名1]医生"


def test_numbers_in_a_web_address_stay():
    text = "见 https://example.com/flow_13800138000_1.htm 一文"
    assert find(text) == []


@pytest.mark.parametrize("digits", ["110101199003070012", "110101199013070011", "6222021234567890", "23800138000"])
def test_a_number_with_a_wrong_check_digit_is_no_identifier(digits):
    assert find(f"编码{digits}。") == []


# What identifiers are made of, to be thrown together.
SCRAPS = """姓名： 患者 我叫 王 高 于 医生 主任 [姓名1] [电话12345] 电话 138 0013 8000 13800138000 010- 62345678 路
88号 住址： 家住 朝阳区 床号 微信 QQ： 出生 1985年3月 身份证 110101199003070011 @ a@b.cn ] [ 是 男 ， 。"""
PIECES = st.sampled_from([*SCRAPS.split(), " ", "\n", *(plain(sentence)[0] for sentence in SENTENCES[::3])])
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join)


@given(TEXTS)
def test_masking_twice_is_masking_once(text):
    masker = Masker()
    once = masker.mask(text)
    assert masker.mask(once) == once
    assert find(once) == []


@given(st.text(alphabet="血压偏高头痛发热三天咳嗽吃药好转，。？的了高白黄方时常江石金 \n"))
def test_text_without_digits_and_titles_stays(text):
    assert Masker().mask(text) == text


@given(st.lists(TEXTS, min_size=2, max_size=4))
def test_placeholders_do_not_depend_on_what_follows(texts):
    all_of_them, the_first = Masker(), Masker()
    assert [all_of_them.mask(text) for text in texts][0] == the_first.mask(texts[0])
    assert all_of_them.masked.total() >= the_first.masked.total()
