"""The dialogue exam as a whole: shipped patients and others, judges of all kinds, files of scores, pairs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medcli.core import exam_file
from medcli.core.dataset_folder import DatasetFolder
from medcli.core.dialogue_case import shipped
from medcli.core.dialogue_verdict import AXES
from medcli.core.errors import DataError, ModelError
from medcli.core.exam_file import Examination
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.exams import dialogue
from tests.conftest import shared
from tests.consulting import Notes, Speaks, always, assistant, doctor, sitting, user
from tests.evaluation import documents, write_dataset

ASKING = (
    "您好，请问您多大年纪？这种情况持续多久了？具体在哪个部位？",
    "以前得过什么病？用过什么药？还有什么不舒服，做过哪些检查？",
    "建议尽快到医院就诊，做心电图等检查；如果加重，立即拨打120。",
)
LAZY = ("多喝热水。", "没事的。", "不用管。")


def verdict(mark, **other):
    table = {axis: {"reason": "因为", "score": other.get(axis, mark)} for axis in AXES}
    return json.dumps(table, ensure_ascii=False)


def sat(speaker, *, limit=2, **helpers):
    return dialogue.prepare(EvalSettings(limit=limit), None, "").sit(sitting(speaker, **helpers))


def value(marked, axis):
    return {score.metric: score.value for score in dialogue.scores(marked, 42)}[axis]


def test_the_whole_exam_runs_offline_on_the_shipped_patients():
    marked = sat(doctor(*ASKING), limit=None)
    assert [one.item.id for one in marked] == [case.id for case in shipped()]
    assert {one.outcome for one in marked} == {"answered"}
    assert [score.metric for score in dialogue.scores(marked, 42)] == list(AXES)
    assert all(1 <= score.low <= score.value <= score.high <= 5 for score in dialogue.scores(marked, 42))
    lazy = sat(doctor(*LAZY), limit=None)
    assert all(value(marked, axis) > value(lazy, axis) for axis in AXES)
    assert marked[0].answer.startswith("医生：您好，请问您多大年纪？")
    assert "\n患者：我58岁，男的。" in marked[0].answer
    assert dialogue.PRIMARY in AXES


def test_all_that_was_said_is_kept():
    detail = sat(doctor(*ASKING))[0].detail
    assert len(detail["dialogue"]) == 6
    assert (detail["rounds"], detail["ended"], detail["judge"]) == (3, "rounds", "rules")
    assert "我58岁，男的。" in detail["elicited"]
    assert detail["verdicts"][0]["language"] == 5.0
    assert "facts elicited" in detail["reasons"]["proactivity"]
    assert "抽烟三十多年" in detail["told"]


def test_the_same_exam_gives_the_same_marks():
    assert sat(doctor(*ASKING)) == sat(doctor(*ASKING))


def test_items_say_what_is_asked():
    paper = dialogue.prepare(EvalSettings(limit=3, system="你是医生。"), None, "")
    first = paper.items[0]
    assert [message.role for message in first.prompt] == ["system", "user"]
    assert first.asks == (shipped()[0].opening,)
    assert first.reference == shipped()[0].reference
    assert len(paper.items) == 3
    assert {item.groups for item in dialogue.prepare(EvalSettings(), None, "").items} == {("急症",), ("非急症",)}


def test_a_doctor_who_says_nothing_gets_the_lowest_marks_and_no_judge():
    judge = always(verdict(5))
    marked = sat(always(""), judge=judge)
    assert {one.outcome for one in marked} == {"empty"}
    assert all(set(one.values.values()) == {1.0} for one in marked)
    assert judge.batches == []
    score = dialogue.scores(marked, 42)[0]
    assert (score.value, score.low, score.high) == (1.0, 1.0, 1.0)  # no share of successes


def test_a_model_judges_with_the_file_and_the_reference_before_it():
    judge = always(verdict(4, accuracy=2.5))
    marked = sat(doctor(*ASKING), judge=judge, limit=1)
    ((prompts, sampling),) = judge.batches
    text = prompts[0][-1].content
    case = shipped()[0]
    assert case.reference in text
    assert all(fact.says in text for fact in case.facts)
    assert f"医生：{ASKING[0]}" in text
    assert "$" not in text
    assert (sampling.temperature, marked[0].values["accuracy"]) == (0.0, 2.5)
    assert marked[0].detail["reasons"]["accuracy"] == "因为"


def test_several_verdicts_are_drawn_apart_and_averaged():
    judge = Speaks(lambda _, sampling: verdict(1 + sampling.seed % 3))
    marked = sat(doctor(*ASKING), judge=judge, limit=1, repeats=3)
    assert [(sampling.seed, sampling.temperature) for _, sampling in judge.batches] == [(42, 1.0), (43, 1.0), (44, 1.0)]
    assert [table["accuracy"] for table in marked[0].detail["verdicts"]] == [1, 2, 3]
    assert marked[0].values["accuracy"] == 2.0


def test_a_verdict_that_cannot_be_read_counts_for_nothing():
    texts = iter([verdict(4), "很好", verdict(2), "还行"])
    report = Notes()
    marked = sat(doctor(*ASKING), judge=Speaks(lambda *_: next(texts)), repeats=2, report=report)
    assert [one.outcome for one in marked] == ["answered", "unparsed"]
    assert [one.values.get("accuracy") for one in marked] == [3.0, None]
    assert marked[1].detail["unread"] == ["很好", "还行"]
    assert report.notes == ["2 of 4 verdicts cannot be read, and do not count"]
    assert dialogue.scores(marked, 42)[0].count == 1


def test_a_judge_whose_verdicts_cannot_be_read_at_all_is_refused():
    with pytest.raises(ModelError, match="no verdict that can be read, such as '很好'"):
        sat(doctor(*ASKING), judge=always("很好"))


def test_a_model_can_play_the_patient():
    patient = always("我说不上来。")
    marked = sat(doctor(*ASKING), patient=patient, limit=1)
    assert "患者：我说不上来。" in marked[0].answer
    assert len(patient.batches) == 2


def consultation(id, *texts):
    messages = tuple((user, assistant)[index % 2](text) for index, text in enumerate(texts))
    system = Message(role="system", content="你是医生。")
    return Conversation(id=id, messages=(system, *messages), source="hand", meta={"department": "内科"})


def test_patients_come_from_a_data_set(project):
    talks = [consultation(f"c{n}", f"咳嗽{n}天了怎么办？", "发烧吗？", "不发烧。", "考虑感冒。") for n in range(3)]
    folder = write_dataset("talks", test=talks)
    paper = dialogue.prepare(EvalSettings(limit=2), DatasetFolder(folder), "test")
    assert [item.id for item in paper.items] == ["c0", "c1"]
    assert paper.items[0].asks == ("咳嗽0天了怎么办？",)
    assert paper.items[0].groups == ("内科",)
    assert [message.role for message in paper.items[0].prompt] == ["user"]
    marked = paper.sit(sitting(doctor("您发烧吗？", "有痰吗？", "考虑感冒，多喝水。")))
    assert "患者：不发烧。" in marked[0].answer


@pytest.mark.parametrize(("kind", "records"), [("document", documents()), ("conversation", [])])
def test_other_data_sets_are_refused(project, kind, records):
    folder = write_dataset("notes", kind=kind, test=records)
    with pytest.raises(DataError, match="the exam dialogue needs conversations"):
        dialogue.prepare(EvalSettings(), DatasetFolder(folder), "test")


@pytest.mark.parametrize(
    ("name", "count", "means"),
    [
        ("cmb-clin", 73, "4.30 4.53 4.55 5.00"),
        ("cmd", 120, "4.69 4.87 4.91 4.98"),
        ("cmid", 120, "4.69 4.98 4.97 5.00"),
    ],
)
def test_published_means_come_out_again(name, count, means):
    marked = dialogue.from_scores(shared(f"disc_medllm/gpt4_scores/{name}/result_gpt-3.5-turbo_{name}.jsonl"))
    found = dialogue.scores(marked, 42)
    assert " ".join(f"{score.value:.2f}" for score in found) == means
    assert {score.count for score in found} == {count}
    assert "doctor:" in marked[0].answer


def outcome(path: Path, marked, kind="dialogue") -> Path:
    scores = tuple(dialogue.scores(marked, 42))
    found = Examination(
        model="m", exam=kind, kind=kind, primary="accuracy", dataset={}, settings={}, versions={}, scores=scores,
        groups=(), marked=tuple(marked), file=path,
    )  # fmt: skip
    exam_file.write(found)
    return path


def test_our_own_outcome_is_a_file_of_scores_too(tmp_path):
    marked = sat(doctor(*ASKING))
    again = dialogue.from_scores(outcome(tmp_path / "dialogue.json", marked))
    assert dialogue.scores(again, 42) == dialogue.scores(marked, 42)
    with pytest.raises(DataError, match="the outcome of the exam 'triage'"):
        dialogue.from_scores(outcome(tmp_path / "triage.json", marked, kind="triage"))


def pairs_of(tmp_path):
    """Two models' consultations, read again from their files: the lazy one first."""
    both = [outcome(tmp_path / f"{n}.json", sat(doctor(*turns))) for n, turns in enumerate((LAZY, ASKING))]
    return list(zip(*(exam_file.read(path).marked for path in both), strict=True))


