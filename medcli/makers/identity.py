"""Dialogues in which a model says who it is, in Chinese and English, from templates with its name filled in."""

import hashlib
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from medcli.core.errors import UsageError
from medcli.core.raw_rows import single_turn
from medcli.core.record import Row
from medcli.core.resources import templates
from medcli.core.settings import setting

LANGUAGES = ("zh", "en")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `med data make identity` can be told."""

    model_name: str = setting(help="What the model calls itself.")
    author: str = setting(help="Who made it.")
    date: str = setting(help="When it was made, in the words it shall use.")
    name: str = setting("identity", help="Name of the data set.")
    seed: int = setting(42, help="Seed of which answer goes with which question.")

    def __post_init__(self) -> None:
        for flag, value in (("model-name", self.model_name), ("author", self.author), ("date", self.date)):
            if not value.strip():
                raise UsageError(f"--{flag} is empty", hint="the model is to say it")


def make(settings: Settings) -> Iterator[Row]:
    """One row per question and greeting; a quarter of the questions, with all greetings, is for validation and test."""
    file = templates() / "knowledge" / "identity.toml"
    table = tomllib.loads(file.read_text("utf-8"))
    chance = random.Random(settings.seed)
    slots = {"name": settings.model_name, "author": settings.author, "date": settings.date}
    for language in LANGUAGES:
        for topic in table[language]["topic"]:
            for question in topic["questions"]:
                for number, greeting in enumerate(table[language]["greetings"]):
                    answer = chance.choice(topic["answers"]).format(**slots)
                    id = f"identity-{hashlib.sha256(question.encode()).hexdigest()[:8]}-{number}"
                    record = single_turn(id, "identity", greeting + question, answer)
                    yield Row(file=file.name, line=1, record=record, split=_split(question), text=question, made=True)


def _split(question: str) -> str:
    point = hashlib.sha256(question.encode()).digest()[0]
    return "valid" if point < 32 else "test" if point < 64 else "train"  # of 256
