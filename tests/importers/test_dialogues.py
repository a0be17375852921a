"""Importers of dialogues: every layout in which patients and doctors are published, and the real files whole."""

import json
from collections import Counter

import pytest

from medcli.core.errors import DataError
from medcli.core.raw_rows import ReadOptions
from medcli.core.record import Conversation
from medcli.steps.find_data import IMPORTERS, importer_for
from tests.conftest import RAW, shared

NO_ANSWER = "no question with an answer in the dialogue"
# source -> importer, rows, records before the gates, reasons
RAW_FILES = {
    "meddialog/consultations.txt": ("meddialog", 11, 10, {NO_ANSWER: 1}),
    "meddialog/dialogues.json": ("meddialog", 10, 8, {NO_ANSWER: 1, "a turn without a speaker": 1}),
    "meddialog/utterances.jsonl": ("meddialog", 10, 10, {}),
    "imcs21": ("imcs21", 10, 8, {NO_ANSWER: 1, "unknown role": 1}),
    "smile": ("smile", 10, 9, {NO_ANSWER: 1}),
    "firefly/dialogues.jsonl": ("firefly", 10, 8, {"broken dialogue": 1, "missing column": 1}),
    "firefly/moss.jsonl": ("firefly", 10, 10, {}),
    "literature/liver_cancer.json": (
        "literature",
        10,
        8,
        {"the instruction does not end with a question": 1, "empty answer": 1},
    ),
    "literature/multiturn_chat.json": ("literature", 10, 10, {}),
    "webmedqa": ("webmedqa", 30, 6, {"not the adopted answer": 24}),
    "huatuogpt": ("huatuogpt", 10, 8, {NO_ANSWER: 1, "a turn without a speaker": 1}),
    "cmtmedqa": ("alpaca", 10, 8, {"broken history": 2}),
    "chatdoctor/HealthCareMagic.json": ("alpaca", 10, 10, {}),
    "chatdoctor/iCliniq.json": ("pairs", 10, 10, {}),
    "medalpaca": ("alpaca", 10, 10, {}),
    "qizhen": ("alpaca", 10, 10, {}),
    "shennong": ("pairs", 10, 10, {}),
    "chatmed": ("pairs", 10, 10, {}),
    "disc": ("messages", 20, 20, {}),
    "belle": ("sharegpt", 10, 10, {}),
}


def read(source, importer=""):
    name = importer or importer_for(source)
    return list(IMPORTERS.get(name).read(source, ReadOptions(source="test")))


def records(name):
    """The records of a source by number."""
    return [row.record for row in read(RAW / name) if row.record]


def said(record):
    """The texts of a dialogue, each behind the first letter of its role."""
    return [f"{message.role[0]} {message.content}" for message in record.messages]


