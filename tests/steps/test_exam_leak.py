"""What an exam asks and a model was trained on: every run beneath it counts, and what cannot be known is said."""

import json
import shutil
from pathlib import Path

import pytest

from medcli.core.dataset_folder import open_dataset
from medcli.core.errors import DataError
from medcli.core.exam import Item
from medcli.core.fingerprint import asked_of
from medcli.core.record import Conversation, Message, Question
from medcli.core.report import Silent
from medcli.steps.exam_leak import LearntSet, leaks_of, lineage_of, refuse
from tests.building import Notes, made
from tests.evaluation import write_dataset

ULCER = "患者反复上腹部疼痛三年，近来加重，夜间明显，进食后缓解，最可能的诊断是哪一种疾病？"
SCARLET = "男孩，五岁，发热三天后躯干出现弥漫性充血性皮疹，口周苍白，舌如杨梅，首先考虑什么病？"
STROKE = "老年男性，突发右侧肢体无力伴言语不清两小时，头颅检查未见出血，下一步最合适的治疗是什么？"
HARMLESS = "踝关节扭伤之后的第一天，应该冷敷还是热敷，每次敷多长时间比较合适呢？"
EXAM = [
    Question(id="q1", stem=ULCER, choices=("十二指肠溃疡", "胃癌", "胆囊炎"), answer="A", subject="", source="x"),
    Question(id="q2", stem=SCARLET, choices=("麻疹", "猩红热", "风疹"), answer="B", subject="", source="x"),
    Question(id="q3", stem=STROKE, choices=("静脉溶栓", "观察", "手术"), answer="A", subject="", source="x"),
]
REPEATED = ULCER.replace("，", " ").replace("？", "") + "：C. 胆囊炎；A. 十二指肠溃疡；B. 胃癌"  # in another order


def dialogues(*questions, prefix="t"):
    return [
        Conversation(
            id=f"{prefix}{number}",
            messages=(Message(role="user", content=question), Message(role="assistant", content="请到门诊就诊")),
            source="hand",
        )
        for number, question in enumerate(questions)
    ]


def run(name, *datasets, base="org/model", adapters=(), settings="", data=None):
    """`runs/<name>` with the run.toml that training on these sets, as they are now, would have written."""
    folder = Path("runs") / name
    (folder / "adapter").mkdir(parents=True)
    learnt = "".join(
        f'[data.{dataset}]\npath = "{Path("data").resolve() / dataset}"\n'
        f'sha256 = "{open_dataset(dataset).sha256("train")}"\nrecords = 1\n'
        for dataset in datasets
    )
    model = f'[model]\nbase = "{base}"\nadapters = {json.dumps([str(Path(path).resolve()) for path in adapters])}\n'
    (folder / "run.toml").write_text(f"[settings]\n{settings}\n{model}{learnt}", "utf-8")
    return folder


def items(records=EXAM):
    return [Item(id=one.id, prompt=(), reference="", asks=asked_of(one)) for one in records]


def leaks(model, dataset="exam", split="test", records=None, report=None):
    """The leaks of a built exam, or with `dataset=None` of questions that come without one."""
    found = open_dataset(dataset) if dataset else None
    asked = records or (list(found.records(split)) if found else EXAM)
    return leaks_of(model, items(asked), found, split if dataset else "", report or Silent())


@pytest.fixture
def exam(project):
    write_dataset("exam", kind="question", test=EXAM)
    write_dataset("leaky", train=dialogues(HARMLESS, REPEATED))
    write_dataset("benign", train=dialogues(HARMLESS))


class Stages(Notes):
    """Remembers the stages of the work, too."""

    def __init__(self):
        super().__init__()
        self.stages = []

    def stage(self, name, total=None, unit=""):
        self.stages.append((name, total))


