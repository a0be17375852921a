"""A model that says who it is, in two languages, the same way every time."""

import pytest

from medcli.core.dataset_folder import open_dataset
from medcli.core.fingerprint import question_of
from medcli.makers import identity
from tests.building import check_account

WORDS = ("--model-name", "小青", "--author", "青云实验室", "--date", "2026年3月")


def settings(**given):
    return identity.Settings(**({"model_name": "小青", "author": "青云实验室", "date": "2026年3月"} | given))


def test_questions_are_many_and_every_slot_is_filled():
    rows = list(identity.make(settings()))
    assert rows == list(identity.make(settings()))
    questions = {question_of(row.record) for row in rows}
    assert len(questions) == len(rows) > 120
    assert len({row.text for row in rows}) >= 50
    for row in rows:
        answer = row.record.messages[1].content
        assert "小青" in answer or "青云实验室" in answer
        assert "{" not in answer
    assert any(question.isascii() for question in questions)


def test_a_question_is_in_one_split_with_every_greeting():
    splits = {}
    for row in identity.make(settings()):
        splits.setdefault(row.text, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "valid", "test"}


def test_the_command(med):
    done = med("data", "make", "identity", *WORDS)
    assert done.exit_code == 0, done.stderr
    dataset = open_dataset("identity")
    check_account(dataset)
    assert dataset.manifest["counts"]["refused"] == 0


@pytest.mark.parametrize("missing", ["--author", "--date"])
def test_what_the_model_is_to_say_must_be_given(med, missing):
    at = WORDS.index(missing)
    done = med("data", "make", "identity", *WORDS[:at], *WORDS[at + 2 :])
    assert done.exit_code == 2
    assert f"{missing} is missing" in done.stderr
