"""Facts that a rewriting must keep, and must not invent."""

import pytest

from medcli.core.grounding import drugs, invented, lost, numbers, overlap, share_said
from medcli.core.loose_json import json_in, objects_in


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("吃了3天药，没有发烧", "服药3天，未出现发烧", ""),
        ("吃了三天药", "服药3天。", ""),
        ("每次０.５g", "每次0.5克", ""),
        ("每次0.5g，每天两次", "每次5g，每天2次", "a number is lost: 0.5"),
        ("每次2片", "每次2粒", "a dose is lost: 2片"),
        ("十二周了", "12周了", ""),
        ("没有发烧", "有发烧", "a negation is lost: 发烧"),
        ("没有发烧", "没有咳嗽，有发烧", "a negation is lost: 发烧"),
        ("不能喝酒", "不要喝酒", ""),
        ("不能喝酒", "少量喝酒可以", "a negation is lost: 喝酒"),
        ("在吃阿莫西林胶囊", "正在服用抗生素", "a drug is lost"),
        ("在吃氨氯地平", "正在服用氨氯地平。", ""),
        ("不好意思，头疼", "头疼", ""),
        ("1. 多休息\n2. 多喝水", "多休息，多喝水", ""),
    ],
)
def test_what_is_lost(old, new, said):
    assert lost(old, new).startswith(said)
    assert bool(lost(old, new)) == bool(said)


def test_what_is_invented():
    assert invented("服用二甲双胍，每天2次", "二甲双胍每天2次") == ""
    assert invented("每天2次", "每天3次") == "a number is not in the source: 3"
    assert invented("注意休息", "可服阿莫西林").startswith("a drug is not in the source")


def test_parts():
    assert numbers("（1）三天 2.50 二十岁") == {"3", "2.5", "20"}
    assert "氨氯地平" in drugs("氨氯地平每天一片")
    assert overlap("肺炎多由细菌引起", "肺炎由细菌引起") > 0.6
    assert share_said(["咳嗽", "发热"], "会咳嗽") == 0.5


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}]',
        '```json\n[{"a": 1},]\n```',
        '好的，结果如下：{"qa": [{"a": 1}]} 希望有帮助',
        '{"a": 1}',
        '[{"a": 1}',
    ],
)
def test_json_as_models_write_it(text):
    if text.endswith("]") or "```" in text or "qa" in text or text == '{"a": 1}':
        assert objects_in(text) == [{"a": 1}]
    else:
        with pytest.raises(ValueError, match="no"):
            json_in(text.replace("{", "").replace("[", ""))


def test_a_line_break_inside_a_string_is_read():
    assert objects_in('[{"a": "一\n二"}]') == [{"a": "一\n二"}]
