"""Doctors, patients and judges that say what a test wants."""

from dataclasses import replace

from medcli.core.dialogue_case import Case, Fact
from medcli.core.exam import Sitting
from medcli.core.exam_settings import EvalSettings
from medcli.core.record import Message
from medcli.core.report import Silent

COLD = Case(
    id="cold",
    opening="医生，我咳嗽好几天了，怎么办？",
    facts=(
        Fact(words=("多久", "几天"), says="从上周三开始的。"),
        Fact(words=("发热", "发烧", "体温"), says="量过，37.2℃。"),
        Fact(words=("痰",), says="有一点白痰。"),
        Fact(words=("过敏",), says="对青霉素过敏。"),
        Fact(words=("用药", "吃药"), says="喝过止咳糖浆。"),
    ),
    reference="考虑急性支气管炎。建议查血常规和胸片，多饮水；如果高烧或喘不过气，立即去急诊。",
    concern="要不要去输液？",
    diagnosis=("支气管炎",),
    advice=("血常规", "胸片/X线"),
    harmful=("服用阿莫西林",),
    complete=True,
)
GOOD = (
    "您好，请问咳嗽多久了？有没有发烧，体温多少？有没有痰？",
    "您对什么药过敏吗？最近用药了没有？",
    COLD.reference,
)
BAD = ("多喝水就行", "没事没事没事没事没事没事没事没事没事没事没事没事", "just rest, 可以服用阿莫西林")


def user(text):
    return Message(role="user", content=text)


def assistant(text):
    return Message(role="assistant", content=text)


class Speaks:
    """A speaker whose answer is `answer(prompt, sampling)`; it remembers each batch it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.batches = []

    def reply(self, messages, sampling):
        yield self.answer(messages, sampling)

    def replies(self, prompts, sampling, advance):
        self.batches.append(([tuple(prompt) for prompt in prompts], sampling))
        advance(len(prompts))
        return [self.answer(prompt, sampling) for prompt in prompts]


def doctor(*turns):
    """Says its turns one after the other, in every dialogue."""
    return Speaks(lambda prompt, _: turns[sum(message.role == "assistant" for message in prompt)])


def always(text):
    return Speaks(lambda _, __: text)


def sitting(speaker, *, patient=None, judge=None, report=None, **settings):
    return Sitting(
        speaker=speaker,
        reader=None,
        patient=patient,
        judge=judge,
        settings=replace(EvalSettings(), **settings),
        report=report or Silent(),
    )


class Notes(Silent):
    """Keeps what a person would read."""

    def __init__(self):
        self.notes = []
        self.stages = []

    def note(self, text):
        self.notes.append(text)

    def stage(self, name, total=None, unit=""):
        self.stages.append((name, total))
