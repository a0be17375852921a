"""Exams: every spelling of options and answers, joined files, splits, and the real files where they are."""

import csv
import json
import shutil
import zipfile
from collections import Counter

import pytest

from medcli.core.errors import DataError
from medcli.core.raw_exam import answer_of, choices_of
from medcli.core.raw_rows import Refused
from tests.building import check_account, made
from tests.conftest import RAW, SHARED_DATA, shared
from tests.importers.test_importers import IMPORTERS, importer_for, rows_of

FIVE = ("甲", "乙", "丙", "丁", "戊")


def questions(source, importer=""):
    return [row.record for row in rows_of(source, importer) if row.record]


def splits(rows):
    return Counter((row.split, row.reason.partition(": ")[0]) for row in rows)


def table(path, answers, *, name="题"):
    """A table of questions; an empty answer is withheld."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "A", "B", "answer"])
        writer.writerows([[f"{name}{path.stem}{n}", "对", "错", answer] for n, answer in enumerate(answers)])


@pytest.mark.parametrize(
    ("answer", "letters"),
    [
        ("B", "B"),
        ("b", "B"),
        ("Ｃ", "C"),
        (" A. ", "A"),
        ("CA", "AC"),
        ("E,A;C", "ACE"),
        ("D、A、B", "ABD"),
        ("A C", "AC"),
        (["C", "A"], "AC"),
        (["B"], "B"),
        ("AAB", "AB"),
        ("丙", "C"),
        (["戊", "甲"], "AE"),
    ],
)
def test_answers_become_sorted_letters(answer, letters):
    assert answer_of(answer, FIVE) == letters


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no answer"),
        (None, "no answer"),
        (float("nan"), "no answer"),
        ([], "no answer"),
        ("F", "an answer without its option: F"),
        ("AF", "an answer without its option: AF"),
        ("A或B", "not an answer: A或B"),
        ("all", "not an answer: all"),
        (2, "the answer is a number, not a letter: 2"),
        ("2", "the answer is a number, not a letter: 2"),
        ({"A": 1}, "not text: 'answer'"),
        (True, "not text: 'answer'"),
    ],
)
def test_what_is_no_answer_is_refused(answer, reason):
    with pytest.raises(Refused, match=reason):
        answer_of(answer, FIVE)


def test_text_answers_are_not_read_as_letters():
    assert answer_of("no", ("yes", "no", "maybe")) == "B"
    assert answer_of("AB", ("A型", "B型", "AB型", "O型")) == "AB"  # two letters, not the blood group
    assert answer_of("AB", ("AB", "O")) == "AB"
    assert answer_of("AB型", ("A型", "B型", "AB型", "O型")) == "C"


@pytest.mark.parametrize(
    "options",
    [
        {"A": "甲", "B": "乙", "C": "3"},
        {"C": 3, "A": "甲", "B": "乙", "D": "", "E": None},
        {"ａ": "甲", "b": " 乙 ", "Ｃ": "3"},
        ["甲", "乙", "3", ""],
        [{"key": "A", "value": "甲"}, {"key": "C", "value": "3"}, {"key": "B", "value": "乙"}],
        [{"label": "A", "text": "甲"}, {"label": "B", "text": "乙"}, {"label": "C", "text": "3"}],
        "A 甲\nB 乙\nC 3",
        "A. 甲\nB、乙\n(C) 3\n",
        "A 甲 B 乙 C 3",
        "A 甲\nB 乙\nC 3\nD \nE",
    ],
)
def test_options_in_every_shape(options):
    assert choices_of(options) == ("甲", "乙", "3")


def test_an_option_may_hold_lines_and_letters():
    assert choices_of("A 维生素 B 族\nB 维生素 C\n及其盐\nC 都不是") == ("维生素 B 族", "维生素 C\n及其盐", "都不是")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"A": "甲", "B": "", "C": "丙"}, "an empty option before others: B"),
        ({"B": "乙", "C": "丙"}, "an empty option before others: A"),
        ({"A": "甲", "其他": "乙"}, "not the letter of an option"),
        ("对\n错", "options that do not begin with their letters"),
        (None, "no options"),
        ("", "no options"),
    ],
)
def test_options_that_cannot_be_lettered_are_refused(options, reason):
    with pytest.raises(Refused, match=reason):
        choices_of(options)


def test_options_named_by_their_letters_in_a_list_lose_them():
    record = questions(RAW / "exam_table/cases.jsonl")[1]
    assert (record.choices, record.answer) == (("血HCG", "盆腔超声", "头颅CT"), "AB")


def test_a_shared_case_leads_the_stem():
    first, second = questions(RAW / "exam_table/cases.jsonl")[:2]
    assert first.stem == "女，26岁，停经45天，突发右下腹痛伴晕厥。\n首先考虑的诊断是"
    assert second.stem.startswith("女，26岁，停经45天")


def test_columns_letters_and_subjects():
    records = questions(RAW / "exam_table/columns.csv")
    assert [record.answer for record in records] == ["ABDE", "AC", "C", "A", "ABCDE", "A"]
    assert records[2].choices == ("1", "2", "3", "4")  # one-character options stay
    assert len(records[4].choices) == 6
    assert [record.subject for record in records][:4] == ["内科", "内科", "药学", "外科"]


def test_an_unnamed_index_column_is_no_part_of_the_question():
    record = questions(RAW / "cmmlu/clinical_knowledge.csv")[0]
    assert (record.stem, record.subject) == ("成人静息心率的正常范围是（每分钟）", "clinical_knowledge")


def test_ceval_val_is_the_test_for_its_test_has_no_answers():
    rows = rows_of(RAW / "ceval")
    assert splits(rows) == {("test", ""): 6, ("test", "no answer"): 2, ("valid", ""): 2}
    assert {row.record.id.partition("-")[0] for row in rows if row.split == "valid"} == {"basic_medicine_dev"}
    assert {record.subject for record in questions(RAW / "ceval")} == {"basic_medicine", "physician"}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"test": "AB", "val": "A", "dev": "B", "train": "AAA"}, {"test": 2, "valid": 2, "train": 3}),
        ({"test": "", "val": "A", "dev": "BB"}, {"test": 1, "valid": 2}),
        ({"dev": "BB", "train": "AAA"}, {"test": 2, "train": 3}),
        ({"dev": "BB"}, {"test": 2}),
        ({"train": "AAA"}, {"test": 3}),
        ({"exam": "AAA", "valid": "B"}, {"test": 3, "valid": 1}),
    ],
)
@pytest.mark.parametrize("layout", ["{part}.csv", "{part}/x.csv", "x_{part}.csv", "Exam-{part}-2/x.csv"])
def test_names_of_files_and_folders_decide_the_split(tmp_path, answers, expected, layout):
    for part, given in answers.items():
        table(tmp_path / layout.format(part=part), given or [""], name=part)
    assert Counter(row.split for row in rows_of(tmp_path) if row.record) == expected


def test_a_folder_above_the_source_says_nothing(tmp_path):
    table(tmp_path / "train" / "dev" / "exam.csv", "AB")
    assert {row.split for row in rows_of(tmp_path / "train" / "dev" / "exam.csv")} == {"test"}


def test_cmb_joins_answers_to_questions_by_id():
    rows = rows_of(RAW / "cmb")
    records = {row.record.id: row.record for row in rows if row.record}
    joined = [records[f"CMB-test-choice-question-merge-{n}"] for n in range(1, 6)]
    assert [record.answer for record in joined] == ["C", "D", "E", "C", "ACE"]
    assert joined[3].choices == ("1", "2", "3")
    assert len(joined[4].choices) == 6
    assert joined[4].subject == "药师考试/执业西药师"
    assert Counter(row.split for row in rows if row.record) == {"test": 5, "valid": 1, "train": 2}


def test_cmb_zip_with_its_answers_beside_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "CMB.zip", "w") as archive:
        for path in sorted((RAW / "cmb").glob("*/*.json")):
            archive.write(path, f"CMB/CMB-Exam/{path.parent.name}/{path.name}")
        archive.write(RAW / "cmb_clin/CMB-Clin-qa.json", "CMB/CMB-Clin/CMB-Clin-qa.json")
    assert {row.split for row in rows_of(tmp_path / "CMB.zip") if row.record} == {"test", "train"}  # val is the test
    shutil.copy(RAW / "cmb/CMB-test-choice-answer.json", tmp_path)
    assert importer_for(tmp_path) == "cmb"
    assert splits(rows_of(tmp_path)) == splits(rows_of(RAW / "cmb"))
    assert len(rows_of(tmp_path, "cmb_clin")) == 10


def test_cmb_answers_alone_say_what_is_missing(project):
    with pytest.raises(DataError, match="holds CMB's answers without their questions") as error:
        made(RAW / "cmb/CMB-test-choice-answer.json")
    assert "CMB-test-choice-question-merge.json" in error.value.hint


def test_cmb_questions_alone_say_where_the_answers_are(project):
    with pytest.raises(DataError, match=r"6 × no answer \(the test's are in CMB-test-choice-answer.json\)"):
        made(RAW / "cmb/CMB-test/CMB-test-choice-question-merge.json")


def test_cmb_cases_are_dialogues_that_begin_with_the_description():
    record = rows_of(RAW / "cmb_clin/CMB-Clin-qa.json")[0].record
    assert [message.role for message in record.messages] == ["user", "assistant"] * 2
    assert record.messages[0].content == "病人，男，35岁，发热、咳嗽3天，右下肺湿啰音。\n简述诊断。"
    assert record.messages[2].content == "简述治疗原则。"
    assert record.meta == {"title": "案例分析-肺炎"}
    assert {row.split for row in rows_of(RAW / "cmb_clin/CMB-Clin-qa.json")} == {"test"}


def test_cmexam_text_and_list_give_the_same_options():
    text, listed = questions(RAW / "cmexam/test_with_annotations.csv"), questions(RAW / "cmexam/hub.json")
    assert [(r.stem, r.choices, r.answer) for r in text[:6]] == [(r.stem, r.choices, r.answer) for r in listed[:6]]
    assert (text[6].answer, text[6].subject) == ("ABD", "药学")
    assert text[0].subject == "内科"


def test_mlec_subject_is_the_file_and_the_shared_case_stays():
    records = questions(RAW / "mlec/Clinic_test.json")
    assert {record.subject for record in records} == {"Clinic"}
    assert "男，40岁，乏力、面色苍白半年。缺铁性贫血" in records[5].stem


def test_medqa_letter_and_text_must_agree():
    rows = rows_of(RAW / "medqa/US.jsonl")
    assert rows[2].record.choices == ("A", "B12", "C", "D")
    assert rows[2].record.answer == "C"
    assert rows[8].reason == "the answer's letter and its text are two options: B, Liver"


def test_medmcqa_counts_from_one_in_its_files_and_from_zero_on_the_hub():
    own, hub = questions(RAW / "medmcqa/dev.json"), questions(RAW / "medmcqa/hub.jsonl")
    assert [record.answer for record in own] == [record.answer for record in hub][:8]
    assert "".join(record.answer for record in own) == "ABCDACBA"


def medmcqa(path, numbers):
    row = {"opa": "甲", "opb": "乙", "opc": "丙", "opd": "丁"}
    lines = [
        row | {"question": f"{path.stem}{n}"} | ({} if cop is None else {"cop": cop}) for n, cop in enumerate(numbers)
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")


def test_medmcqa_that_may_count_from_either_is_no_guess(tmp_path):
    medmcqa(tmp_path / "dev.json", [1, 2, 3])
    with pytest.raises(DataError, match="whether cop counts from 0 or from 1 cannot be told"):
        rows_of(tmp_path)
    medmcqa(tmp_path / "train.json", [3, 4])  # another file of the set tells
    medmcqa(tmp_path / "test.json", [None])
    assert {
        (row.record.stem, row.record.answer) for row in rows_of(tmp_path) if row.record and row.split == "test"
    } == {
        ("dev0", "A"),
        ("dev1", "B"),
        ("dev2", "C"),
    }
    assert splits(rows_of(tmp_path)) == {("test", ""): 3, ("test", "no answer"): 1, ("train", ""): 2}


def test_pubmedqa_forms_agree():
    own, hub = questions(RAW / "pubmedqa/ori_pqal.json"), questions(RAW / "pubmedqa/hub.jsonl")
    assert [(r.stem, r.choices, r.answer) for r in own] == [(r.stem, r.choices, r.answer) for r in hub]
    assert [record.answer for record in own[:3]] == ["A", "B", "C"]
    assert own[0].stem.endswith("two groups were compared.\nDoes a daily walk lower blood pressure?")


def test_pubmedqa_ground_truth_lists_the_official_test(tmp_path):
    shutil.copy(RAW / "pubmedqa/ori_pqal.json", tmp_path)
    (tmp_path / "test_ground_truth.json").write_text('{"900001": "no", "900002": "maybe", "900004": "no"}', "utf-8")
    assert importer_for(tmp_path) == "pubmedqa"
    rows = rows_of(tmp_path)
    assert splits(rows) == {("test", ""): 3, ("train", ""): 6, ("train", "no answer"): 1}
    assert [row.record.id for row in rows if row.split == "test"] == ["ori_pqal-2", "ori_pqal-3", "ori_pqal-5"]


def test_what_a_build_keeps_of_an_exam(project):
    dataset = made(RAW / "cmb")
    check_account(dataset)
    assert dataset.kind == "question"
    assert [record.answer for record in dataset.records("test")] == ["C", "D", "E", "C", "ACE"]
    assert dataset.manifest["counts"] == {"read": 12, "kept": 8, "refused": 4, "train": 2, "valid": 1, "test": 5}


def test_real_ceval():
    source = shared("ceval/ceval.zip")
    assert importer_for(source) == "exam_table"
    rows = rows_of(source)
    assert splits(rows) == {("test", ""): 1346, ("test", "no answer"): 12342, ("valid", ""): 260}
    subjects = Counter(row.record.subject for row in rows if row.record and row.split == "test")
    assert len(subjects) == 52
    assert (subjects["basic_medicine"], subjects["clinical_medicine"], subjects["physician"]) == (19, 22, 49)


def test_real_cmmlu():
    rows = rows_of(shared("cmmlu"))
    assert splits(rows) == {("test", ""): 1071, ("valid", ""): 20}
    assert Counter(row.record.subject for row in rows if row.split == "test") == {
        "clinical_knowledge": 237,
        "college_medicine": 273,
        "professional_medicine": 376,
        "traditional_chinese_medicine": 185,
    }
    assert splits(rows_of(shared("cmmlu/dev"))) == {("test", ""): 20}


def test_real_cmb_cases():
    source = shared("cmb/CMB-test-qa.json")
    assert importer_for(source) == "cmb_clin"
    records = [row.record for row in rows_of(source)]
    assert len(records) == 74
    assert sum(len(record.messages) for record in records) == 2 * 208


def test_real_cmb_answers_fit_questions_with_their_ids(tmp_path):
    name = "CMB-test-choice-answer.old.json"
    with pytest.raises(DataError, match="without their questions"):
        rows_of(shared(f"cmb/{name}"))
    answers = json.loads((SHARED_DATA / "cmb" / name).read_text("utf-8"))
    kinds = ("exam_type", "exam_class", "exam_subject", "question_type")
    asked = [
        {"id": row["id"], "question": f"第{row['id']}题", "option": dict(zip("ABCDEF", "甲乙丙丁戊己", strict=True))}
        | {kind: row[kind] for kind in kinds}
        for row in reversed(answers)
    ]
    (tmp_path / "CMB-test-choice-question-merge.json").write_text(json.dumps(asked), "utf-8")
    shutil.copy(SHARED_DATA / "cmb" / name, tmp_path)
    rows = rows_of(tmp_path)
    # 28 of the published answers are no letters: sentences with letters in them, "C7", "9".
    assert splits(rows) == {
        ("test", ""): 11_172,
        ("test", "not an answer"): 25,
        ("test", "the answer is a number, not a letter"): 3,
    }
    records = [row.record for row in rows if row.record]
    gold = {f"第{row['id']}题": "".join(sorted(set(row["answer"]))) for row in answers}
    assert all(record.answer == gold[record.stem] for record in records)
    assert len({record.subject for record in records}) == 28


def test_every_exam_importer_is_found_without_its_name():
    exams = {"exam_table", "cmb", "cmexam", "mlec", "medqa", "medmcqa", "pubmedqa"}
    assert exams <= set(IMPORTERS.names())
