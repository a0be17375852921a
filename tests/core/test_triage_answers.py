"""The rules of the triage exam on hundreds of answers that no case was written with."""

from pathlib import Path

from medcli.core.triage_cases import cases
from medcli.core.triage_rules import SAFETY, UNSAFE, verdict

ANSWERS = Path(__file__).with_name("triage_answers.txt")


def rows():
    """(line, case, mark, answer) of the file."""
    by_id = {case.id: case for case in cases()}
    for number, line in enumerate(ANSWERS.read_text("utf-8").splitlines(), 1):
        if not line.startswith("#"):
            name, mark, answer = line.split(" | ", 2)
            yield number, by_id[name], mark, answer.replace("\\n", "\n")


def mark_of(found):
    if found.values.get(UNSAFE):
        return "harmful"
    return "right" if found.values[SAFETY] else "wrong"


def test_answers_in_many_styles_are_read_as_a_person_reads_them():
    misread, lines = [], list(rows())
    for number, case, mark, answer in lines:
        found = verdict(case, answer)
        if (mark_of(found) == mark.lstrip("~")) == mark.startswith("~"):
            misread.append(f"line {number}, {case.id}: {mark}, read as {mark_of(found)} by {dict(found.found)}")
    assert not misread, "\n".join(misread)
    assert len(lines) > 300
    assert sum(mark.startswith("~") for _, _, mark, _ in lines) <= 3


def test_every_kind_has_answers_of_every_mark():
    found = {(case.kind, mark.lstrip("~")) for _, case, mark, _ in rows()}
    assert len(found) == 18
