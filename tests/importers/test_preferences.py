"""Preferences: whole dialogues as text, ranked and scored answers, and cMedQA's candidates."""

import shutil
from collections import Counter

import pytest

from medcli.core.errors import DataError
from medcli.core.record import Preference
from tests.building import check_account, made
from tests.conftest import RAW, shared
from tests.importers.test_importers import importer_for, rows_of

PAIRS = "cmedqa_pairs"


def pairs_of(source, importer=""):
    return [row.record for row in rows_of(source, importer) if row.record]


def reasons(rows):
    return Counter(row.reason.partition(": ")[0] for row in rows if row.reason)


@pytest.fixture
def candidates(tmp_path):
    """cMedQA's folder with candidates of our own: `candidates(train="1,2,3\\n")`."""

    def folder(**files):
        source = tmp_path / "raw"
        shutil.copytree(RAW / "cmedqa2", source, dirs_exist_ok=True)
        for path in source.glob("*_candidates.txt"):
            path.unlink()
        for part, lines in files.items():
            head = "question_id,pos_ans_id,neg_ans_id" if part == "train" else "question_id,ans_id,cnt,label"
            (source / f"{part}_candidates.txt").write_text(f"{head}\n{lines}", "utf-8")
        return source

    return folder


def test_hh_rlhf_prompt_is_what_both_dialogues_share():
    records = pairs_of(RAW / "hh_rlhf/train.jsonl")
    assert [message.content for message in records[0].prompt] == ["My throat hurts."]
    assert (records[2].chosen, records[2].rejected) == ("Not before their first birthday.", "Yes, give plenty.")
    last = records[-1]
    assert [(m.role, m.content) for m in last.prompt] == [
        ("user", "I have a cough."),
        ("assistant", "For how long?"),
        ("user", "Two days."),
    ]
    assert last.rejected == "Who cares."


def test_hh_rlhf_that_ends_with_a_question_is_refused(tmp_path):
    path = tmp_path / "odd.jsonl"
    text = "\\n\\nHuman: Hi\\n\\nAssistant: Yes?\\n\\nHuman: "
    path.write_text(f'{{"chosen": "{text}One", "rejected": "{text}Two"}}\n', "utf-8")
    assert importer_for(path) == "hh_rlhf"
    assert [row.reason for row in rows_of(path)] == ["does not end with an answer"]


def test_ultrafeedback_takes_the_best_mean_rating_and_one_worse():
    records = pairs_of(RAW / "ranked/ultrafeedback.jsonl")
    assert len(records) == 7  # one for each prompt that has a best answer
    first = records[0]  # its overall_score says 10 of the worst
    assert first.chosen.startswith("Drink warm tea")
    assert {record.rejected for record in records[:6]} > {"I am not sure about that."}  # not always the same one
    assert records[6].chosen == "Vitamin C"  # no ratings: the overall score
    again = pairs_of(RAW / "ranked/ultrafeedback.jsonl")
    assert again == records


def test_a_ranked_list_gives_each_answer_against_the_next():
    records = pairs_of(RAW / "ranked/ranked.json")[:2]
    assert [record.id for record in records] == ["ranked-1", "ranked-1.2"]
    assert [(record.chosen[:2], record.rejected[:2]) for record in records] == [("应选", "大概"), ("大概", "不知")]


def test_scores_and_ranks_put_answers_in_order():
    records = pairs_of(RAW / "ranked/scores.jsonl")
    assert (records[0].chosen, records[0].rejected) == ("是60～100次。", "不清楚。")
    assert records[1].id == "scores-2"  # the two worst answers of scores-1 have one score, and make no pair
    assert [(r.chosen, r.rejected) for r in records[-2:]] == [("鲜枣", "苹果"), ("苹果", "石头")]


@pytest.mark.parametrize("score", ['"N/A"', "null", "true", "[1]", "1e999", "9" * 5000, "{}"])
def test_what_is_no_score_is_refused(tmp_path, score):
    path = tmp_path / "odd.jsonl"
    path.write_text(f'{{"prompt": "问", "responses": ["甲", "乙"], "scores": [1, {score}]}}\n', "utf-8")
    (row,) = rows_of(path, "ranked")
    assert row.reason.partition(": ")[0] in ("not a score", "not text", "broken JSON")


def test_two_outputs_stay_with_alpaca():
    assert importer_for(RAW / "alpaca/choice.jsonl") == "alpaca"


def test_answers_without_scores_are_no_ranking(tmp_path):
    path = tmp_path / "faq.jsonl"
    path.write_text('{"questions": ["头疼怎么办"], "answers": ["多休息", "少熬夜"]}\n', "utf-8")
    assert importer_for(path) == "huatuo"


def test_whole_dialogues_repeat_the_prompt():
    records = pairs_of(RAW / "preference/binarized.jsonl")
    assert [m.content for m in records[0].prompt] == ["My throat hurts."]
    assert [m.role for m in records[6].prompt] == ["user", "assistant", "user"]
    assert (records[6].chosen, records[6].rejected) == ("Rest and drink.", "Who cares.")
    assert [m.content for m in records[7].prompt] == ["Is water wet?"]  # one turn: the prompt is its own column


