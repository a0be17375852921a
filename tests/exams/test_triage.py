"""The triage exam, sat by speakers that answer well, badly, or not at all."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from medcli.core import exam_file
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.errors import UsageError
from medcli.core.exam import by_group
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message
from medcli.core.shelf import Shelf
from medcli.core.triage_cases import KINDS, cases
from medcli.core.triage_rules import METRIC
from medcli.exams import triage
from tests.exams.sitters import Says, sitting

BY_MESSAGES = {case.messages: case for case in cases()}
LESS_IS_BETTER = {"over-triage", "unsafe-advice"}


def paper(**settings):
    return triage.prepare(EvalSettings(**settings), None, "")


def sat(answer, judge=None, report=None, **settings):
    """What comes of an exam whose answers are a function of the case."""
    speaker = Says(lambda messages: answer(BY_MESSAGES[tuple(one for one in messages if one.role != "system")]))
    sits = replace(sitting(speaker, report=report, **settings), judge=judge)
    return paper(**settings).sit(sits), speaker


def figures(marked):
    return {score.metric: score for score in triage.scores(marked, 1)}


class Heard:
    """A report that remembers stages and notes."""

    def __init__(self):
        self.stages, self.notes = [], []

    def stage(self, name, total=None, unit=""):
        self.stages.append((name, total, unit))

    def advance(self, done):
        pass

    def note(self, text):
        self.notes.append(text)

    def measure(self, step, values):
        pass


def test_it_is_on_the_shelf_and_brings_its_own_cases():
    assert Shelf("medcli.exams", "exam").get("triage") is triage
    assert (triage.KIND, triage.PRIMARY) == ("", "safety")
    items = paper().items
    assert [item.id for item in items] == [case.id for case in cases()]
    assert {item.groups[0] for item in items} == set(KINDS)
    assert all(len(item.groups) == 2 and item.reference == "" and item.asks for item in items)


def test_a_data_set_is_refused():
    folder = DatasetFolder(path=Path("data/x"))
    with pytest.raises(UsageError, match="cases of its own"):
        triage.prepare(EvalSettings(), folder, "test")


def test_a_limit_has_all_kinds_and_a_system_message_stands_in_front():
    items = paper(limit=9, system="你是医生。").items
    assert len(items) == 9
    assert set(Counter(item.groups[0] for item in items)) == set(KINDS)
    assert all(item.prompt[0] == Message(role="system", content="你是医生。") for item in items)
    assert all("你是医生。" not in item.asks for item in items)


def test_good_answers_get_everything_right_and_bad_ones_nothing():
    good, bad = figures(sat(lambda case: case.good)[0]), figures(sat(lambda case: case.bad)[0])
    assert set(good) == {"safety", "unsafe-advice", *METRIC.values()}
    for metric in good:
        assert good[metric].value == (metric not in LESS_IS_BETTER), metric
    assert bad["safety"].value == bad["escalation-recall"].value == 0
    assert bad["over-triage"].value > 0.9
    assert bad["unsafe-advice"].value > 0.9
    assert good["escalation-recall"].count == sum(case.kind == "red-flag" for case in cases())
    assert good["escalation-recall"].low > 0.9


def test_sampling_and_stages_are_passed_on():
    report = Heard()
    _, speaker = sat(lambda case: "", report=report, limit=6, temperature=0.5, top_p=0.9, max_tokens=33, seed=4)
    sampling = speaker.asked[0][1]
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed) == (0.5, 0.9, 33, 4)
    assert report.stages == [("answering", 6, "cases")]


def test_outcomes_and_details_can_be_checked_by_a_person():
    declined = "抱歉，我无法提供医疗建议，请咨询医生。"
    marked, _ = sat(lambda case: {"benign": declined, "unknown": ""}.get(case.kind, case.good))
    outcomes = {kind: {one.outcome for one in some} for (kind,), some in by_group(marked, 1).items()}
    assert outcomes["benign"] == {"refused"}
    assert outcomes["unknown"] == {"empty"}
    assert outcomes["red-flag"] == {"answered"}
    assert figures(marked)["over-triage"].value == 0
    first = marked[0]
    assert first.detail["why"] == cases()[0].why
    assert first.detail["found"]["escalation-recall"] == ["请立即拨打120"]
    assert first.detail["found"]["unsafe-advice"] == []


def test_a_judge_is_told_beside_the_rules_and_never_in_their_place():
    hard = Says(lambda messages: '{"safe": false, "escalated": true, "reason": "太短"}')
    alone, _ = sat(lambda case: case.good, limit=12)
    judged, _ = sat(lambda case: case.good, judge=hard, limit=12)
    found = figures(judged)
    assert found["safety"] == figures(alone)["safety"]
    assert found["judge-safety"].value == found["judge-agreement"].value == 0
    assert list(found)[-2:] == ["judge-safety", "judge-agreement"]
    assert judged[0].detail["judge"] == [{"safe": False, "escalated": True, "reason": "太短"}]
    assert "judge" not in alone[0].detail


def test_opinions_that_cannot_be_read_are_counted_and_empty_answers_not_shown():
    report = Heard()
    replies = iter(['{"safe": true}', "不知道"] * 3)
    judge = Says(lambda messages: next(replies))
    emptied = paper(limit=6).items[0].id
    marked, _ = sat(
        lambda case: "" if case.id == emptied else case.good, judge=judge, report=report, limit=6, repeats=1
    )
    found = figures(marked)
    assert len(judge.asked) == 5
    assert report.stages[-1] == ("judging", 5, "opinions")
    assert report.notes == ["2 of 5 opinions of the judge cannot be read"]
    assert (found["judge-safety"].count, found["judge-agreement"].count) == (4, 3)
    assert found["judge-safety"].value == 0.75
    assert sum(one.detail.get("unreadable", 0) for one in marked) == 2


def test_several_opinions_count_by_their_share():
    replies = iter(['{"safe": true}'] * 6 + ['{"safe": false}'] * 6)
    judge = Says(lambda messages: next(replies))
    marked, _ = sat(lambda case: case.good, judge=judge, limit=6, repeats=2)
    assert figures(marked)["judge-safety"].value == figures(marked)["judge-agreement"].value == 0.5


def test_what_came_of_it_can_be_written_and_read(tmp_path):
    marked, _ = sat(lambda case: case.good, judge=Says(lambda messages: '{"safe": true}'), limit=6)
    found = Examination(
        model="m",
        exam="triage",
        kind="triage",
        primary=triage.PRIMARY,
        dataset={},
        settings={},
        versions={},
        scores=tuple(triage.scores(marked, 1)),
        groups=(),
        marked=tuple(marked),
        file=tmp_path / "triage.json",
    )
    exam_file.write(found)
    again = exam_file.read(found.file)
    assert again.scores == found.scores
    assert [one.detail for one in again.marked] == [one.detail for one in marked]
