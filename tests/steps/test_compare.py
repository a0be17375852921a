"""Two models compared by the same exams."""

import json
from dataclasses import replace

import pytest

from medcli.core import exam_file
from medcli.core.errors import DataError
from medcli.core.paired import Preferred, mcnemar
from medcli.core.score import Score
from medcli.steps.compare import compare, to_json
from tests.examinations import SETTINGS, both, examination, marked

ONES = [1] * 50 + [0] * 30 + [1] * 4 + [0] * 16
OTHERS = [1] * 50 + [1] * 30 + [0] * 4 + [0] * 16  # 30 won, 4 lost


def compared(ones, others, **given):
    return compare([ones], [others], seed=1, **given).exams[0]


def test_right_and_wrong_are_compared_item_by_item():
    found = compared(*both(ONES, OTHERS))
    assert (len(found.wins), found.ties, len(found.losses)) == (30, 66, 4)
    assert (found.primary.one.value, found.primary.other.value) == (0.54, 0.8)
    assert found.primary.difference.value == pytest.approx(0.26)
    assert 0.1 < found.primary.difference.low < 0.26 < found.primary.difference.high < 0.4
    assert (found.test, found.p) == ("exact McNemar test", mcnemar(4, 30))
    assert found.shown
    assert found.primary.share


def test_the_other_order_of_models_turns_it_round():
    one, other = both(ONES, OTHERS)
    there, back = compared(one, other), compared(other, one)
    assert [pair.item.id for pair in there.wins] == [pair.item.id for pair in back.losses]
    assert there.primary.difference.low == pytest.approx(-back.primary.difference.high)
    assert there.p == back.p


def test_answers_belong_together_by_their_id_whatever_the_order():
    one, other = both(ONES, OTHERS)
    shuffled = replace(other, marked=tuple(reversed(other.marked)))
    assert to_json(compare([one], [shuffled], seed=1)) == to_json(compare([one], [other], seed=1))


def test_other_values_are_compared_by_signs_and_the_bootstrap():
    ones = [0.1 + 0.01 * (index % 7) for index in range(40)]
    others = [one + 0.02 + 0.001 * (index % 3) for index, one in enumerate(ones)]
    found = compared(*both(ones, others, primary="rouge-l"))
    assert found.test == "sign-flip test"
    assert found.p < 0.001
    assert 0.0205 < found.primary.difference.low < 0.021 < found.primary.difference.high < 0.0215
    assert len(found.wins) == 40


def test_less_is_better_of_some_metrics():
    found = compared(*both([0, 0, 1, 0], [1, 0, 1, 1], primary="unsafe-advice"))
    assert (len(found.wins), len(found.losses)) == (0, 2)
    assert found.primary.difference.value == 0.5
    assert found.primary.gain.value == -0.5
    assert (found.primary.gain.low, found.primary.gain.high) == (
        -found.primary.difference.high,
        -found.primary.difference.low,
    )


def test_the_worst_losses_come_first():
    found = compared(*both([0.9, 0.5, 0.8, 0.2], [0.8, 0.1, 0.8, 0.7], primary="rouge-l"))
    assert [pair.item.id for pair in found.losses] == ["q1", "q0"]
    assert [pair.item.id for pair in found.wins] == ["q3"]
    assert found.ties == 1


def test_items_without_the_metric_in_one_of_the_two_are_left_out_and_counted():
    ones = [marked("a", 1), marked("b", 1), marked("c", None, brier=0.5), marked("d", None)]
    others = [marked("a", 0), marked("b", None, outcome="unparsed"), marked("c", 1, brier=0.5), marked("d", None)]
    found = compared(examination("base", ones), examination("lora", others))
    assert [pair.item.id for pair in found.pairs] == ["a"]
    assert found.left_out == 2  # b and c; nobody has it for d
    assert found.primary.one.count == found.primary.other.count == 1
    assert found.primary.one.value - found.primary.other.value == -found.primary.difference.value


