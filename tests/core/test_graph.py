"""Knowledge graphs of four shapes come out with one set of names, and nothing is lost without a word."""

from collections import Counter

import pytest

from medcli.core.errors import DataError
from medcli.core.graph import Entity, dropped_rows, entities
from medcli.core.graph_index import index_of
from medcli.core.graph_questions import answer, ask, attribute_name, forms, refusal, split_of
from medcli.core.knowledge import table_path
from tests.conftest import RAW, shared


def read(path) -> tuple[dict[str, Entity], list[str]]:
    found = list(entities(path))
    return (
        {item.name: item for item in found if isinstance(item, Entity)},
        [item.reason.partition(": ")[0] for item in found if not isinstance(item, Entity)],
    )


def test_medical_json():
    diseases, faults = read(RAW / "graph/medical.json")
    fever = diseases["青云热"]
    assert fever.values("symptoms") == ("发热", "耳后酸胀", "手心发青")
    assert fever.values("department") == ("内科", "感染科")
    assert fever.values("drugs") == ("青云退热片", "白露颗粒")
    assert fever.values("insurance") == ("是",)
    assert fever.line == 1
    assert "category" not in fever.attributes
    assert "drug_detail" not in fever.attributes
    assert len(diseases) + len(faults) == 10


def test_a_food_that_is_good_and_bad_is_neither():
    rash = read(RAW / "graph/medical.json")[0]["冬青疹"]
    assert rash.values("diet_good") == ("海带",)
    assert rash.values("diet_bad") == ("羊肉",)
    assert [row.reason.partition(": ")[0] for row in dropped_rows(rash)] == ["a contradiction"] * 2


def test_a_table_s_lists_are_cut_where_its_values_end():
    diseases, faults = read(RAW / "graph/disease.csv")
    eye = diseases["立春眼"]
    assert eye.aliases == ("春眼", "迎春眼")
    assert eye.values("symptoms") == ("眼红", "流泪", "怕光，见风加重")
    assert eye.values("drugs") == ("立春滴眼液",)  # the other one is cut off
    assert eye.dropped == ("drugs: 迎春眼膏...",)
    assert eye.incomplete == {"tests", "symptoms", "treatment", "drugs"}
    assert eye.values("insurance") == ("是",)
    assert "drugs" not in diseases["惊蛰腹泻"].attributes  # an advertisement stood there
    assert diseases["惊蛰腹泻"].values("treatment") == ("补液", "药物治疗")
    assert "cure_rate" not in diseases["惊蛰腹泻"].attributes
    assert "秋分骨折" not in diseases  # the row's cells are shifted
    assert len(diseases) + len(faults) == 10


def test_cmekg_keeps_attributes_of_other_names():
    diseases, _ = read(RAW / "graph/cmekg.json")
    heat = diseases["夏至暑湿"]
    assert heat.values("高危因素") == ("久居潮湿处",)
    assert "久居潮湿处" in answer(heat, "高危因素")
    assert diseases["秋燥"].aliases == ("秋天干燥",)


def test_our_own_table():
    diseases, faults = read(table_path())
    assert (len(diseases), faults) == (84, [])
    assert diseases["原发性高血压"].values("department") == ("心血管内科",)
    assert table_path().read_text("utf-8").splitlines()[diseases["痛风"].line - 1] == "[[disease]]"


def test_a_broken_table_is_named(tmp_path):
    for text in ("[[disease]\n", "[other]\na = 1\n"):
        (tmp_path / "a.toml").write_text(text, "utf-8")
        with pytest.raises(DataError, match=r"a\.toml"):
            list(entities(tmp_path / "a.toml"))


def test_a_name_that_comes_again_adds_only_what_is_new(tmp_path):
    (tmp_path / "a.json").write_text(
        '{"name": "甲病", "cure_department": ["内科"], "get_prob": "1%", "cure_way": []}\n'
        '{"name": "甲病", "cure_department": ["外科"], "get_prob": "2%", "cure_way": ["按摩"]}\n',
        "utf-8",
    )
    first, later = entities(tmp_path / "a.json")
    assert dict(later.attributes) == {"treatment": ("按摩",)}
    (whole,) = index_of([first, later]).entities
    assert (whole.values("department"), whole.values("treatment")) == (("内科",), ("按摩",))


def test_wordings_for_test_are_never_trained_on():
    for table in (forms()["attribute"], forms()["yesno"]["attribute"], forms()["choice"]["attribute"]):
        for attribute, wording in table.items():
            assert not set(wording["questions"]) & set(wording["held_out"]), attribute
            assert all("{d}" in text for text in (*wording["questions"], *wording["held_out"])), attribute


def test_questions_are_worded_by_split():
    import random

    entity = read(RAW / "graph/medical.json")[0]["青云热"]
    asked = {split: {ask(entity, "drugs", split, random.Random(n)) for n in range(60)} for split in ("train", "test")}
    assert len(asked["train"]) > 15
    assert not asked["train"] & asked["test"]
    assert attribute_name("drugs") in refusal(entity, "drugs")


def test_splits_have_their_shares():
    drawn = Counter(split_of({"valid": 0.1, "test": 0.2}, "seed", number) for number in range(5000))
    assert 400 < drawn["valid"] < 600
    assert 870 < drawn["test"] < 1130


REAL = {
    # file -> diseases, reasons of rows without one, values dropped
    "kg_medical_json/medical10.json": (23, {}, 8),
    "kg_disease_csv/disease.csv": (
        12638,
        {"the name is cut off": 827, "the same attributes of this disease came before": 861,
         "cells stand past the last named column, so the others may be shifted": 10},
        6301,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files(name):
    found = list(entities(shared(name)))
    diseases = [item for item in found if isinstance(item, Entity)]
    reasons = Counter(item.reason.partition(": ")[0] for item in found if not isinstance(item, Entity))
    assert (len(diseases), reasons, sum(len(item.dropped) for item in diseases)) == REAL[name]
    for item in diseases:
        for values in item.attributes.values():
            assert not [value for value in values if value.endswith(("...", "…")) or "[详细]" in value or not value]
