"""Right letters alone, and answers that are there already: marked as CMB publishes, and as sets."""

import json
from statistics import fmean

import pytest

from medcli.core.errors import DataError
from medcli.core.exam import by_group
from medcli.core.gold import gold_paper
from tests.conftest import shared
from tests.exams.sitters import sitting


class Read:
    """Answers that are there, in order."""

    def __init__(self, answers):
        self.answers = answers

    def replies(self, prompts, sampling, advance):
        assert len(prompts) == len(self.answers)
        return list(self.answers)


def write(path, *rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def test_a_published_answer_is_the_same_string_and_ours_a_set(tmp_path):
    gold = write(
        tmp_path / "gold.jsonl",
        *(
            {"id": n, "exam_type": "医", "exam_class": "内", "answer": answer}
            for n, answer in enumerate(("AD", "B", "C"))
        ),
    )
    paper = gold_paper(gold, None)
    marked = paper.sit(sitting(Read(["DA", "B", ""])))
    assert [one.values for one in marked] == [
        {"accuracy": 0, "accuracy-any-order": 1},
        {"accuracy": 1, "accuracy-any-order": 1},
        {"accuracy": 0, "accuracy-any-order": 0},
    ]
    assert [one.outcome for one in marked] == ["answered", "answered", "empty"]
    assert marked[0].item.groups == ("医", "内")
    assert len(gold_paper(gold, 2).items) == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": 1}], "no answer"),
        ([{"id": 1, "answer": "A"}, {"id": 1, "answer": "B"}], "gold.jsonl:2: the id 1 stands there twice"),
        ([{"answer": "A"}], "no id"),
        ([{"id": 1, "answer": {"is": "A"}}], "gold.jsonl:1"),
    ],
)
def test_a_broken_file_is_told_with_its_line(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        gold_paper(write(tmp_path / "gold.jsonl", *rows), None)


def test_cmb_comes_out_as_it_was_published():
    folder = shared("cmb/caregpt_baichuan13b_sft_merge/result.json").parent
    published = json.loads((folder / "result.json").read_text("utf-8"))
    answers = {str(row["id"]): row["model_answer"] for row in json.loads((folder / "output.json").read_text("utf-8"))}
    paper = gold_paper(shared("cmb/CMB-test-choice-answer.old.json"), None)
    marked = paper.sit(sitting(Read([answers[item.id] for item in paper.items])))
    assert len(marked) == 11200
    found = {
        depth: {names: fmean(one.values["accuracy"] for one in some) for names, some in by_group(marked, depth).items()}
        for depth in (1, 2)
    }
    assert {names[0]: value for names, value in found[1].items()} == published["accuracy_per_category"]
    wanted = published["accuracy_per_subcategory"]
    assert found[2] == {(one, other): value for one, some in wanted.items() for other, value in some.items()}
    assert sum(one.values["accuracy-any-order"] != one.values["accuracy"] for one in marked) > 0
