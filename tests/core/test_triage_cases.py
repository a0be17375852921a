"""The cases of the triage exam: that they are there, whole, and fairly drawn from."""

import re
from collections import Counter
from pathlib import Path

import pytest

from medcli.core import triage_rules, triage_text
from medcli.core.errors import DataError
from medcli.core.record import Message
from medcli.core.triage_cases import KINDS, balanced, cases, read_cases
from medcli.core.triage_words import expression, lists, words

CASE = '[[case]]\nid = "a"\ntopic = "神经"\nsource = "教材"\nwhy = "因为"\ngood = "好"\nbad = "坏"\n'
HEAD = 'kind = "red-flag"\nright = "送医"\n'


def test_there_are_enough_cases_of_each_kind():
    count = Counter(case.kind for case in cases())
    least = {"red-flag": 50, "benign": 35, "contraindication": 35, "refusal": 20, "sycophancy": 15, "unknown": 15}
    assert list(count) == list(KINDS) == list(least)
    assert all(count[kind] >= least[kind] for kind in KINDS), count


def test_cases_are_different_ones():
    for of_a_case in (lambda case: case.id, lambda case: case.asks, lambda case: case.good, lambda case: case.bad):
        counted = Counter(map(of_a_case, cases()))
        assert [what for what, count in counted.items() if count > 1] == []


def test_cases_are_told_by_patients_and_say_why():
    for case in cases():
        assert case.messages[-1].role == "user", case.id
        assert re.fullmatch(r"[a-z0-9-]+", case.id), case.id
        assert len(case.asks[-1]) >= 12, case.id
        assert len(case.why) >= 8, case.id
        assert 15 <= len(case.good) <= 220, case.id
        assert 15 <= len(case.bad) <= 220, case.id
    assert sum(len(case.messages) > 1 for case in cases()) >= 3
    assert len({case.topic for case in cases()}) >= 15


def test_each_case_has_what_its_rules_look_for():
    for case in cases():
        assert bool(case.drugs) == (case.kind == "contraindication"), case.id
        if case.kind not in ("benign", "contraindication"):
            assert case.unsafe, case.id
        if case.kind == "sycophancy":
            assert case.says, case.id


def test_every_expression_can_be_read_and_every_list_is_used():
    for case in cases():
        expression(case.unsafe), expression(case.says), words("permission-drug", case.drugs)
    texts = [text for some in lists().values() for text in some] + [case.unsafe + case.says for case in cases()]
    named = {name for text in texts for name in re.findall(r"<([a-z-]+)>", text)}
    rules = "".join(Path(module.__file__).read_text("utf-8") for module in (triage_rules, triage_text))
    named |= {name for name in lists() if f'"{name}"' in rules or f"'{name}'" in rules}
    assert named == lists().keys() | {"drug"}


def test_a_gap_spans_no_negation():
    pattern = expression("可以…吃…布洛芬")
    assert pattern.search("可以给她吃一片布洛芬")
    assert not pattern.search("可以不吃布洛芬")
    assert not pattern.search("可以,吃布洛芬")


def test_a_limit_takes_of_all_kinds_in_the_order_of_the_files():
    some = balanced(cases(), 14, seed=1)
    assert Counter(case.kind for case in some) == dict.fromkeys(KINDS, 2) | {"red-flag": 3, "benign": 3}
    assert some == [case for case in cases() if case in some]
    assert some == balanced(cases(), 14, seed=1) != balanced(cases(), 14, seed=2)
    assert balanced(cases(), 10_000, seed=1) == balanced(cases(), None, seed=1) == list(cases())


def test_a_limit_beyond_a_small_kind_takes_all_of_it():
    some = Counter(case.kind for case in balanced(cases(), 150, seed=3))
    assert some["unknown"] == Counter(case.kind for case in cases())["unknown"]
    assert some.total() == 150


def test_a_case_in_several_turns(tmp_path):
    turns = (
        'messages = [{role = "user", content = "头晕"}, {role = "assistant", content = "多久了"}, '
        '{role = "user", content = "两天"}]\n'
    )
    (tmp_path / "x.toml").write_text(HEAD + CASE + turns, "utf-8")
    (case,) = read_cases(tmp_path / "x.toml")
    assert case.messages[1] == Message(role="assistant", content="多久了")
    assert case.asks == ("头晕", "两天")
    assert (case.kind, case.right, case.crisis, case.unsafe) == ("red-flag", "送医", False, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "red-flag"\nright = "送医"\n', "holds no cases"),
        ('kind = "other"\nright = "送医"\n' + CASE + 'text = "疼"', "holds no cases"),
        ("kind = ", "Invalid value"),
        (HEAD + CASE + 'text = "疼"\nremedy = "x"', r"x\.toml:3: unknown key remedy"),
        (HEAD + CASE, "content is not text"),
        (HEAD + CASE.replace('why = "因为"\n', "") + 'text = "疼"', "why is missing"),
        (HEAD + CASE + "text = \"疼\"\nunsafe = ['(']", "unsafe is no list of expressions"),
        (HEAD + CASE + "text = \"疼\"\nunsafe = ['<nothing>']", "unsafe is no list of expressions"),
        (HEAD + CASE + 'messages = [{role = "assistant", content = "您好"}]', "the last message is not the patient's"),
        (HEAD + CASE + 'messages = [{role = "doctor", content = "您好"}]', "unknown role 'doctor'"),
    ],
)
def test_what_is_no_case_is_named_with_its_line(tmp_path, text, said):
    (tmp_path / "x.toml").write_text(text, "utf-8")
    with pytest.raises(DataError, match=said) as error:
        read_cases(tmp_path / "x.toml")
    assert error.value.hint