def takes_turns(record):
    roles = [message.role for message in record.messages if message.role != "system"]
    return len(roles) > 0 and roles == ["user", "assistant"] * (len(roles) // 2)


@pytest.mark.parametrize("name", RAW_FILES)
def test_raw_file(name):
    importer, read_, kept, reasons = RAW_FILES[name]
    assert importer_for(RAW / name) == importer
    rows = read(RAW / name)
    found = [row.record for row in rows if row.record]
    assert (len(rows), len(found)) == (read_, kept)
    assert Counter(row.reason.partition(": ")[0] for row in rows if row.reason) == reasons
    assert all(len(row.text) <= 500 and row.line >= 1 and row.file for row in rows)
    assert len({record.id for record in found}) == kept
    assert all(isinstance(record, Conversation) and takes_turns(record) for record in found)


def test_meddialog_the_answer_is_the_doctors_and_never_the_patients_own_words():
    """Published builds of MedDialog hold patients' messages as answers: roles were counted, not read."""
    lines = (RAW / "meddialog/consultations.txt").read_text("utf-8").splitlines()
    spoken = {"病人：": set(), "医生：": set()}
    for marker, line in zip(lines, lines[1:], strict=False):
        if marker in spoken:
            spoken[marker].add(line)
    found = records("meddialog/consultations.txt")
    answers = [line for record in found for m in record.messages[1::2] for line in m.content.splitlines()]
    asked = [line for record in found for m in record.messages[2::2] for line in m.content.splitlines()]
    assert set(answers) <= spoken["医生："]
    assert not set(answers) & spoken["病人："]
    assert set(asked) <= spoken["病人："]
    assert len(answers) == 22


def test_meddialog_description_is_the_first_question():
    first, second, third, fourth, *_ = records("meddialog/consultations.txt")
    assert first.messages[0].content.startswith("疾病： 急性支气管炎\n病情描述： 咳嗽五天了")
    assert first.messages[1].content == "发烧吗？胸口痛不痛？"
    assert first.messages[-1].role == "assistant"  # the thanks after it have no answer
    assert second.messages[0].content.count("饭后胃胀，打嗝，已经半个月。") == 1
    assert fourth.messages[0].content == "尿还可以，能玩。"  # without a description the doctor's first words go
    assert third.messages[2].content.splitlines() == [
        "昨天吃了螃蟹。",
        "医生：您好，这是上次另一位大夫写的。",  # words, not a marker, which stands alone on its line
        "昨天还吃了虾。",
    ]


def test_meddialog_joins_turns_and_leaves_repeats_out():
    found = records("meddialog/consultations.txt")
    assert found[4].messages[2].content == "勉强能走几步。\n还有点麻。"
    assert found[5].messages[3].content.splitlines() == [
        "像干眼，减少戴镜时间，用人工泪液。",
        "每半小时看看远处。",
    ]
    assert "初步诊断" not in found[6].messages[0].content  # the doctor's record is no question


def test_meddialog_another_patient_under_the_same_id_is_another_dialogue():
    rows = read(RAW / "meddialog/consultations.txt")
    other = next(row for row in rows if row.record and "另一位病人" in row.record.messages[0].content)
    assert said(other.record)[1:] == ["a 多喝水，不烧可以观察。"]
    lines = (RAW / "meddialog/consultations.txt").read_text("utf-8").splitlines()
    assert lines[other.line - 1] == "Description"


def test_meddialog_lists():
    found = records("meddialog/dialogues.json")
    assert said(found[0])[:2] == ["u 咳嗽五天了，夜里更重，有白痰。", "a 发烧吗？胸口痛不痛？"]
    assert found[2].messages[0].content == "身上起红疙瘩，一抓一片，很痒。\n昨天吃了螃蟹。"
    assert found[3].messages[0].content.startswith("宝宝一岁")  # 医生：在吗？ came before any question
    english = records("meddialog/utterances.jsonl")[0]
    assert english.messages[0].content == "My knee hurts after running. What should I do?"


def test_a_consultation_without_end_is_refused_and_the_next_is_read(tmp_path):
    path = tmp_path / "a.txt"
    words = "Description\n病情描述： 头疼\nDialogue\n医生：\n"
    path.write_text(f"id=1\n{words}" + "说了很多。\n" * 210_000 + f"id=2\n{words}休息。\n", "utf-8")
    rows = read(path)
    assert [row.reason for row in rows] == ["consultation too long: more than a million characters", ""]
    assert rows[1].record.id == "a-2"


def test_imcs21_begins_with_the_report_and_keeps_the_diagnosis():
    first, second, *_ = records("imcs21")
    assert said(first) == [
        "u 咳嗽五天了，夜里更重，有白痰。",
        "a 您好\n发烧吗？胸口痛不痛？",
        "u 最高三十七度八，胸口不痛。",
        "a 多半是支气管炎，多喝温水，三天不退烧就拍胸片。",
    ]
    assert first.meta == {"diagnosis": "急性支气管炎"}
    assert second.messages[0].content == "饭后胃胀，打嗝，已经半个月。"  # said twice, kept once
    assert records("imcs21")[2].meta == {}


def test_smile_a_file_is_a_dialogue():
    rows = read(RAW / "smile")
    assert [row.file for row in rows] == [f"data/{number}.json" for number in range(10)]
    assert said(rows[1].record) == [
        "u 我和室友吵架了。\n是因为打扫卫生。",
        "a 吵架以后你心里是什么感觉？\n可以慢慢说。",
        "u 有点后悔。",
        "a 后悔说明你在意这段关系。",
    ]
    assert rows[2].record.messages[0].role == "user"


def test_firefly_and_moss_rounds():
    found = records("firefly/dialogues.jsonl")
    moss = records("firefly/moss.jsonl")
    assert said(found[0]) == said(moss[0])
    assert said(moss[0])[0] == "u 咳嗽五天了，夜里更重，有白痰。"
    assert found[3].messages[0].role == "system"


def test_a_dialogue_in_the_instruction_is_taken_apart():
    liver = records("literature/liver_cancer.json")
    assert [len(record.messages) for record in liver[:2]] == [4, 2]
    assert said(liver[0])[-1] == "a 多半是支气管炎，多喝温水，三天不退烧就拍胸片。"
    belle = records("literature/multiturn_chat.json")[0]
    assert belle.messages[2].content == "最高三十七度八，胸口不痛。\n请分点回答。"


def test_webmedqa_keeps_the_adopted_answer_and_its_department():
    first, second, *_ = records("webmedqa")
    assert said(first)[1] == "a 多半是支气管炎，多喝温水，三天不退烧就拍胸片。"
    assert said(second)[1] == "a 先少吃多餐，忌浓茶，两周不好来做胃镜。"
    assert second.meta == {"department": "消化内科"}


def test_huatuogpt_turns_lose_their_marks_and_keep_their_form():
    found = records("huatuogpt")
    assert said(found[1])[1] == "a 先少吃多餐，忌浓茶，两周不好来做胃镜。\n\n1. 注意休息：每天八小时。\n2. 多喝水。"
    assert len(found[4].messages) == 4  # the last question has no answer
    assert said(found[-1]) == [
        "u 右边头一跳一跳地痛，怕光。",
        "a 符合偏头痛，安静避光休息，一个月超过四次来就诊。",
    ]


def test_cmtmedqa_histories_of_every_shape_say_the_same():
    found = records("cmtmedqa")
    assert [len(record.messages) for record in found] == [4, 4, 4, 2, 2, 2, 2, 6]
    assert said(found[1])[:2] == ["u 饭后胃胀，打嗝，已经半个月。", "a 有没有黑便，体重减轻吗？"]
    assert said(found[2])[0] == "u 身上起红疙瘩，一抓一片，很痒。"


def test_chatdoctor_takes_the_human_doctors_answer():
    found = records("chatdoctor/iCliniq.json")
    assert found[0].messages[1].content.startswith("Hi, water or wax")
    assert found[9].messages[1].content == ""  # the structure gate refuses it
    magic = records("chatdoctor/HealthCareMagic.json")[0]
    assert magic.messages[0].content.startswith("If you are a doctor,")
    assert magic.messages[0].content.endswith("my ear feels blocked since a swim.")


def test_files_that_are_read_by_columns():
    assert records("disc")[0].messages[0].content == "咳嗽五天了，夜里更重，有白痰。"
    assert said(records("disc")[10]) == [
        "u 咳嗽五天了，夜里更重，有白痰。",
        "a 多半是支气管炎，多喝温水，三天不退烧就拍胸片。",
    ]
    assert records("chatmed")[0].messages[1].content.startswith("多半是支气管炎")
    assert records("shennong")[0].messages[0].content.endswith("中医怎么调理？")
    assert records("qizhen")[2].messages[0].content == "荨麻疹有什么需要注意的？"
    assert records("belle")[0].messages[0].role == "user"


def test_a_folder_of_two_kinds_says_so(tmp_path):
    for name in ("huatuogpt/HuatuoGPT_sft_data_v1.jsonl", "meddialog/dialogues.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes((RAW / name).read_bytes())
    with pytest.raises(DataError, match=r"files of several kinds: huatuogpt/HuatuoGPT_sft_data_v1\.jsonl is huatuogpt"):
        importer_for(tmp_path)


# real source -> importer, rows, records, messages, reasons
REAL_FILES = {
    "meddialog": ("meddialog", 1508, 1377, 13214, {NO_ANSWER: 131}),
    "smile": ("smile", 1000, 998, 11368, {NO_ANSWER: 2}),
    "disc_medllm/test_examples.jsonl": ("messages", 163, 163, 837, {}),
    "disc_medllm/dialogues": ("messages", 314, 314, 1884, {}),
    "chatmed": ("pairs", 450, 450, 900, {}),
    "huatuo/llama_data.json": ("huatuo", 8658, 8658, 17316, {}),
    "huatuo/infer.json": ("huatuo", 5, 5, 10, {}),
    "huatuo26m": ("alpaca", 6000, 6000, 12000, {}),
    "medicalgpt/medical_sft_1K_format.jsonl": ("sharegpt", 1000, 1000, 2000, {}),
    "medicalgpt/medical_corpus.txt": ("pairs", 87, 87, 174, {}),
    "toyhom": ("pairs", 3000, 3000, 6000, {}),
}
# Dialogues that the files themselves hold with two turns of one role; the structure gate refuses them.
OUT_OF_TURN = {"disc_medllm/test_examples.jsonl": 3}


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_file(name):
    importer, read_, kept, messages, reasons = REAL_FILES[name]
    source = shared(name)
    assert importer_for(source) == importer
    rows = read(source)
    found = [row.record for row in rows if row.record]
    assert (len(rows), len(found)) == (read_, kept)
    assert sum(len(record.messages) for record in found) == messages
    assert Counter(row.reason for row in rows if row.reason) == reasons
    assert sum(not takes_turns(record) for record in found) == OUT_OF_TURN.get(name, 0)
    assert len({record.id for record in found}) == kept


def test_real_meddialog_answers_are_the_doctors_lines():
    source = shared("meddialog")
    lines = next(source.glob("*.txt")).read_text("utf-8").splitlines()
    doctor, patient, speaker = set(), set(), None
    for line in map(str.strip, lines):
        if line in ("病人：", "医生："):
            speaker = doctor if line == "医生：" else patient
        elif line in ("Description", "Dialogue", "Diagnosis and suggestions") or line.startswith("id="):
            speaker = None
        elif speaker is not None and line:
            speaker.add(line)
    found = [row.record for row in read(source) if row.record]
    answers = {line for record in found for m in record.messages[1::2] for line in m.content.splitlines()}
    asked = {line for record in found for m in record.messages[2::2] for line in m.content.splitlines()}
    assert len(answers) > 5000
    assert answers <= doctor
    assert asked <= patient


def test_real_smile_roles():
    source = shared("smile")
    found = [row.record for row in read(source) if row.record]
    assert Counter(m.role for record in found for m in record.messages) == {"user": 5684, "assistant": 5684}


def test_real_disc_roles_come_from_the_file():
    path = shared("disc_medllm/test_examples.jsonl")
    rows = [json.loads(line)["conversation"] for line in path.read_text("utf-8").splitlines()]
    for row, turns in zip(read(path), rows, strict=True):
        assert [(m.role, m.content) for m in row.record.messages] == [(t["role"], t["content"]) for t in turns]
