"""Every importer over its ten hand-written lines, and over the real files where they are."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from medcli.core.errors import DataError
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Conversation, Document, Preference
from medcli.steps.find_data import IMPORTERS, importer_for
from tests.conftest import RAW, shared

# source -> importer, rows, records before the gates, reasons
RAW_FILES = {
    "cmedqa2": ("cmedqa", 13, 10, {"question without an answer": 1,
                "answer to a question that is not there": 1, "candidate of a question that is not there": 1}),
    "cmedqa1": ("cmedqa", 10, 10, {}),
    "huatuo/llama_data.json": ("huatuo", 10, 10, {}),
    "huatuo/encyclopedia.json": ("huatuo", 10, 9, {"no question or no answer in the lists": 1}),
    "alpaca/alpaca.json": ("alpaca", 10, 7, {"broken history": 1, "not text": 1, "missing column": 1}),
    "alpaca/choice.jsonl": ("alpaca", 10, 9, {"broken JSON": 1}),
    "sharegpt/dialogues.jsonl": ("sharegpt", 10, 9, {"unknown role": 1}),
    "messages/dialogues.jsonl": ("messages", 10, 9, {"missing column": 1}),
    "messages/conversation.jsonl": ("messages", 10, 10, {}),
    "pairs/neike.gbk.csv": ("pairs", 10, 9, {"wrong number of columns": 1}),
    "pairs/pairs.tsv": ("pairs", 10, 10, {}),
    "pairs/wenda.txt": ("pairs", 10, 10, {}),
    "pairs/consult.json": ("pairs", 10, 10, {}),
    "pairs/target.jsonl": ("pairs", 10, 10, {}),
    "text/lines.txt": ("text", 10, 10, {}),
    "text/paragraphs.txt": ("text", 10, 10, {}),
    "text/corpus.jsonl": ("text", 10, 9, {"missing column": 1}),
    "preference/dpo.jsonl": ("preference", 10, 10, {}),
    "preference/reward.json": ("preference", 10, 10, {}),
    "preference/messages.jsonl": ("preference", 10, 9, {"missing column": 1}),
    "preference/binarized.jsonl": ("preference", 10, 8, {"the dialogues differ before the last answer": 1,
                                   "does not end with an answer": 1}),
    "hh_rlhf/train.jsonl": ("hh_rlhf", 10, 7, {"the dialogues differ before the last answer": 1,
                            "the better and the worse answer are the same": 1, "broken dialogue": 1}),
    "ranked/ultrafeedback.jsonl": ("ranked", 10, 7, {"no answer is better than another": 2, "not a score": 1}),
    "ranked/ranked.json": ("ranked", 18, 16, {"no answer is better than another": 1, "not text": 1}),
    "ranked/scores.jsonl": ("ranked", 11, 8, {"no answer is better than another": 1, "not a list": 1,
                            "answers and scores do not match": 1}),
    "ceval": ("exam_table", 10, 8, {"no answer": 2}),
    "cmmlu/clinical_knowledge.csv": ("exam_table", 10, 10, {}),
    "exam_table/columns.csv": ("exam_table", 10, 6, {"an empty option before others": 1, "no answer": 1,
                               "an answer without its option": 1, "fewer than two options": 1}),
    "exam_table/cases.jsonl": ("exam_table", 10, 8, {"fewer than two options": 1,
                               "the answer is a number, not a letter": 1}),
    "cmb": ("cmb", 12, 8, {"no answer (the test's are in CMB-test-choice-answer.json)": 1, "answer id used twice": 1,
            "an empty option before others": 1, "answer to a question that is not there": 1}),
    "cmb_clin/CMB-Clin-qa.json": ("cmb_clin", 10, 9, {"no questions about the case": 1}),
    "cmexam/test_with_annotations.csv": ("cmexam", 10, 8, {"no answer": 1,
                                         "options that do not begin with their letters": 1}),
    "cmexam/hub.json": ("cmexam", 10, 10, {}),
    "mlec/Clinic_test.json": ("mlec", 10, 9, {"needs a picture": 1}),
    "medqa/US.jsonl": ("medqa", 10, 8, {"no answer": 1, "the answer's letter and its text are two options": 1}),
    "medqa/Mainland_dev.jsonl": ("medqa", 10, 10, {}),
    "medmcqa/dev.json": ("medmcqa", 10, 8, {"no answer": 1, "cop is out of range": 1}),
    "medmcqa/hub.jsonl": ("medmcqa", 10, 9, {"no answer": 1}),
    "graph/medical.json": ("graph", 146, 138, {"a contradiction": 2, "no name": 1,
                           "the same attributes of this disease came before": 2,
                           "a value is cut off": 1, "the name is cut off": 1,
                           "no attribute has a value": 1}),
    "graph/disease.csv": ("graph", 197, 192, {"a value is cut off": 2, "the name is cut off": 1,
                          "the same attributes of this disease came before": 1,
                          "cells stand past the last named column, so the others may be shifted": 1}),
    "graph/cmekg.json": ("graph", 86, 84, {"not text": 1, "not an object with columns": 1}),
    "pubmedqa/ori_pqal.json": ("pubmedqa", 10, 9, {"no answer": 1}),
    "pubmedqa/hub.jsonl": ("pubmedqa", 10, 9, {"no answer": 1}),
}  # fmt: skip


def rows_of(source: Path, importer: str = "", **options):
    name = importer or importer_for(source)
    return list(IMPORTERS.get(name).read(source, ReadOptions(source="test", **options)))


@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_file(name):
    importer, read, kept, reasons = RAW_FILES[name]
    assert importer_for(RAW / name) == importer
    rows = rows_of(RAW / name)
    assert len(rows) == read
    assert sum(row.record is not None for row in rows) == kept
    assert Counter(row.reason.partition(": ")[0] for row in rows if row.reason) == reasons
    assert all(len(row.text) <= 500 and row.line >= 1 and row.file for row in rows)
    ids = [row.record.id for row in rows if row.record]
    assert len(set(ids)) == len(ids)


def test_every_importer_says_what_it_takes():
    for name in IMPORTERS.names():
        assert 20 < len(IMPORTERS.get(name).HELP) < 120, name


def test_cmedqa_joins_every_answer_and_keeps_the_split():
    rows = [row for row in rows_of(RAW / "cmedqa2") if row.record]
    assert Counter(row.split for row in rows) == {"train": 7, "valid": 2, "test": 1}
    assert {row.record.id for row in rows if row.split != "train"} == {"105-205", "106-206", "107-207"}
    assert [row.record.id for row in rows if row.record.id.startswith("104-")] == ["104-204", "104-220"]


def test_cmedqa_without_candidates_leaves_the_split_open():
    assert {row.split for row in rows_of(RAW / "cmedqa1")} == {""}


def test_cmedqa_reads_the_zip_archives_as_they_are_published(tmp_path):
    for name in ("question.csv", "answer.csv", "dev_candidates.txt", "test_candidates.txt"):
        with zipfile.ZipFile(tmp_path / f"{name.partition('.')[0]}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(RAW / "cmedqa2" / name, name)
            archive.writestr(f"__MACOSX/._{name}", b"\0\5\x16\7")
    rows = rows_of(tmp_path)
    assert Counter(row.split for row in rows if row.record) == {"train": 7, "valid": 2, "test": 1}
    assert {row.file for row in rows if row.record} == {"answer.zip/answer.csv"}


def test_cmedqa_one_archive_with_everything(tmp_path):
    with zipfile.ZipFile(tmp_path / "cMedQA2.zip", "w") as archive:
        for path in sorted((RAW / "cmedqa2").iterdir()):
            archive.write(path, f"cMedQA2-master/{path.name}")
    assert sum(row.record is not None for row in rows_of(tmp_path / "cMedQA2.zip")) == 10


def test_cmedqa_names_the_missing_file_and_column(tmp_path):
    (tmp_path / "question.csv").write_text("question_id,content\n1,头疼\n", "utf-8")
    with pytest.raises(DataError, match="there is no answer.csv"):
        rows_of(tmp_path, "cmedqa")
    (tmp_path / "answer.csv").write_text("ans_id,question_id,contents\n1,1,休息\n", "utf-8")
    with pytest.raises(DataError, match=r"answer.csv:1: there is no column 'content'") as error:
        rows_of(tmp_path, "cmedqa")
    assert "contents" in error.value.hint


def test_alpaca_history_and_lists():
    records = [row.record for row in rows_of(RAW / "alpaca/alpaca.json") if row.record]
    assert [m.role for m in records[2].messages] == ["user", "assistant"] * 3
    assert records[2].messages[0].content == "幽门螺杆菌会传染吗？"
    assert records[1].messages[0].content.startswith("请根据患者的描述给出建议。\n孩子三岁")
    assert isinstance(records[5], Conversation)  # lists of one text
    assert records[5].messages[1].content.startswith("褪黑素")
    assert records[-1].messages[0].role == "system"


def test_alpaca_with_two_outputs_is_a_preference():
    first = rows_of(RAW / "alpaca/choice.jsonl")[0].record
    assert isinstance(first, Preference)
    assert first.rejected == "多喝热水就好了。"


def test_broken_line_has_its_number():
    row = rows_of(RAW / "alpaca/choice.jsonl")[-1]
    assert (row.line, row.file) == (10, "choice.jsonl")
    assert row.text.startswith('{"instruction": "断掉的一行"')


def test_huatuo_keeps_other_wordings_beside():
    record = rows_of(RAW / "huatuo/encyclopedia.json")[0].record
    assert record.messages[0].content.startswith("最近一周")
    assert record.meta["also_asked"].endswith("请说明")


def test_sharegpt_system_and_turns():
    record = rows_of(RAW / "sharegpt/dialogues.jsonl")[0].record
    assert [m.role for m in record.messages] == ["system", "user", "assistant", "user", "assistant"]


def test_pairs_join_title_and_ask_and_keep_the_department():
    rows = rows_of(RAW / "pairs/neike.gbk.csv")
    record = rows[0].record
    assert record.meta == {"department": "心血管科"}
    assert "补充：已经持续一段时间" in record.messages[0].content
    assert rows[1].line == 4  # the first row stands on two lines
    assert '"智齿"' in rows[8].record.messages[0].content


def test_pairs_unwrap_the_prompt_around_a_question():
    record = rows_of(RAW / "pairs/consult.json")[0].record
    assert record.messages[0].content == "最近一周早上起床总是头晕，量血压是150/95，需要吃药吗？"


def test_text_lines_and_paragraphs():
    lines = rows_of(RAW / "text/lines.txt")
    paragraphs = rows_of(RAW / "text/paragraphs.txt")
    assert isinstance(lines[0].record, Document)
    assert paragraphs[1].record.text.startswith("第2节\n孩子三岁")
    assert paragraphs[1].line == 5


def test_preference_shapes_agree():
    shapes = [rows_of(RAW / f"preference/{name}")[0].record for name in ("dpo.jsonl", "reward.json", "messages.jsonl")]
    assert len({(record.prompt, record.chosen) for record in shapes}) == 1


def test_partial_columns_mean_no_such_column(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('[{"q": "头疼怎么办", "a": "多休息", "input": "不要读我", "history": 3}]', "utf-8")
    rows = rows_of(path, "alpaca", columns={"prompt": "q", "response": "a", "query": ""})
    assert [m.content for m in rows[0].record.messages] == ["头疼怎么办", "多休息"]


REAL_FILES = {
    "cepilepsyqa": ("cmedqa", 4900, {}),
    "huatuo/llama_data.json": ("huatuo", 8658, {}),
    "huatuo/infer.json": ("huatuo", 5, {}),
    "huatuo26m": ("alpaca", 6000, {}),
    "toyhom": ("pairs", 3000, {}),
    "medicalgpt/medical_sft_1K_format.jsonl": ("sharegpt", 1000, {}),
    "medicalgpt/dpo_zh_500.jsonl": ("preference", 500, {}),
    "medicalgpt/reward_test.json": ("preference", 100, {}),
    "medicalgpt/medical_corpus.txt": ("pairs", 87, {}),
    "medicalgpt/fever.txt": ("text", 985, {}),
    "chatmed": ("pairs", 450, {}),
    "disc_medllm/test_examples.jsonl": ("messages", 163, {}),
}


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_file(name):
    importer, read, reasons = REAL_FILES[name]
    source = shared(name)
    assert importer_for(source) == importer
    rows = rows_of(source)
    assert len(rows) == read
    assert Counter(row.reason for row in rows if row.reason) == reasons


def test_real_candidates_of_unknown_questions_are_counted(tmp_path):
    archive = shared("cmedqa2/dev_candidates.zip")
    for name in ("question.csv", "answer.csv"):
        (tmp_path / name).symlink_to(shared(f"cepilepsyqa/{name}"))
    (tmp_path / "dev_candidates.zip").symlink_to(archive)
    rows = Counter((row.reason, row.split) for row in IMPORTERS.get("cmedqa").read(tmp_path, ReadOptions(source="x")))
    assert rows == {("candidate of a question that is not there", ""): 400_000, ("", "train"): 4900}