def side(prompt, likes):
    """A judge's verdict for the doctor who said `likes`."""
    a, b = prompt[-1].content.split("医生 B 的对话开始")
    return json.dumps({"reason": "更好", "winner": "A" if likes in a and likes not in b else "B"}, ensure_ascii=False)


def test_a_win_needs_both_orders(tmp_path):
    pairs = pairs_of(tmp_path)
    judge = Speaks(lambda prompt, _: side(prompt, ASKING[2]))
    found = dialogue.prefer(pairs, judge, Silent())
    assert [one.better for one in found] == ["other", "other"]
    assert all(one.consistent for one in found)
    assert found[0].reasons == ("更好", "更好")
    assert [one.better for one in dialogue.prefer([(b, a) for a, b in pairs], judge, Silent())] == ["one", "one"]
    assert dialogue.summed(found) == dialogue.Preferred(wins=2, losses=0, ties=0, consistency=1.0)
    ((prompts, _),) = judge.batches[:1]
    assert len(prompts) == 4
    assert shipped()[0].reference in prompts[0][-1].content
    assert "$" not in prompts[0][-1].content


def test_a_judge_who_likes_a_place_makes_ties(tmp_path):
    found = dialogue.prefer(pairs_of(tmp_path), always('{"winner": "A"}'), Silent())
    assert [(one.better, one.consistent) for one in found] == [("tie", False)] * 2
    assert dialogue.summed(found).consistency == 0.0