def test_a_leak_is_found_through_shuffled_options_and_other_punctuation(exam):
    run("one", "leaky")
    found = leaks("one")
    assert found.items == {"q1": "leaky: t1, 1.00"}
    assert found.asked == 3
    assert [(one.name, one.found, one.own) for one in found.sets] == [("leaky", 1, False)]
    assert found.as_table()["leaked"] == 1
    assert json.loads(json.dumps(found.as_table())) == found.as_table()


def test_a_refusal_names_questions_and_records_and_how_to_mend(exam):
    run("one", "leaky")
    with pytest.raises(DataError, match="one was trained on 1 of the 3 questions of exam-test: q1 ↔ leaky: t1") as no:
        refuse(leaks("one"), "exam-test", "one")
    assert no.value.exit_code == 3
    assert "--without exam\n" in no.value.hint
    assert "--allow-leak" in no.value.hint


def test_questions_without_a_data_set_are_compared_too(exam):
    run("one", "leaky")
    found = leaks("one", dataset=None)
    assert found.items == {"q1": "leaky: t1, 1.00"}
    with pytest.raises(DataError) as refusal:
        refuse(found, "triage", "one")
    assert "--without" not in refusal.value.hint


def test_only_three_of_many_questions_are_named_the_most_alike_first(exam):
    asked = [ULCER, SCARLET, STROKE, HARMLESS]
    write_dataset("near", train=dialogues(f"{HARMLESS[3:]}急", ULCER[2:]))
    write_dataset("many", train=dialogues(*(text.replace("，", "") for text in asked[:3])))
    run("one", "near", "many")
    records = [Question(id=f"q{n}", stem=text, choices=(), answer="", subject="", source="") for n, text in
               enumerate(asked)]  # fmt: skip
    found = leaks("one", dataset=None, records=records)
    assert list(found.items) == ["q0", "q1", "q2", "q3"]
    assert found.items["q0"] == "many: t0, 1.00"
    assert 0.8 <= float(found.items["q3"].rpartition(" ")[2]) < 1
    with pytest.raises(DataError, match="4 of the 4.*; …$") as refusal:
        refuse(found, "triage", "one")
    assert "q3 ↔" not in refusal.value.message


def test_a_benign_set_gives_nothing(exam):
    run("one", "benign")
    found = leaks("one")
    assert (found.items, found.exact) == ({}, "")
    assert [(one.name, one.found) for one in found.sets] == [("benign", 0)]
    refuse(found, "exam-test", "one")


@pytest.mark.parametrize("model", ["two", "runs/two", "runs/two/adapter", "runs/two/checkpoints/checkpoint-5"])
def test_the_run_beneath_a_run_counts(exam, model):
    run("first", "leaky")
    run("two", "benign", adapters=["runs/first/adapter"])
    Path("runs/two/checkpoints/checkpoint-5").mkdir(parents=True)
    found = leaks(model)
    assert found.items == {"q1": "leaky: t1, 1.00"}
    assert [one.name for one in found.sets] == ["benign", "leaky"]


def test_a_run_on_top_of_a_whole_model_or_a_merged_one_counts(exam):
    run("first", "leaky")
    for part in ("model", "merged"):
        base = Path("runs/first") / part
        base.mkdir()
        run(f"on-{part}", "benign", base=base.resolve())
        assert leaks(f"on-{part}").items
    assert leaks("runs/first/merged").items


def test_a_run_that_went_on_with_an_adapter_counts_the_run_before(exam):
    run("first", "leaky")
    run("two", "benign", settings='model = "first"\ncontinue = true')
    assert leaks("two").items
    elsewhere = Path("elsewhere")
    shutil.move("runs", elsewhere)
    assert leaks("elsewhere/two").items


def test_a_model_merged_into_a_folder_of_its_own_counts_its_runs(exam):
    run("first", "leaky")
    folder = Path("merged")
    folder.mkdir()
    made_from = {"merged_from": {"base": "org/model", "adapters": ["runs/first/adapter"]}}
    (folder / "merge.json").write_text(json.dumps(made_from))
    larger = Path("larger")
    larger.mkdir()
    (larger / "vocabulary.json").write_text(json.dumps({"extends": "merged"}))
    for model in (folder, larger):
        found = leaks(str(model))
        assert found.items
        assert found.unknown == ("org/model: what it was trained on is not known to med",)


