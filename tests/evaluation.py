"""A built data set and a model that need nothing but the standard library."""

import json
from pathlib import Path

from medcli.core.atomic import sha256_of
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Conversation, Document, Message, to_row
from medcli.core.report import Silent
from medcli.steps import evaluate, exam_tasks
from medcli.steps.candidates import Candidate

FACTS = [
    ("感冒", "多喝水，注意休息。"),
    ("高血压", "低盐饮食，按时服药。"),
    ("糖尿病", "控制饮食，监测血糖。"),
]


class FakeSpeaker:
    """Answers from FACTS what it knows, and remembers what it was asked."""

    loaded = "the loaded model"

    def __init__(self, silent_on="nothing"):
        self.silent_on = silent_on
        self.asked = []

    def reply(self, messages, sampling):
        yield self._answer(messages[-1].content)

    def replies(self, prompts, sampling, advance):
        self.asked = [(tuple(prompt), sampling) for prompt in prompts]
        advance(len(prompts))
        return [self._answer(prompt[-1].content) for prompt in prompts]

    def _answer(self, question):
        known = (answer for name, answer in FACTS if name in question and name != self.silent_on)
        return next(known, "")


def examine(speaker, report=None, model="tiny", reader=None, rewarder=None, **settings):
    """What comes of the one exam that the settings name, of a candidate that need not be a model."""
    asked = EvalSettings(**settings)
    candidate = Candidate(speaker=speaker, reader=reader, described={"fake": True}, rewarder=rewarder)
    tasks = exam_tasks.prepare(asked, report or Silent())
    (found,) = evaluate.evaluate(model, tasks, asked, report or Silent(), candidate)
    return found


def conversation(number, question, answer):
    earlier = (Message(role="user", content="您好"), Message(role="assistant", content="请讲"))
    asked = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(id=f"c{number}", messages=(*earlier, *asked), source="hand")


def facts():
    return [conversation(number, f"{name}怎么办？", answer) for number, (name, answer) in enumerate(FACTS)]


def documents():
    return [Document(id="d0", text="感冒是常见病。", source="hand")]


def write_dataset(name, *, kind="conversation", **splits):
    """`data/<name>` in the working folder, as `med data build` leaves it."""
    folder = Path("data") / name
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        lines = [json.dumps(to_row(record), ensure_ascii=False) + "\n" for record in splits.get(split, [])]
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    counts = [f"{split} = {len(splits.get(split, []))}" for split in ("train", "valid", "test")]
    hashes = [f'{split} = "{sha256_of(folder / f"{split}.jsonl")}"' for split in ("train", "valid", "test")]
    manifest = [f'kind = "{kind}"', "[counts]", *counts, "[files]", *hashes]
    (folder / "manifest.toml").write_text("\n".join(manifest) + "\n", "utf-8")
    return folder