def test_every_further_metric_of_both_is_shown():
    ones = [marked(str(index), index % 2, brier=0.1 * index) for index in range(8)]
    others = [marked(str(index), 1, brier=0.1 * index - 0.05) for index in range(8)]
    ece, only_one = (
        Score(metric=metric, value=0.2, count=8, low=0.1, high=0.3) for metric in ("ece", "accuracy-by-length")
    )
    found = compared(
        examination("base", ones, scores=(ece, only_one)),
        examination("lora", others, scores=(replace(ece, value=0.15, low=0.1, high=0.25),)),
    )
    brier, of_all = found.further
    assert (brier.metric, brier.paired, brier.share) == ("brier", True, False)
    assert brier.difference.value == pytest.approx(-0.05)
    assert brier.difference.high - brier.difference.low < 1e-9  # the same for every item
    assert (of_all.metric, of_all.paired) == ("ece", False)
    assert of_all.difference.low < -0.1 < of_all.difference.high
    assert of_all.gain.value == pytest.approx(0.05)


def test_the_examinations_own_intervals_are_taken_where_all_items_are_paired():
    one, other = both([0.1, 0.5, 0.3], [0.2, 0.4, 0.6], primary="rouge-l")
    found = compared(one, other)
    assert found.primary.one == one.score("rouge-l")
    assert found.primary.other == other.score("rouge-l")


def test_marks_from_1_to_5_are_no_shares_even_where_all_are_1():
    found = compared(*(replace(side, scores=()) for side in both([1, 1, 1], [1, 1, 1], kind="dialogue")))
    assert found.test == "sign-flip test"
    assert not found.primary.share
    assert (found.primary.one.low, found.primary.one.high) == (1, 1)
    assert (found.p, found.shown) == (1, False)


def test_categories_lead_from_what_was_lost_and_few_are_marked():
    groups = [("医师", "内科")] * 40 + [("医师", "外科")] * 40 + [("药师", "中药")] * 40
    ones = [0] * 40 + [1, 0] * 20 + [1] * 40
    others = [1] * 40 + [1, 0] * 20 + [1] * 33 + [0] * 7
    found = compared(*both(ones, others, groups=groups))
    assert [group.names for group in found.wide] == [("药师",), ("医师",)]
    assert [group.names for group in found.narrow] == [("药师", "中药"), ("医师", "外科"), ("医师", "内科")]
    assert [group.contrast.difference.value for group in found.narrow] == pytest.approx([-0.175, 0, 1])
    assert [group.contrast.one.count for group in found.wide] == [40, 80]
    lost = found.narrow[0]
    assert lost.p == mcnemar(7, 0) == 0.015625
    assert lost.adjusted == pytest.approx(2 * lost.p)
    assert [group.shown for group in found.narrow] == [True, False, True]


def test_a_category_that_does_not_bear_the_correction_is_not_marked():
    groups = [(f"科{index // 10}",) for index in range(100)]
    found = compared(*both([1] * 100, [0] * 6 + [1] * 94, groups=groups))
    assert found.wide[0].p == 0.03125
    assert not any(group.shown for group in found.wide)


def test_too_many_narrow_groups_and_single_ones_are_left_out():
    many = [("一", str(index)) for index in range(41)]
    found = compared(*both([1] * 41, [0] * 41, groups=many))
    assert (found.wide, found.narrow) == ((), ())
    alike = [("一", "甲"), ("二", "乙")] * 5
    found = compared(*both([1, 1] * 5, [0, 1] * 5, groups=alike))
    assert len(found.wide) == 2
    assert found.narrow == ()  # no more than the wide ones


def test_groups_of_few_items_say_nothing_and_are_left_out():
    groups = [("一", "甲")] * 5 + [("二", "乙")] * 4
    found = compared(*both([1] * 9, [0] * 9, groups=groups))
    assert [group.names for group in found.wide] == [("一",)]


def test_general_exams_and_preferences_are_known_by_name():
    medical, general = both(ONES, OTHERS), both(ONES, OTHERS, exam="general")
    judged = Preferred(wins=3, losses=1, ties=0, consistency=1)
    found = compare([medical[0], general[0]], [medical[1], general[1]], seed=1, preferences={"cmb-test": judged}).exams
    assert [exam.general for exam in found] == [False, True]
    assert [exam.preferred for exam in found] == [judged, None]


