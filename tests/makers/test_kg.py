"""Questions from a knowledge graph: every form, every answer what the graph says, wrong choices surely wrong."""

import json
from collections import Counter
from pathlib import Path

import pytest

from medcli.core.dataset_folder import open_dataset
from medcli.core.graph import Entity, entities
from medcli.core.graph_index import index_of
from medcli.core.knowledge import table_path
from medcli.core.record import Conversation, Question
from medcli.makers import kg
from tests.building import check_account
from tests.conftest import RAW, shared

SHARES = {"valid": 0.1, "test": 0.1}


def graph_of(path: Path):
    return index_of(item for item in entities(path) if isinstance(item, Entity))


@pytest.fixture(scope="module")
def diseases():
    return graph_of(table_path())


def made(graph, *forms, **given):
    return list(kg.make(graph, forms, kg.Settings(**given), SHARES))


def records(graph, *forms, **given):
    return [row.record for row in made(graph, *forms, **given) if row.record]


@pytest.mark.parametrize("form", kg.FORMS)
def test_every_form_accounts_for_what_was_asked_for(diseases, form):
    rows = made(diseases, form, per_entity=3)
    facts = sum(len(entity.attributes) for entity in diseases.entities)
    assert len(rows) == 3 * (facts if form == "attribute" else len(diseases.entities))
    assert all((row.record is None) == bool(row.reason) for row in rows)
    kept = [row for row in rows if row.record]
    assert len(kept) > 0.8 * len(rows)
    assert {row.split for row in kept} == {"train", "valid", "test"}
    assert len({row.record.id for row in kept}) == len(kept)
    assert all(isinstance(row.record, Question if form == kg.CHOICE else Conversation) for row in kept)


@pytest.mark.parametrize("form", [form for form in kg.FORMS if form != kg.CHOICE])
def test_dialogues_take_turns_and_leave_no_slot_open(diseases, form):
    for record in records(diseases, form):
        roles = [message.role for message in record.messages]
        assert roles == ["user", "assistant"] * (2 if form == "triage" else 1)
        assert not [m for m in record.messages if "{" in m.content or not m.content.strip()]


@pytest.mark.parametrize("form", kg.FORMS)
def test_questions_of_test_are_worded_as_none_to_train_on(diseases, form):
    asked = {"train": set(), "test": set(), "valid": set()}
    for row in made(diseases, form, per_entity=4):
        if row.record:
            asked[row.split].add(row.text)
    assert not asked["train"] & (asked["test"] | asked["valid"])


def test_the_same_seed_makes_the_same_questions(diseases):
    assert records(diseases, *kg.FORMS) == records(diseases, *kg.FORMS)
    assert records(diseases, "vignette") != records(diseases, "vignette", seed=7)


def test_wrong_choices_are_never_true_and_letters_are_even(diseases):
    by_name = {entity.name: entity for entity in diseases.entities}
    letters = Counter()
    for record in records(diseases, "choice", per_entity=12):
        entity = by_name[record.id.split("-")[1]]
        right = record.choices["ABCD".index(record.answer)]
        assert any(right in values for values in entity.attributes.values())
        wrong = [choice for choice in record.choices if choice != right]
        assert len({right, *wrong}) == 4
        assert not [choice for choice in wrong if choice in entity.text()]
        letters[record.answer] += 1
    assert all(0.19 < count / letters.total() < 0.31 for count in letters.values())


def test_what_the_source_shows_in_part_is_never_denied():
    graph = graph_of(RAW / "graph/disease.csv")
    eye = next(entity for entity in graph.entities if entity.name == "立春眼")
    for record in records(graph, "choice", "yesno", per_entity=20):
        if "立春眼" not in record.id:
            continue
        if isinstance(record, Question):
            assert record.subject not in ("症状", "检查项目", "常用药物")
        elif record.messages[1].content.startswith("资料中没有"):
            assert not any(
                value in record.messages[1].content for value in eye.values("symptoms") + eye.values("drugs")
            )


