"""The judging of pairs with a judge that is no model."""

import json

import pytest

from medcli.core.atomic import sha256_of
from medcli.core.errors import DataError, ModelError
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message, Preference
from medcli.core.report import Silent
from medcli.steps.candidates import Speechless
from medcli.steps.exam_tasks import prepare
from tests.building import Notes
from tests.evaluation import examine, facts, write_dataset


def pair(number, chosen, rejected, source="hand"):
    prompt = (Message(role="system", content="旧"), Message(role="user", content=f"第{number}问"))
    return Preference(id=f"p{number}", prompt=prompt, chosen=chosen, rejected=rejected, source=source)


class ByLength:
    """The longer an answer, the better; of more than ten characters it reads nothing."""

    def __init__(self):
        self.asked = []

    def rewards(self, dialogues, advance):
        self.asked = list(dialogues)
        advance(len(dialogues))
        return [float(len(dialogue[-1].content)) for dialogue in dialogues]

    def fits(self, dialogue):
        return len(dialogue[-1].content) <= 10


PAIRS = [pair(0, "三个字", "字"), pair(1, "字", "三个字", source="other"), pair(2, "两字", "二字")]


def run(rewarder=None, report=None, dataset="pairs", **settings):
    judge = rewarder or ByLength()
    return examine(Speechless("judge"), report, "judge", rewarder=judge, exam=(dataset,), **settings)


def test_pairs_are_judged_and_kept(project):
    folder = write_dataset("pairs", kind="preference", test=PAIRS)
    report, judge = Notes(), ByLength()
    found = run(judge, report)
    assert [message.content for message in judge.asked[1]] == ["旧", "第0问", "字"]
    assert found.score("accuracy").value == 0.5
    assert found.score("margin").value == pytest.approx(0)
    assert found.score("length-correlation").value == pytest.approx(1)
    by_source = {group.names: group.scores[0] for group in found.groups}
    assert {names: (score.value, score.count) for names, score in by_source.items()} == {
        ("hand",): (0.75, 2),
        ("other",): (0.0, 1),
    }
    assert "1 of 3 pairs are ties, and count as half right" in report.notes
    table = json.loads(found.file.read_text("utf-8"))
    assert table["dataset"]["sha256"] == sha256_of(folder / "test.jsonl")
    assert [row["id"] for row in table["answers"]] == ["p0", "p1", "p2"]
    assert table["answers"][0]["detail"]["judged"]["rewards"] == [3.0, 1.0]
    assert table["answers"][1]["answer"] == "三个字"
    kept = found.file.read_bytes()
    assert run().file.read_bytes() == kept


def test_part_limit_and_system_message(project):
    write_dataset("pairs", kind="preference", valid=PAIRS)
    judge, report = ByLength(), Notes()
    found = run(judge, report, limit=2, system="新")
    assert (len(found.marked), found.exam, found.file.name) == (2, "pairs-valid", "judge-pairs-valid.json")
    assert "no test part" in report.notes[0]
    assert [m.content for m in judge.asked[0] if m.role == "system"] == ["新"]
    assert len(found.groups) == 2
    write_dataset("alone", kind="preference", test=PAIRS[:1])
    assert run(dataset="alone").groups == ()


def test_a_pair_too_long_to_be_read_counts_for_nothing(project):
    write_dataset("pairs", kind="preference", test=[*PAIRS, pair(3, "很长" * 10, "字")])
    report = Notes()
    found = run(report=report)
    assert found.score("accuracy").count == 3
    assert found.outcomes["unparsed"] == 1
    assert "1 of 4 pairs are longer than the model reads, and are left out" in report.notes
    write_dataset("long", kind="preference", test=[pair(3, "很长" * 10, "字")])
    with pytest.raises(DataError, match="every pair is longer"):
        run(dataset="long")


def test_a_reward_that_is_no_number_is_an_error(project):
    write_dataset("pairs", kind="preference", test=PAIRS)
    judge = ByLength()
    judge.rewards = lambda dialogues, advance: [float("nan")] * len(dialogues)
    with pytest.raises(ModelError, match="'p0' is rewarded with nan"):
        run(judge)
    assert not (project / "eval" / "judge-pairs-test.json").exists()


def test_pairs_are_not_judged_by_who_only_speaks(project):
    write_dataset("pairs", kind="preference", test=PAIRS)
    with pytest.raises(ModelError, match="judged by a reward model"):
        examine(Speechless("judge"), exam=("pairs",))


def test_what_holds_no_pairs_is_refused(project):
    def refused(name):
        return prepare(EvalSettings(exam=("pairs",), dataset=name), Silent())

    write_dataset("facts", test=facts())
    with pytest.raises(DataError, match="judges pairs"):
        refused("facts")
    write_dataset("empty", kind="preference", train=PAIRS)
    with pytest.raises(DataError, match="no pair in test or valid"):
        refused("empty")
    write_dataset("odd", kind="preference", test=facts())
    with pytest.raises(DataError, match="'c0' is no pair"):
        refused("odd")
