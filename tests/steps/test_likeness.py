"""What a build takes out for being too like another record: near-duplicates, and leaks between splits."""

import json
import random
import shutil

import pytest

from medcli.core.fingerprint import question_of
from medcli.engine.grams import grams_of, similarity
from tests.building import check_account, made, rows
from tests.conftest import RAW

WORDS = [
    "".join(random.Random(n).choices("头胸腹背腰腿疼痛酸麻胀热冷咳喘晕吐泻痒肿天月年岁老幼男女", k=3))
    for n in range(400)
]


def text(generator, words=25):
    return "，".join(generator.choices(WORDS, k=words))


def dialogues(count, seed=1):
    generator = random.Random(seed)
    return [{"question": text(generator), "answer": text(generator)} for _ in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_near_duplicates_are_refused_and_say_of_which_record(project, tmp_path):
    pairs = dialogues(300)
    copies = [{key: value[:-1] + "。！" for key, value in row.items()} for row in pairs[:40]]
    dataset = made(write(tmp_path / "a.jsonl", pairs + copies))
    check_account(dataset)
    assert dataset.manifest["refused"] == {"near-duplicate": 40}
    reasons = {row["line"]: row["reason"] for row in rows(dataset, "refused")}
    assert reasons == {301 + n: f"near-duplicate: of a-{1 + n}" for n in range(40)}
    without = made(write(tmp_path / "a.jsonl", pairs + copies), near=1.0, name="b")
    assert without.manifest["refused"].keys() == {
        "nearly the same question is in valid",
        "nearly the same question is in test",
    }


def test_another_answer_to_the_same_long_question_stays(project, tmp_path):
    question = text(random.Random(2), 80)
    pairs = [*dialogues(30), {"question": question, "answer": "多休息"}, {"question": question, "answer": "去医院"}]
    assert made(write(tmp_path / "a.jsonl", pairs)).manifest["refused"] == {}


def test_no_question_of_train_is_nearly_one_that_is_held_out(project, tmp_path):
    generator = random.Random(3)
    pairs = []
    for row in dialogues(400, seed=4):
        pairs += [row, {"question": f"请问：{row['question'].replace('，', ' ')}？", "answer": text(generator)}]
    dataset = made(write(tmp_path / "a.jsonl", pairs))
    check_account(dataset)
    assert 60 < dataset.manifest["counts"]["refused"] < 180  # a tenth is held out; of each pair one may be in train
    held = [question_of(record) for split in ("valid", "test") for record in dataset.records(split)]
    trained = [question_of(record) for record in dataset.records("train")]
    grams = grams_of(held + trained)
    sets = [grams.distinct(index) for index in range(len(held) + len(trained))]
    assert all(similarity(one, other) < 0.8 for one in sets[: len(held)] for other in sets[len(held) :])


def test_held_out_rows_stay_as_they_are_published(project, tmp_path):
    pairs = dialogues(60)
    (tmp_path / "set").mkdir()
    write(tmp_path / "set/train.jsonl", pairs[:40] + [pairs[45] | {"question": pairs[45]["question"] + "呢"}])
    advertising = {"question": "头疼怎么办呢", "answer": "专家免费咨询热线：400-123-4567，无效退款，包治好"}
    write(tmp_path / "set/test.jsonl", [*pairs[40:], pairs[50] | {"answer": pairs[50]["answer"] + "呢"}, advertising])
    dataset = made(tmp_path / "set")
    assert dataset.manifest["counts"]["test"] == 22
    assert dataset.manifest["refused"] == {"near-duplicate": 1}
    assert rows(dataset, "refused")[0]["file"] == "train.jsonl"


def test_sentences_made_by_a_grammar_are_not_compared(project):
    dataset = made("knowledge", raw=None)
    assert dataset.manifest["counts"]["refused"] == dataset.manifest["refused"].get("exact duplicate", 0)


@pytest.mark.parametrize("phi", ["mask", "off"])
def test_what_is_refused_is_masked_too(project, tmp_path, phi):
    bad = [{"question": "", "answer": "请打13812345678找王医生"}, {"question": "头疼", "answer": "休息", "x": 1}]
    dataset = made(write(tmp_path / "a.jsonl", [*dialogues(30), *bad]), phi=phi)
    (refused,) = rows(dataset, "refused")
    assert ("13812345678" in refused["text"]) == (phi == "off")


def test_exam_questions_keep_their_names(project):
    shutil.copytree(RAW / "cmb", project / "exam")
    file = next((project / "exam").rglob("CMB-train*.json"))
    table = json.loads(file.read_text("utf-8"))
    table[0]["question"] = "患者王小明，男，45岁，李医生给他查体后最可能的诊断是什么？"
    file.write_text(json.dumps(table, ensure_ascii=False), "utf-8")
    dataset = made(project / "exam")
    assert any("王小明" in row["question"] for split in ("train", "test", "valid") for row in rows(dataset, split))
    assert not any("masked" in what for what in dataset.manifest["changed"])


def test_a_question_moved_to_fill_a_split_has_no_twin_in_train(project, tmp_path):
    """In small sets the hash leaves splits empty; of 24 questions 23 have a twin, and only the last may be moved."""
    generator = random.Random(6)
    pairs = []
    for row in dialogues(23, seed=7):
        pairs += [row, {"question": f"请问：{row['question'].replace('，', ' ')}？", "answer": text(generator)}]
    alone = {"question": text(generator), "answer": text(generator)}
    dataset = made(write(tmp_path / "a.jsonl", [*pairs, alone]), valid=0.0, test=1e-9)
    check_account(dataset)
    assert [question_of(record) for record in dataset.records("test")] in ([alone["question"]], [])
    twins = made(write(tmp_path / "b.jsonl", pairs), valid=0.0, test=1e-9)
    assert twins.manifest["counts"]["test"] == 0
    every = made(write(tmp_path / "c.jsonl", dialogues(24, seed=8)), valid=0.0, test=1e-9)
    assert every.manifest["counts"]["test"] == 1
