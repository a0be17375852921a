"""The questions of general knowledge that come with med: `templates/exams/general.toml`."""

from functools import cache
from pathlib import Path

from medcli.core.record import Question
from medcli.core.resources import templates
from medcli.core.settings import read_toml

SOURCE = "general"


def questions_path() -> Path:
    """The shipped questions."""
    return templates() / "exams" / "general.toml"


def questions() -> list[Question]:
    """What is asked: 12 questions in each of 10 subjects, none of them medical, in the order of the file."""
    return list(_table("question"))


def shots() -> list[Question]:
    """One further question a subject, to be shown with its answer before what is asked."""
    return list(_table("shot"))


@cache
def _table(name: str) -> tuple[Question, ...]:
    return tuple(
        Question(
            id=row["id"],
            stem=row["question"],
            choices=tuple(row["choices"]),
            answer=row["answer"],
            subject=row["subject"],
            source=SOURCE,
        )
        for row in read_toml(questions_path())[name]
    )
