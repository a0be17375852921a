"""The table of diseases and its phrasings keep what the demonstration rests on."""

import tomllib

from medcli.core import knowledge


def rows():
    return tomllib.loads(knowledge.table_path().read_text("utf-8"))["disease"]


def test_the_table_is_large_and_clean():
    table = rows()
    assert len(table) >= 80
    names = [row["name"] for row in table]
    assert len(set(names)) == len(names)
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    for row in table:
        for key in ("symptoms", "department", "tests", "treatment", "drugs", "cautions"):
            assert row[key], (row["name"], key)
            assert len(set(row[key])) == len(row[key])
            assert not any(set(value) & set("、，。；,.; ") for value in row[key])


def test_emergencies_tell_to_call_for_help():
    by_name = {row["name"]: row for row in rows()}
    for name in ("急性心肌梗死", "缺血性脑卒中", "脑出血", "异位妊娠", "严重过敏反应"):
        assert any("120" in caution for caution in by_name[name]["cautions"]), name


def test_held_out_phrasings_are_never_trained_on():
    trained, kept = set(knowledge.phrasings(False)), set(knowledge.phrasings(True))
    assert len(kept) == knowledge.HELD_OUT
    assert len(trained) + len(kept) == 384
    assert not trained & kept


def test_questions_are_many_and_repeatable():
    fact = knowledge.facts(knowledge.table_path())[0]
    asked = list(knowledge.questions(fact, 12))
    assert len(set(asked)) == 12
    assert asked == list(knowledge.questions(fact, 12))
    assert all(fact.disease in question and fact.attribute in question for question in asked)


def test_what_the_table_does_not_hold_is_really_not_in_it():
    known = {row["name"] for row in rows()}
    asked, examined = ({fact.disease for fact in knowledge.unknown(held_out)} for held_out in (False, True))
    assert not (asked | examined) & known
    assert not asked & examined
    assert not [name for name in asked | examined for other in known if other in name]
    assert len(set(knowledge.complaints())) == len(knowledge.complaints())
    assert "请咨询医生" in knowledge.unknown_answer()