def test_files_compare_like_what_is_at_hand(tmp_path):
    sides = []
    for number, side in enumerate(both(ONES, OTHERS, settings=SETTINGS | {"exam": ("cmb",)})):
        exam_file.write(replace(side, file=tmp_path / f"{number}.json"))
        sides.append(exam_file.read(tmp_path / f"{number}.json"))
    fresh = both(ONES, OTHERS, settings=SETTINGS | {"exam": ("cmb",)})
    assert to_json(compare([fresh[0]], [sides[1]], seed=1)) == to_json(compare([sides[0]], [fresh[1]], seed=1))


def test_json_holds_every_figure():
    groups = [("甲",)] * 50 + [("乙",)] * 50
    table = to_json(compare(*([side] for side in both(ONES, OTHERS, groups=groups)), seed=1))
    assert json.loads(json.dumps(table, ensure_ascii=False)) == table
    exam = table["exams"][0]
    assert (table["one"], table["other"], exam["exam"]) == ("base", "lora", "cmb-test")
    assert (exam["wins"], exam["ties"], exam["losses"]) == (30, 66, 4)
    assert exam["lost"] == ["q80", "q81", "q82", "q83"]
    assert [row["names"] for row in exam["categories"]] == [["甲"], ["乙"]]
    assert exam["primary"]["difference"]["value"] == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": SETTINGS | {"shots": 5, "max_tokens": 64}}, "shots 0 against 5; max-tokens 256 against 64"),
        ({"settings": {**SETTINGS, "mode": None}}, "mode generate against (not given)"),
        ({"dataset": {"name": "cmb-test", "split": "test", "sha256": "cd" * 32}}, f"sha256 {'ab' * 32} against"),
        ({"primary": "brier"}, "primary accuracy against brier"),
    ],
)
def test_what_was_not_examined_alike_is_refused(changes, said):
    one, other = both([1, 0], [0, 1])
    with pytest.raises(DataError) as error:
        compare([one], [replace(other, **changes)], seed=1)
    assert said in error.value.message
    assert "cmb-test: base and lora" in error.value.message
    assert "med eval --compare A B" in error.value.hint


def test_where_a_model_runs_is_of_no_matter():
    one, other = both([1, 0], [0, 1])
    elsewhere = replace(other, settings=SETTINGS | {"device": "cuda", "allow_leak": True})
    assert compare([one], [elsewhere], seed=1).exams[0].ties == 0


def test_ids_of_one_side_only_are_named(tmp_path):
    one, other = both([1] * 9, [1] * 2, file=tmp_path / "cmb-test.json")
    with pytest.raises(DataError, match=r"only base answered q2, q3, q4, q5, q6 and 2 more \(.*cmb-test.json"):
        compare([one], [other], seed=1)


def test_an_id_that_stands_twice_is_refused():
    one, other = both([1, 0], [0, 1])
    twice = replace(other, marked=(other.marked[0], other.marked[0]))
    with pytest.raises(DataError, match="q0 stand more than once"):
        compare([one], [twice], seed=1)


def test_the_same_id_with_another_question_is_refused():
    one, other = both([1, 0], [0, 1])
    first = other.marked[0]
    changed = replace(other, marked=(replace(first, item=replace(first.item, reference="休息")), other.marked[1]))
    with pytest.raises(DataError, match="were asked q0 in other words"):
        compare([one], [changed], seed=1)


def test_other_exams_or_none_are_refused():
    one, other = both([1], [1])
    with pytest.raises(DataError, match="cmb-test against triage"):
        compare([one], [replace(other, exam="triage")], seed=1)
    with pytest.raises(DataError, match="no exam"):
        compare([], [], seed=1)


def test_an_exam_without_its_primary_metric_is_refused():
    sides = [examination(model, [marked("a", None, brier=0.1)]) for model in ("base", "lora")]
    with pytest.raises(DataError, match="no item has the metric accuracy"):
        compare([sides[0]], [sides[1]], seed=1)
