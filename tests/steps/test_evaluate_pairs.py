"""The judging of pairs with a judge that is no model."""

import json

import pytest

from medcli.core.atomic import sha256_of
from medcli.core.errors import DataError, ModelError
from medcli.core.record import Message, Preference
from medcli.core.report import Silent
from medcli.steps.evaluate_pairs import Settings, evaluate, prepare
from tests.building import Notes
from tests.evaluation import facts, write_dataset


def pair(number, chosen, rejected, source="hand"):
    prompt = (Message(role="system", content="旧"), Message(role="user", content=f"第{number}问"))
    return Preference(id=f"p{number}", prompt=prompt, chosen=chosen, rejected=rejected, source=source)


class ByLength:
    """The longer an answer, the better."""

    def __init__(self):
        self.asked = []

    def rewards(self, dialogues, advance):
        self.asked = list(dialogues)
        advance(len(dialogues))
        return [float(len(dialogue[-1].content)) for dialogue in dialogues]


PAIRS = [pair(0, "三个字", "字"), pair(1, "字", "三个字", source="other"), pair(2, "两字", "二字")]


def run(rewarder=None, report=None, **settings):
    return evaluate("judge", Settings(dataset="pairs", **settings), report or Silent(), rewarder or ByLength())


def test_pairs_are_judged_and_kept(project):
    folder = write_dataset("pairs", kind="preference", test=PAIRS)
    report, judge = Notes(), ByLength()
    found = run(judge, report)
    assert [message.content for message in judge.asked[1]] == ["旧", "第0问", "字"]
    values = {score.metric: score.value for score in found.scores}
    assert values["accuracy"] == 0.5
    assert values["margin"] == pytest.approx(0)
    assert values["length-correlation"] == pytest.approx(1)
    assert {score.metric: (score.value, score.count) for score in found.sources} == {
        "hand": (0.75, 2),
        "other": (0.0, 1),
    }
    assert (found.pairs, found.ties, found.split) == (3, 1, "test")
    assert report.notes == ["1 of 3 pairs are ties, and count as half right"]
    table = json.loads(found.file.read_text("utf-8"))
    sha = sha256_of(folder / "test.jsonl")
    assert table["dataset"] == {"name": "pairs", "split": "test", "sha256": sha, "judged": 3}
    assert "max_tokens" not in table["settings"]
    assert [row["id"] for row in table["pairs"]] == ["p0", "p1", "p2"]
    assert table["pairs"][0]["rewards"] == {"chosen": 3.0, "rejected": 1.0}
    assert table["pairs"][1]["margin"] == -2.0
    kept = found.file.read_bytes()
    assert run().file.read_bytes() == kept


def test_part_limit_and_system_message(project):
    write_dataset("pairs", kind="preference", valid=PAIRS)
    judge, report = ByLength(), Notes()
    found = run(judge, report, limit=2, system="新")
    assert (found.pairs, found.split, found.file.name) == (2, "valid", "judge-pairs-valid.json")
    assert "no test part" in report.notes[0]
    assert [m.content for m in judge.asked[0] if m.role == "system"] == ["新"]
    assert len(found.sources) == 2
    write_dataset("alone", kind="preference", test=PAIRS[:1])
    assert evaluate("judge", Settings(dataset="alone"), Silent(), ByLength()).sources == ()


def test_a_reward_that_is_no_number_is_an_error(project):
    write_dataset("pairs", kind="preference", test=PAIRS)
    judge = ByLength()
    judge.rewards = lambda dialogues, advance: [float("nan")] * len(dialogues)
    with pytest.raises(ModelError, match="'p0' is rewarded with nan"):
        run(judge)
    assert not (project / "eval").exists()


def test_what_holds_no_pairs_is_refused(project):
    write_dataset("pairs", test=facts())
    with pytest.raises(DataError, match="judges pairs"):
        prepare("judge", Settings(dataset="pairs"))
    write_dataset("empty", kind="preference", train=PAIRS)
    with pytest.raises(DataError, match="no pair in test or valid"):
        prepare("judge", Settings(dataset="empty"))
    write_dataset("odd", kind="preference", test=facts())
    with pytest.raises(DataError, match="'c0' is no pair"):
        prepare("judge", Settings(dataset="odd"))