def test_an_adapter_moved_away_from_its_run_is_not_known(exam):
    base = run("first", "leaky") / "model"
    base.mkdir()
    Path("moved").mkdir()
    (Path("moved") / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base.resolve())}))
    found = leaks("moved")
    assert found.items
    assert found.unknown[0].startswith("moved: what it was trained on")


@pytest.mark.parametrize("model", ["org/model", "med-tiny", "http://localhost:8000/v1#qwen"])
def test_of_a_model_that_is_no_run_nothing_is_known_and_nothing_refused(exam, model):
    report = Notes()
    found = leaks(model, report=report)
    assert found.unknown == (f"{model}: what it was trained on is not known to med",)
    assert (found.items, found.sets, report.notes) == ({}, (), [])
    refuse(found, "exam-test", model)


def test_a_deleted_set_is_unknown_and_said_so(exam):
    run("one", "leaky", "benign")
    shutil.rmtree("data/leaky")
    report = Notes()
    found = leaks("one", report=report)
    assert found.items == {}
    assert "'leaky', which one was trained on, is no longer there" in found.unknown[0]
    assert [note for note in report.notes if "'leaky'" in note]
    assert [one.name for one in found.sets] == ["benign"]


def test_a_renamed_set_is_found_by_its_hash(exam):
    run("one", "leaky")
    shutil.move("data/leaky", "data/other")
    assert leaks("one").items == {"q1": "leaky: t1, 1.00"}


def test_a_set_that_was_built_again_is_not_taken_for_what_was_learnt(exam):
    run("one", "leaky")
    shutil.rmtree("data/leaky")
    write_dataset("leaky", train=dialogues(REPEATED, SCARLET))
    found = leaks("one")
    assert (found.items, found.sets) == ({}, ())
    assert "built again or changed since" in found.unknown[0]


def test_what_lay_in_a_run_that_is_gone_is_unknown(exam):
    gone = Path("runs/first/model").resolve()
    run("two", "benign", base=gone)
    assert f"{gone} is no longer there" in leaks("two").unknown[0]


def test_a_run_toml_that_says_nothing_of_data_is_unknown(exam):
    run("one", "leaky")
    Path("runs/one/run.toml").write_text("")
    assert "does not say what was trained on" in leaks("one").unknown[0]


def test_the_held_out_part_of_the_own_set_is_not_compared(project):
    """Its build has seen to that; here it would find something, for the set is written by hand."""
    write_dataset("own", train=dialogues(ULCER), test=dialogues(ULCER + "？", prefix="e"))
    run("one", "own")
    report = Stages()
    found = leaks("one", "own", report=report)
    assert found.items == {}
    assert [(one.found, one.own) for one in found.sets] == [(0, True)]
    assert report.stages == []


