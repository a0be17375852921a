"""Pairs of the shipped table: right answers against wrong ones, of which length tells nothing."""

from collections import Counter

import pytest

from medcli.core import knowledge
from medcli.core.fingerprint import normal, question_of
from tests.building import check_account, made
from tests.importers.test_importers import importer_for

ANSWERS = {fact.say(knowledge.ANSWER) for fact in knowledge.facts(knowledge.table_path())}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The pairs of every split, built as `med data build knowledge-pairs` builds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MED_DATA", str(tmp_path_factory.mktemp("data")))
        dataset = made("knowledge-pairs")
        check_account(dataset)
        assert dataset.manifest["refused"] == dataset.manifest["changed"] == {}
        return {split: list(dataset.records(split)) for split in ("train", "valid", "test")}


def kind(record):
    return record.id.partition("-test-")[2].lstrip("0123456789-")


def test_there_are_enough_and_none_is_asked_in_a_phrasing_of_the_test(pairs):
    assert {split: len(records) for split, records in pairs.items()} == {"train": 6438, "valid": 200, "test": 400}
    facts = (*knowledge.facts(knowledge.table_path()), *knowledge.unknown(True))
    held = {normal(form.format(d=f.disease, a=f.attribute)) for f in facts for form in knowledge.phrasings(True)}
    asked = {split: {normal(question_of(record)) for record in records} for split, records in pairs.items()}
    assert asked["test"] <= held
    assert not (asked["train"] | asked["valid"]) & held


def test_the_better_answer_is_right_and_the_worse_one_wrong(pairs):
    for record in (record for records in pairs.values() for record in records):
        disease, attribute = record.id.split("-")[:2]
        right = [text for text in ANSWERS if text.startswith(f"{disease}的{attribute}有")]
        assert record.chosen == (right[0] if right else knowledge.unknown_answer())
        assert record.rejected != record.chosen


def test_every_kind_of_wrong_is_there(pairs):
    kinds = Counter(map(kind, pairs["test"]))
    assert kinds.pop("made-up") == 60
    assert len(kinds) == 8
    assert min(kinds.values()) > 20
    by_kind = {kind(record): record for record in pairs["test"]}
    assert by_kind["broken-off"].chosen.startswith(by_kind["broken-off"].rejected)
    assert by_kind["does-not-stop"].rejected.startswith(by_kind["does-not-stop"].chosen.rstrip("。"))
    assert by_kind["another-disease"].rejected in ANSWERS


def test_length_alone_tells_nothing(pairs):
    for records in pairs.values():
        longer = [len(record.chosen) > len(record.rejected) for record in records]
        alike = [len(record.chosen) == len(record.rejected) for record in records]
        assert abs((sum(longer) + sum(alike) / 2) / len(records) - 0.5) < 0.05


def test_the_table_is_read_as_questions_unless_pairs_are_named():
    assert importer_for(knowledge.table_path()) == "knowledge"
