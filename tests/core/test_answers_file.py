"""Answers come from files as people have them, to the questions they belong to, and what does not fit is told."""

import csv
import json

import pytest

from medcli.core.answers_file import read_answers
from medcli.core.errors import DataError, UsageError
from medcli.core.exam import Item, Marked
from medcli.core.exam_file import Examination, write
from medcli.core.record import Message
from medcli.core.speaker import Sampling
from tests.building import Notes
from tests.conftest import shared

SAID = {"q1": "多喝水", "q2": "低盐饮食", "q3": "B"}


def items(ids=("q1", "q2", "q3"), reference=""):
    return [Item(id=id, prompt=(Message(role="user", content=f"{id}怎么办？"),), reference=reference) for id in ids]


def said(path, asked=None, report=None):
    asked = items() if asked is None else asked
    speaker = read_answers(path).speaker_for(asked, report or Notes())
    return speaker.replies([item.prompt for item in asked], Sampling(), lambda done: None)


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("id", ["id", "_id", "question_id", "qid", "ID"])
@pytest.mark.parametrize("answer", ["answer", "model_answer", "predict", "prediction", "output", "response", "text"])
def test_columns_have_the_names_that_programs_give_them(tmp_path, id, answer):
    rows = [{answer: text, id: key} for key, text in reversed(SAID.items())]
    assert said(lines(tmp_path / "a.jsonl", rows)) == list(SAID.values())


@pytest.mark.parametrize("form", ["array", "lines", "csv", "gb18030", "bom", "by number"])
def test_files_have_any_format_and_encoding(tmp_path, form):
    rows = [{"question_id": number, "answer": f"答案，\n{number}"} for number in (3, 1, 2)]
    path = tmp_path / "output.json"
    encoding = {"gb18030": "gb18030", "bom": "utf-8-sig"}.get(form, "utf-8")
    if form == "lines":
        lines(path, rows)
    elif form == "by number":
        table = {str(row["question_id"]): {"answer": row["answer"]} for row in rows}
        path.write_text(json.dumps(table, ensure_ascii=False), encoding)
    elif form == "array":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=4), encoding)
    else:
        path = tmp_path / "output.csv"
        with path.open("w", encoding=encoding, newline="") as file:
            table = csv.DictWriter(file, ("question_id", "answer"))
            table.writeheader()
            table.writerows(rows)
    assert said(path, items(("1", "2", "3"))) == ["答案，\n1", "答案，\n2", "答案，\n3"]


def test_the_models_answer_is_taken_where_the_right_one_stands_beside_it(tmp_path):
    report = Notes()
    rows = [{"id": key, "question": "?", "answer": "A", "model_answer": text} for key, text in SAID.items()]
    assert said(lines(tmp_path / "a.jsonl", rows), report=report) == list(SAID.values())
    assert ["'model_answer', not of answer" in note for note in report.notes] == [True]


def test_predictions_without_ids_go_by_order(tmp_path):
    report = Notes()
    path = lines(tmp_path / "generated_predictions.txt", [{"label": "对", "predict": text} for text in SAID.values()])
    assert said(path, items(reference="对"), report) == list(SAID.values())
    assert ["in the order of the questions" in note for note in report.notes] == [True]
    said(path, items(reference="错"), report)
    assert "are they in another order?" in report.notes[-1]


def test_what_med_chat_says_goes_by_order(tmp_path):
    report = Notes()
    rows = [{"question": f"{key}怎么办？", "answer": text, "model": "med-tiny"} for key, text in SAID.items()]
    assert said(lines(tmp_path / "chat.jsonl", rows), report=report) == list(SAID.values())
    assert len(report.notes) == 1
    said(tmp_path / "chat.jsonl", items(("x", "y", "z")), report)
    assert "are they in another order?" in report.notes[-1]


