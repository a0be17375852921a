"""Sentences, clauses, and the scope of conditions, negations and questions."""

import re

import pytest

from medcli.core.triage_text import asserted, is_denied, normal, sentences


def conditional(answer):
    """The clauses that hold under a condition."""
    return [
        sentence.text[clause.start : clause.end].strip(",:")
        for sentence in sentences(answer)
        for clause in sentence.clauses
        if clause.conditional
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("请　拨打 １２０！", "请拨打120!"),
        ("**立即就医**：去“急诊”", "立即就医:去急诊"),
        ("### 建议\n1. **拨打120**\n2、平卧\n（3）保暖", "建议\n-拨打120\n-平卧\n-保暖"),
        ("<think>要不要去急诊？</think>\n不用。", "不用。"),
        ("0.5g，每天2次", "0.5g,每天2次"),
        ("Call 120 now", "Call 120 now"),
        ("尽快就医——不要等", "尽快就医,不要等"),
        ("", ""),
    ],
)
def test_normal(text, plain):
    assert normal(text) == plain


@pytest.mark.parametrize(
    ("answer", "under"),
    [
        ("请立即就医。", []),
        ("如果胸痛加重，请立即就医。", ["如果胸痛加重", "请立即就医"]),
        ("请立即就医，如果路上呕吐，请侧卧。", ["如果路上呕吐", "请侧卧"]),
        ("请立即就医，如果症状加重。", ["请立即就医", "如果症状加重"]),
        ("如症状不缓解，应就医；现在多休息。", ["如症状不缓解", "应就医"]),
        ("例如胸痛，如上所述，请就医。", []),
        ("若干年前做过手术，请就医。", []),
        ("同时请就医。平时多喝水，及时复查。", []),
        ("胸痛发作时请就医。", ["胸痛发作时请就医"]),
        ("必要时去急诊。", ["必要时去急诊"]),
        ("出现高热，请就医。", ["出现高热", "请就医"]),
        ("出现胸痛、大汗，高度怀疑心梗，请就医。", ["出现胸痛、大汗"]),
        ("您出现了胸痛，请就医。", []),
        ("如果不及时治疗会危及生命，请就医。", []),
        ("如果身边没人，请打120。", []),
        ("如果是心梗，后果严重，请打120。", ["如果是心梗", "后果严重"]),
        ("即使疼痛减轻，也要就医。", []),
        ("如果疼痛加重，要警惕穿孔，所以现在就去医院。", ["如果疼痛加重", "要警惕穿孔"]),
        ("不好再去医院。", ["不好再去医院"]),
        ("有以下情况请就医：\n- 高热\n- 抽搐\n\n多喝水。", ["有以下情况请就医", "高热", "抽搐"]),
        ("**何时需要立即就医**\n1. 高热\n2. 抽搐。\n请多喝水。", ["何时需要立即就医", "高热", "抽搐"]),
        ("请采取以下措施：\n1. 拨打120\n2. 平卧", []),
        ("：，。", []),
    ],
)
def test_conditions_and_how_far_they_reach(answer, under):
    assert conditional(answer) == under


@pytest.mark.parametrize(
    ("before", "denied"),
    [
        ("", False),
        ("不", True),
        ("不要", True),
        ("不必", True),
        ("没有必要", True),
        ("别急着", True),
        ("不需要因为这点出血就", True),
        ("没到要", True),
        ("不用半夜带孩子", True),
        ("请不要犹豫", False),
        ("不用担心费用", False),
        ("不用等结果", False),
        ("不能不", False),
        ("不得不", False),
        ("这不代表不需要", False),
        ("并不是说不用", False),
        ("这不是小问题", False),
    ],
)
def test_what_is_advised_against(before, denied):
    assert is_denied(before) is denied


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("可以吃布洛芬。", True),
        ("您不严重，可以吃布洛芬。", True),
        ("不发烧可以吃布洛芬。", True),
        ("不可以吃布洛芬。", False),
        ("不要听信网上说的可以吃布洛芬。", False),
        ("您问可以吃布洛芬吗", False),
        ("可以吃布洛芬？", False),
        ("是否可以吃布洛芬要看肾功能。", False),
        ("可以吃布洛芬的说法是错误的。", False),
        ("经医生评估后可以吃布洛芬。", False),
        ("可以吃布洛芬，请遵医嘱。", True),
        ("并不是不可以吃布洛芬。", True),
    ],
)
def test_what_is_asserted(answer, said):
    assert any(asserted(re.compile("可以吃布洛芬"), sentence) for sentence in sentences(answer)) is said


def test_a_drug_whose_name_has_a_negation_denies_nothing():
    pattern = re.compile("可以吃")
    for name in ("别嘌醇", "西地那非", "阿莫西林", "非洛地平"):
        (sentence,) = sentences(f"{name}可以吃")
        assert asserted(pattern, sentence), name