def test_an_own_held_out_part_that_was_changed_by_hand_is_compared(project):
    folder = write_dataset("own", train=dialogues(ULCER), test=dialogues(HARMLESS, prefix="e"))
    run("one", "own")
    shutil.copy(folder / "train.jsonl", folder / "test.jsonl")
    with (folder / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    found = leaks("one", "own", records=dialogues(ULCER))
    assert found.items == {"t0": "own: t0, 1.00"}


def test_an_own_set_that_was_built_again_is_unknown(project):
    write_dataset("own", train=dialogues(ULCER), test=dialogues(HARMLESS, prefix="e"))
    run("one", "own")
    shutil.rmtree("data/own")
    write_dataset("own", train=dialogues(HARMLESS), test=dialogues(ULCER, prefix="e"))
    found = leaks("one", "own")
    assert found.sets == ()
    assert "'own', which one was trained on, was built again or changed since" in found.unknown[0]


def test_the_very_file_that_was_trained_on_is_marked_and_not_refused(project):
    write_dataset("own", train=dialogues(ULCER, HARMLESS))
    run("first", "own")
    run("two", base="org/model", adapters=["runs/first/adapter"])
    found = leaks("two", "own", "train")
    assert found.exact == "first was trained on the very file that is examined, train of 'own'"
    assert found.items == {}
    assert found.as_table()["leaked"] == 2
    assert found.sets == (LearntSet(name="own", sha256=open_dataset("own").sha256("train"), found=2),)
    refuse(found, "own-train", "two")


def test_another_sets_train_split_is_compared_as_any_exam(exam):
    run("one", "leaky")
    write_dataset("other", train=dialogues(REPEATED, prefix="o"))
    assert leaks("one", "other", "train").items == {"o0": "leaky: t1, 1.00"}


def test_phrasings_of_one_grammar_are_no_leak_but_the_same_question_is(project):
    """What stands in the exam's own train split was let stand beside its questions when it was built."""
    asked = "请问，得了变应性鼻炎以后，平时要注意哪些症状，还要做哪些检查，请告诉我"
    alike = asked.replace("告诉我", "说一下")
    write_dataset("own", train=dialogues(alike), test=dialogues(asked, prefix="e"))
    write_dataset("pairs", train=dialogues(alike, prefix="p"))
    write_dataset("again", train=dialogues(asked))
    write_dataset("nearly", train=dialogues(f"{alike}吧"))
    run("one", "pairs")
    found = leaks("one", "own")
    assert (found.items, found.sets[0].found, found.sets[0].own) == ({}, 0, False)
    run("two", "again")
    assert leaks("two", "own").items == {"e0": "again: t0, 1.00"}
    run("three", "nearly")
    assert list(leaks("three", "own").items) == ["e0"]


def test_the_sets_that_ship_with_med_do_not_leak_into_each_others_test_split(project):
    """The full tour learns from one and is examined by the other."""
    for name in ("knowledge", "knowledge-pairs"):
        made(name, near=1.0, phi="off")
    run("first", "knowledge")
    run("judge", "knowledge-pairs", adapters=["runs/first/adapter"])
    for dataset in ("knowledge", "knowledge-pairs"):
        assert leaks("judge", dataset).items == {}


def test_an_outcome_is_remembered_until_a_hash_changes(exam):
    run("one", "leaky")
    first, again, fewer, trained_anew = Stages(), Stages(), Stages(), Stages()
    found = leaks("one", report=first)
    assert ("comparing leaky with 3 held-out items", 2) in first.stages
    assert leaks("one", report=again) == found
    assert again.stages == []
    assert leaks("one", records=EXAM[:2], report=fewer).asked == 2
    assert fewer.stages
    shutil.rmtree("data/leaky")
    assert leaks("one") == found  # what was found while the set was there is still true of the run
    write_dataset("leaky", train=dialogues(SCARLET))
    run("two", "leaky")
    assert list(leaks("two", report=trained_anew).items) == ["q2"]
    assert trained_anew.stages


def test_items_that_do_not_say_what_they_ask_are_unknown(exam):
    """A file of right letters alone has no questions; nothing is read to compare them."""
    run("one", "leaky")
    report = Stages()
    mute = Item(id="q2", prompt=(), reference="A")
    found = leaks_of("one", [mute], None, "", report)
    assert found.unknown == ("the items of this exam do not say what they ask",)
    assert (found.items, report.stages) == ({}, [])
    assert leaks_of("one", [mute, *items()], None, "", report).items == {"q1": "leaky: t1, 1.00"}


def test_a_lineage_ends_where_it_began(exam):
    """Folders that name each other do not keep the search going."""
    for name, other in (("a", "b"), ("b", "a")):
        Path(name).mkdir()
        (Path(name) / "merge.json").write_text(json.dumps({"merged_from": {"base": other, "adapters": []}}))
    assert lineage_of("a").sets == ()
