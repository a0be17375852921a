"""Files of marks that were given elsewhere."""

import json

import pytest

from medcli.core.dialogue_scores import read
from medcli.core.dialogue_verdict import AXES
from medcli.core.errors import DataError

SCORES = "Proactivity: 5\nAccuracy: 4\nHelpfulness: 4.5\nLinguistic Quality: 5"
ASKED = "Rate it.\n[start of conversation]\npatient: 疼。\ndoctor: 多久了？\n[end of conversation]"


def row(id, scores=SCORES):
    return {"id": id, "model": "m", "source": "CMB-clin", "scores": scores, "prompt": ASKED}


def written(path, *rows):
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), "utf-8")
    return path


def test_reads_published_rows(tmp_path):
    marked = read(written(tmp_path / "scores.jsonl", row("0"), row(1)))
    assert [one.item.id for one in marked] == ["0", "1"]
    assert marked[0].values == dict(zip(AXES, (5, 4, 4.5, 5), strict=True))
    assert marked[0].outcome == "answered"
    assert marked[0].answer == "patient: 疼。\ndoctor: 多久了？"
    assert marked[0].detail == {"model": "m", "source": "CMB-clin"}


def test_reads_an_array_and_objects_of_marks(tmp_path):
    rows = [{"id": "a", "scores": dict.fromkeys(AXES, 3)}, {"id": "b", **dict.fromkeys(AXES, "4")}]
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(rows, indent=1), "utf-8")
    assert [one.values["accuracy"] for one in read(path)] == [3, 4]


def test_what_cannot_be_read_is_counted_and_shown(tmp_path):
    path = written(tmp_path / "scores.jsonl", row("0"), row("1", "Accuracy: 9"), {"id": "2"}, ["x"])
    with path.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    marked = read(path)
    assert [one.outcome for one in marked] == ["answered", "unparsed", "unparsed", "unparsed", "unparsed"]
    assert [dict(one.values) for one in marked[1:]] == [{}] * 4
    assert [one.item.id for one in marked] == ["0", "1", "2", "line 4", "line 5"]
    assert marked[1].detail["unread"] == "Accuracy: 9"
    assert marked[1].detail["line"] == 2
    assert marked[4].detail["unread"].startswith("broken JSON")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "0", "scores": "good"}\n', "scores.jsonl:1: no scores can be read: no marks from 1 to 5"),
        ("\n\nnonsense\n", "scores.jsonl:3: no scores can be read: broken JSON"),
        ("[]", "the file is empty"),
        ("", "is empty"),
    ],
)
def test_a_file_without_scores_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "scores.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError) as refused:
        read(path)
    assert said in refused.value.message
    assert refused.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file of scores"):
        read(tmp_path / "none.jsonl")