def test_yes_and_no_are_about_as_many_and_right(diseases):
    said = Counter()
    for record in records(diseases, "yesno", per_entity=6):
        answer = record.messages[1].content
        listed, _, value = answer.partition("，其中包括") if answer.startswith("是的") else answer.rpartition("，没有")
        assert (value.rstrip("。") in listed) == answer.startswith("是的")
        said[answer[:2]] += 1
    assert 0.4 < said["是的"] / said.total() < 0.6


def test_a_vignette_s_symptoms_fit_one_disease_only(diseases):
    for record in records(diseases, "vignette"):
        symptoms = record.messages[1].content.removeprefix("根据").partition("这些表现")[0].split("、")
        assert [e.name for e in diseases.entities if set(symptoms) <= set(e.values("symptoms"))] == [
            record.id.split("-")[1]
        ]


def test_patients_go_with_their_diseases(tmp_path):
    rows = [
        {"name": "小儿甲病", "cure_department": ["儿科"], "symptom": ["哭闹", "吐奶"]},
        {"name": "妊娠乙病", "cure_department": ["产科"], "symptom": ["恶心", "水肿"]},
        {"name": "前列腺丙病", "cure_department": ["泌尿外科"], "symptom": ["尿频", "尿急"]},
    ]
    path = tmp_path / "medical.json"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    for record in records(graph_of(path), "vignette", per_entity=8):
        age = int("".join(filter(str.isdigit, record.messages[0].content.partition("岁")[0])))
        if "小儿" in record.id:
            assert age <= 10
        else:
            assert ("女，" if "妊娠" in record.id else "男，") in record.messages[0].content


def test_refusals_are_for_what_is_not_there(diseases):
    by_name = {entity.name: entity for entity in diseases.entities}
    for record in records(diseases, "refusal"):
        assert "没有记载" in record.messages[1].content
        for attribute, name in (("symptoms", "症状"), ("drugs", "常用药物")):
            if by_name[record.id.split("-")[1]].values(attribute):
                assert f"的{name}，" not in record.messages[1].content


def test_the_command_builds_two_sets(med, project):
    done = med("data", "make", "kg", table_path(), "--limit", 20, "--name", "graph")
    assert done.exit_code == 0, done.stderr
    for name, kind in (("graph", "conversation"), ("graph-choice", "question")):
        dataset = open_dataset(name)
        assert dataset.kind == kind
        check_account(dataset)
        assert f"data/{name}: made {dataset.manifest['counts']['kept']:,} {kind}s" in done.stdout
    assert {r.meta["form"] for r in open_dataset("graph").records("train")} == set(kg.FORMS) - {"choice"}
    first = {path.name: path.read_bytes() for path in (project / "data/made").iterdir()}
    assert med("data", "make", "kg", table_path(), "--limit", 20, "--name", "graph").exit_code == 0
    assert first == {path.name: path.read_bytes() for path in (project / "data/made").iterdir()}


def test_what_was_left_out_is_told(med):
    done = med("data", "make", "kg", RAW / "graph/disease.csv", "--forms", "attribute", "--json")
    (manifest,) = json.loads(done.stdout)
    assert manifest["name"] == "disease-kg"
    assert manifest["refused"]["a value is cut off"] == 2
    assert manifest["refused"]["the name is cut off"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--forms", "vignete"], "did you mean 'vignette'?"),
        (["--llm", "http://127.0.0.1:9/v1"], "--llm-model is missing"),
        (["--llm", "http://127.0.0.1:9/v1", "--llm-model", "m", "--forms", "yesno"], "--forms goes with templates"),
    ],
)
def test_wrong_words_are_told(med, words, said):
    done = med("data", "make", "kg", table_path(), *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_real_graph():
    graph = graph_of(shared("kg_medical_json/medical10.json"))
    rows = made(graph, *kg.FORMS)
    assert len(graph.entities) == 23
    assert sum(row.record is not None for row in rows) > 900