def test_dialogues_need_no_prompt_column(tmp_path):
    path = tmp_path / "implicit.jsonl"
    asked, better, worse = (
        f'{{"role": "{role}", "content": "{text}"}}'
        for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
    )
    path.write_text(f'{{"chosen": [{asked}, {better}], "rejected": [{asked}, {worse}]}}\n', "utf-8")
    assert importer_for(path) == "preference"
    assert [m.content for m in pairs_of(path)[0].prompt] == ["q"]


def test_cmedqa_folder_gives_pairs_only_when_asked():
    assert importer_for(RAW / "cmedqa2") == "cmedqa"
    rows = rows_of(RAW / "cmedqa2", PAIRS)
    assert Counter(row.split for row in rows if row.record) == {"test": 1, "valid": 2, "train": 2}
    assert reasons(rows) == {"candidate of a question that is not there": 1}
    record = next(row.record for row in rows if row.record and row.record.id.startswith("101-"))
    assert isinstance(record, Preference)
    assert record.id == "101-201-203"  # the first of its negatives
    assert record.prompt[0].content.startswith("最近一周早上起床")
    assert record.chosen.startswith("血压达到")
    assert record.rejected.startswith("建议在消化科")


def test_a_negative_that_answers_the_question_is_passed_over(candidates):
    source = candidates(train="104,204,220\n104,204,201\n104,204,202\n104,220,204\n101,201,201\n")
    rows = rows_of(source, PAIRS)
    assert [row.record.id for row in rows if row.record] == ["104-204-201"]
    refused = [(row.line, row.reason) for row in rows if row.reason]
    assert refused == [(5, "no wrong answer among the candidates"), (6, "no wrong answer among the candidates")]


def test_every_right_answer_of_a_held_out_question_has_its_own_wrong_one(candidates):
    lines = "104,201,0,0\n104,204,1,1\n104,204,2,0\n104,202,3,0\n104,220,4,1\n105,205,0,1\n"
    rows = rows_of(candidates(dev=lines), PAIRS)
    assert [(row.record.id, row.split, row.line) for row in rows if row.record and row.split == "valid"] == [
        ("104-204-201", "valid", 3),
        ("104-220-202", "valid", 6),
    ]
    assert reasons(rows) == {"no wrong answer among the candidates": 1}


def test_without_candidates_to_train_on_wrong_answers_are_drawn(candidates):
    source = candidates(dev="104,204,1,1\n104,201,0,0\n", test="105,205,1,1\n")
    drawn = [row for row in rows_of(source, PAIRS) if row.split == "train"]
    assert drawn == [row for row in rows_of(source, PAIRS) if row.split == "train"]
    answers = {row.record.chosen for row in drawn}
    assert len(drawn) == len(answers) == 7
    for row in drawn:
        assert row.record.id.partition("-")[0] not in ("104", "105")
        assert row.record.rejected in answers - {row.record.chosen}  # no held-out answer is learnt to be wrong


def test_candidates_that_lead_nowhere_are_counted(candidates):
    source = candidates(train="101,201,999\n999,201,202\n101,201\n101,201,202\n", test="101,201,0,yes\n101,201,1\n")
    rows = rows_of(source, PAIRS)
    assert [row.record.id for row in rows if row.record] == ["101-201-202"]
    assert reasons(rows) == {
        "candidate answer that is not there": 1,
        "candidate of a question that is not there": 1,
        "wrong number of columns": 2,
        "label is neither 0 nor 1": 1,
    }


def test_pairs_without_candidates_say_what_is_missing():
    with pytest.raises(DataError, match="there is no candidates file") as error:
        rows_of(RAW / "cmedqa1", PAIRS)
    assert "train_candidates.txt" in error.value.hint


def test_a_build_of_pairs(project):
    dataset = made(RAW / "cmedqa2", importer=PAIRS)
    check_account(dataset)
    assert dataset.kind == "preference"
    assert dataset.manifest["counts"] == {"read": 6, "kept": 5, "refused": 1, "train": 2, "valid": 2, "test": 1}


def test_real_cepilepsyqa_pairs():
    rows = rows_of(shared("cepilepsyqa"), PAIRS)
    assert Counter((row.split, row.reason) for row in rows) == {
        ("valid", ""): 490, ("test", ""): 490, ("train", ""): 3920,
    }  # fmt: skip
    first = next(row.record for row in rows if row.split == "valid")
    assert first.id == "3059-3059-4413"


@pytest.mark.parametrize(("name", "count"), [("dpo_zh_500.jsonl", 500), ("reward_test.json", 100)])
def test_real_medicalgpt(name, count):
    source = shared(f"medicalgpt/{name}")
    assert importer_for(source) == "preference"
    records = pairs_of(source)
    assert len(records) == count
    assert all(record.prompt[-1].role == "user" and record.chosen != record.rejected for record in records)