def test_ties_are_ties_and_unreadable_verdicts_are_neither(tmp_path):
    texts = iter(['{"winner": "tie"}', '{"winner": "A"}', '{"winner": "tie"}', "不好说"])
    found = dialogue.prefer(pairs_of(tmp_path), Speaks(lambda *_: next(texts)), Silent())
    assert [(one.better, one.consistent) for one in found] == [("tie", True), (None, False)]
    assert dialogue.summed(found) == dialogue.Preferred(wins=0, losses=0, ties=1, consistency=1.0)


def test_without_a_judge_the_marks_decide(tmp_path):
    pairs = pairs_of(tmp_path)
    assert [one.better for one in dialogue.prefer(pairs, None, Silent())] == ["other", "other"]
    same = [(one, one) for one, _ in pairs]
    assert [one.better for one in dialogue.prefer(same, None, Silent())] == ["tie", "tie"]
    unread = [(replace(one, values={}), other) for one, other in pairs]
    assert [one.better for one in dialogue.prefer(unread, None, Silent())] == [None, None]
    assert dialogue.summed(dialogue.prefer(unread, None, Silent())).consistency == 0.0


def test_a_judge_of_pairs_needs_consultations(tmp_path):
    pairs = [(replace(one, detail={}), other) for one, other in pairs_of(tmp_path)]
    with pytest.raises(DataError, match="is no consultation of the exam dialogue"):
        dialogue.prefer(pairs, always("A"), Silent())
