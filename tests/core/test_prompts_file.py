"""Prompts come from files as people have them; a row that cannot be asked is named with its line, before any is."""

import json

import pytest

from medcli.core.errors import DataError, UsageError
from medcli.core.prompts_file import prompts_in
from tests.building import Notes

ASKED = ["头痛，怎么办？", "发热三天", "咳嗽"]


def read(path, limit=None, report=None):
    return prompts_in(path, limit, report or Notes())


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def only(tmp_path, row):
    """The turns and the reference of the one prompt that a row stands for."""
    [prompt] = read(lines(tmp_path / "one.jsonl", [row]))
    return [(turn.role[0], turn.content) for turn in prompt.messages], prompt.reference


@pytest.mark.parametrize(
    "form", ["lines", "lines named json", "array", "array on a line", "csv", "tsv", "gb18030", "txt"]
)
def test_files_have_any_format_and_encoding(tmp_path, form):
    rows = [{"question": text} for text in ASKED]
    path = tmp_path / {"csv": "a.csv", "tsv": "a.tsv", "gb18030": "a.csv", "txt": "a.txt", "lines": "a.jsonl"}.get(
        form, "a.json"
    )
    if form.startswith("lines"):
        lines(path, rows)
    elif form.startswith("array"):
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=None if form.endswith("line") else 1), "utf-8")
    elif form == "txt":
        path.write_text("\ufeff" + "\r\n".join(ASKED), "utf-8", newline="")
    else:
        mark = "\t" if form == "tsv" else ","
        cells = [f"{number}{mark}{text.replace(',', '，')}" for number, text in enumerate(ASKED)]
        path.write_text("\n".join([f"row{mark}question", *cells]), "gb18030" if form == "gb18030" else "utf-8")
    assert [prompt.messages[-1].content for prompt in read(path)] == ASKED


@pytest.mark.parametrize("column", ["prompt", "question", "instruction", "text", "query", "Question", "input"])
@pytest.mark.parametrize("wanted", ["reference", "answer", "output", "response", "label", "completion"])
def test_columns_have_the_names_that_people_give_them(tmp_path, column, wanted):
    assert only(tmp_path, {"other": 1, column: "头痛", wanted: "休息"}) == ([("u", "头痛")], "休息")


def test_an_instruction_has_its_input_history_and_system(tmp_path):
    row = {"instruction": "翻译", "input": "头痛", "history": [["你好", "请讲"]], "system": "你是医生", "output": ""}
    turns = [("s", "你是医生"), ("u", "你好"), ("a", "请讲"), ("u", "翻译\n头痛")]
    assert only(tmp_path, row) == (turns, None)


def test_the_last_answer_of_a_dialogue_is_the_reference(tmp_path):
    turns = [{"role": "user", "content": "头痛"}, {"role": "assistant", "content": "多久了？"}]
    assert only(tmp_path, {"messages": turns}) == ([("u", "头痛")], "多久了？")
    turns.append({"role": "user", "content": "三天"})
    asked = [("u", "头痛"), ("a", "多久了？"), ("u", "三天")]
    assert only(tmp_path, {"messages": turns}) == (asked, None)
    assert only(tmp_path, {"prompt": turns, "reference": "休息"}) == (asked, "休息")


def test_ids_are_kept_and_lines_stand_in_for_them(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"id": "x", "text": "甲"}, {"id": 7, "text": "乙"}, {"id": "", "text": "丙"}])
    path.write_text("\n" + path.read_text("utf-8"), "utf-8")
    assert [prompt.id for prompt in read(path)] == ["x", 7, 4]
    path.write_text('[{"text": "甲"}, {"text": "乙"}]', "utf-8")
    assert [prompt.id for prompt in read(path.rename(tmp_path / "a.json"))] == [1, 2]


def test_a_text_is_a_prompt_a_line_whatever_its_commas(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfheadache, fever\r\n\r\n \r\nname, age\r\n\r\n")
    report = Notes()
    prompts = read(path, report=report)
    assert [(prompt.id, prompt.messages[0].content) for prompt in prompts] == [(1, "headache, fever"), (4, "name, age")]
    assert report.notes == [f"{path}: empty lines are no prompts and left out: 2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": " "}, "the question is empty"),
        ({"name": "甲"}, "no question: there is name"),
        ({"question": {"a": 1}}, "not text: 'question'"),
        ({"messages": "头痛"}, "not a list of turns"),
        ({"messages": []}, "no question at the end"),
        ({"messages": [{"role": "doctor", "content": "x"}]}, "unknown role"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "turn 2 is of 'user' where one of 'assistant'"),
        ({"question": "甲", "history": "no json"}, "broken history"),
        ({"question": "甲", "choices": ["a", "b"]}, "med data build"),
        ({"question": "half \ud83d"}, "half a character"),
        (7, "neither an object"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_with_its_line(tmp_path, row, reason):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "好"}}\n\n{json.dumps(row)}\n{{"text": "好"}}\n', "utf-8")
    with pytest.raises(DataError, match=reason) as error:
        read(path)
    assert error.value.message.startswith(f"{path}:3: ")


def test_of_many_bad_rows_ten_are_shown(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "好"}\n' + '{"broken\n' * 30, "utf-8")
    with pytest.raises(DataError, match="30 rows cannot be asked") as error:
        read(path)
    assert [f"a.jsonl:{line}: broken JSON" in error.value.hint for line in (2, 11, 12)] == [True, True, False]
    assert "20 more" in error.value.hint


def test_a_limit_takes_the_first_ones(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"text": text} for text in ASKED] + [{"broken": 1}])
    assert len(read(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.jsonl", b"", "is empty"), ("a.txt", b"\n \n", "holds no prompt"), ("a.csv", b"PK\x03\x04", "a zip archive")],
)
def test_a_file_without_prompts_is_an_error(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_a_folder_and_a_file_that_is_not_there_are_named(tmp_path):
    lines(tmp_path / "prompts.jsonl", [{"text": "甲"}])
    with pytest.raises(UsageError, match="name one|holds 1 data files"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such file") as error:
        read(tmp_path / "prompt.jsonl")
    assert "did you mean" in error.value.hint
