"""The exam of questions with options: every published layout can be sat, shots never come from the test."""

import pytest

from medcli.core.errors import DataError, UnknownNameError, UsageError
from medcli.core.letters import options_of
from medcli.core.record import Question
from tests.conftest import RAW
from tests.evaluation import examine, write_dataset
from tests.exams.sitters import Finds, Says

LAYOUTS = ("ceval", "cmb", "cmexam", "cmmlu", "exam_table", "medmcqa", "medqa", "mlec", "pubmedqa")


def question(id, subject="内科", answer="B", stem="哪一项正确？"):
    return Question(id=id, stem=f"{stem}{id}", choices=("甲", "乙", "丙"), answer=answer, subject=subject, source="x")


@pytest.fixture
def exam(project):
    """Four questions in two subjects, and as many to be shown before them."""
    shown = [question(f"s{n}", subject, "C") for n, subject in enumerate(("内科", "内科", "外科", "外科"))]
    asked = [question(f"q{n}", subject) for n, subject in enumerate(("内科", "内科", "外科", "妇科"))]
    return write_dataset("exam", kind="question", valid=shown, test=asked)


def test_every_published_layout_is_built_and_sat(med):
    for layout in LAYOUTS:
        built = med("data", "build", RAW / layout, "--name", layout)
        assert built.exit_code == 0, built.stderr
        found = examine(Says(lambda messages: "A"), exam=(layout,))
        asked = [one.item for one in found.marked]
        right = {item.prompt[-1].content: item.reference for item in asked}
        assert all(set(item.reference) <= options_of(item.prompt[-1].content).keys() for item in asked), layout
        knows = examine(Says(lambda messages, right=right: "答案：" + right[messages[-1].content]), exam=(layout,))
        assert knows.score("accuracy").value == 1, layout
        assert found.score("accuracy").value < 1, layout


def test_what_med_makes_of_a_graph_is_an_exam_too(med, project):
    graph = RAW.parents[1] / "templates/knowledge/diseases.toml"
    made = med("data", "make", "kg", graph, "--name", "kg", "--forms", "choice")
    assert made.exit_code == 0, made.stderr
    found = examine(Says(lambda messages: "A"), exam=("kg",), split="train", limit=20)
    assert 0 < found.score("accuracy").value < 1
    assert len(found.groups) > 1


def test_shots_are_shown_by_subject_and_never_asked(exam):
    speaker = Says(lambda messages: "B")
    found = examine(speaker, exam=("exam",), shots=2)
    shown = [[message.content for message in prompt[:-1] if message.role == "user"] for prompt, _ in speaker.asked]
    asked = {prompt[-1].content: texts for (prompt, _), texts in zip(speaker.asked, shown, strict=True)}
    for item in (one.item for one in found.marked):
        texts = asked[item.prompt[-1].content]
        wanted = {"内科": ("s0", "s1"), "外科": ("s2", "s3")}.get(item.groups[0], ("s0", "s1"))
        assert tuple(text.splitlines()[0][-2:] for text in texts) == wanted
    assert not any(
        message.content.startswith("哪一项正确？q") for prompt, _ in speaker.asked for message in prompt[:-1]
    )


def test_the_part_examined_is_never_shown(exam):
    with pytest.raises(DataError, match="outside of valid"):
        examine(Says(lambda messages: "B"), exam=("exam",), split="valid", shots=1)
    with pytest.raises(DataError, match="no 5 questions"):
        examine(Says(lambda messages: "B"), exam=("exam",), shots=5)


def test_some_subjects_only(exam):
    found = examine(Says(lambda messages: "B"), exam=("exam",), subjects=("外科", "妇科"))
    assert [one.item.id for one in found.marked] == ["q2", "q3"]
    with pytest.raises(UnknownNameError) as caught:
        examine(Says(lambda messages: "B"), exam=("exam",), subjects=("内课",))
    assert "known: 内科, 外科, 妇科" in caught.value.hint


def test_a_model_that_is_here_is_asked_for_likelihoods_and_the_file_says_so(exam):
    reader = Finds(lambda messages, letter: -1.0 if letter == "B" else -2.0)
    found = examine(Says(lambda messages: ""), reader=reader, exam=("exam",))
    assert found.settings["mode"] == "likelihood"
    assert found.score("accuracy").value == 1
    assert found.marked[0].detail["probabilities"].keys() == {"A", "B", "C"}
    assert examine(Says(lambda messages: "B"), exam=("exam",)).settings["mode"] == "generate"
    with pytest.raises(UsageError, match="does not tell"):
        examine(Says(lambda messages: "B"), exam=("exam",), mode="cloze")


def test_an_exam_without_questions_is_told(project):
    write_dataset("exam", kind="question", train=[question("q")])
    with pytest.raises(DataError, match="has no question"):
        examine(Says(lambda messages: "B"), exam=("exam",))


def test_general_questions_are_taken_by_turns(project):
    found = examine(Says(lambda messages: "A"), exam=("general",), limit=20, shots=1)
    assert len({one.item.groups for one in found.marked}) == 10
    assert len(found.marked[0].item.prompt) == 3
    assert found.dataset["name"] == "general"
    with pytest.raises(UsageError, match="there are 10 questions to show"):
        examine(Says(lambda messages: "A"), exam=("general",), shots=11)