def test_an_outcome_is_a_file_of_answers(tmp_path):
    marked = [
        Marked(item=item, answer=text, values={"exact": 1.0}) for item, text in zip(items(), SAID.values(), strict=True)
    ]
    found = Examination(
        model="m", exam="e", kind="k", primary="exact", dataset={}, settings={}, versions={}, scores=(), groups=(),
        marked=tuple(marked), file=tmp_path / "eval" / "e.json",
    )  # fmt: skip
    write(found)
    assert said(found.file) == list(SAID.values())


def test_what_is_not_answered_is_empty_and_what_is_not_asked_left_out(tmp_path):
    report = Notes()
    path = lines(
        tmp_path / "a.jsonl", [{"id": "q2", "answer": "二"}, {"id": "x", "answer": "?"}, {"id": "q1", "answer": None}]
    )
    assert said(path, report=report) == ["", "二", ""]
    assert "no answer to 1 of 3 questions" in report.notes[0]
    assert "1 answers are to other questions" in report.notes[1]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"id": 1, "answer": "a"}\n{"id": 1, "answer": "b"}\n', "a.jsonl:2: a second answer to 1, after a.jsonl:1"),
        ('{"id": 1, "answer": "a"}\n{"id": 2, "said": "b"}\n', "a.jsonl:2: no 'answer', unlike"),
        ('{"id": 1, "answer": "a"}\n{"answer": "b"}\n', "a.jsonl:2: no id, unlike"),
        ('{"answer": "a"}\n{"id": 2, "answer": "b"}\n', "a.jsonl:2: an id, unlike"),
        ('{"id": 1, "said": "a"}\n', "a.jsonl:1: no column of answers; there is id, said"),
        ('{"id": 1, "answer": "a"}\n{"id": 2, "answ\n', "a.jsonl:2: broken JSON"),
        ('{"id": 1, "answer": "a"}\n[1]\n', "a.jsonl:2: not an object"),
        ('{"id": 1, "answer": ["a", "b"]}\n', "a.jsonl:1: not text: 'answer'"),
        ("\n", "holds no answer"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, where):
    (tmp_path / "a.jsonl").write_text(text, "utf-8")
    with pytest.raises(DataError) as error:
        read_answers(tmp_path / "a.jsonl")
    assert where in error.value.message


def test_a_row_of_a_table_that_does_not_fit_is_told(tmp_path):
    (tmp_path / "a.csv").write_text("id,answer\n1,a\n2,b,c\n", "utf-8")
    with pytest.raises(DataError, match=r"a\.csv:3: wrong number of columns"):
        read_answers(tmp_path / "a.csv")


def test_answers_to_another_exam_are_refused(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"id": n, "answer": "a"} for n in range(9)])
    with pytest.raises(DataError, match="no id there is one of the exam's") as error:
        said(path)
    assert "there: 0, 1, 2, …; the exam has: q1, q2, q3" in error.value.hint
    with pytest.raises(DataError, match="2 answers without ids, the exam 3 questions"):
        said(lines(tmp_path / "b.jsonl", [{"answer": "a"}] * 2))


def test_an_exam_that_asks_something_else_is_refused(tmp_path):
    asked = items()
    path = lines(tmp_path / "a.jsonl", [{"id": key, "answer": text} for key, text in SAID.items()])
    speaker = read_answers(path).speaker_for(asked, Notes())
    prompts = [item.prompt for item in asked]
    assert list(speaker.reply(prompts[1], Sampling())) == ["低盐饮食"]
    for others in (prompts[:2], prompts[::-1], prompts * 2, [(*prompts[0], *prompts[1])]):
        with pytest.raises(UsageError, match="asks more than each question once"):
            speaker.replies(others, Sampling(), lambda done: None)
    with pytest.raises(UsageError, match="asks more than each question once"):
        list(speaker.reply((), Sampling()))


def test_half_a_character_can_be_written_down(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "q1", "answer": "好\\ud83d"}\n', "utf-8")
    assert said(path)[0].encode("utf-8").decode("utf-8") == "好?"


def test_published_answers_are_read():
    answers = read_answers(shared("cmb/caregpt_baichuan13b_sft_merge/output.json")).answers
    assert len(answers) == 11_200
    assert {given.id for given in answers} == {str(number) for number in range(1, 11_201)}
