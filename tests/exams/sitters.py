"""Whoever sits an exam in tests: a speaker that says what it is told, and a reader that finds some texts likelier."""

from medcli.core.exam import Sitting
from medcli.core.exam_settings import EvalSettings
from medcli.core.report import Silent
from medcli.core.speaker import Likelihood


class Says:
    """Answers by a function of the messages."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def reply(self, messages, sampling):
        yield self.answer(messages)

    def replies(self, prompts, sampling, advance):
        self.asked += [(tuple(prompt), sampling) for prompt in prompts]
        advance(len(prompts))
        return [self.answer(prompt) for prompt in prompts]


class Finds:
    """Finds an ending as likely as a function of the messages and it says, in nat."""

    def __init__(self, likelihood):
        self.likelihood = likelihood
        self.asked = []

    def likelihoods(self, prompts, endings, advance, *, ended=False):
        self.asked += [(tuple(prompt), tuple(some), ended) for prompt, some in zip(prompts, endings, strict=True)]
        advance(len(prompts))
        return [
            [Likelihood(total=self.likelihood(prompt, ending), tokens=len(ending)) for ending in some]
            for prompt, some in zip(prompts, endings, strict=True)
        ]

    def perplexity(self, conversations, report):
        return 2.0, 10, [0.7 for _ in conversations]


def sitting(speaker=None, reader=None, report=None, **settings):
    return Sitting(
        speaker=speaker or Says(lambda messages: ""),
        reader=reader,
        settings=EvalSettings(**settings),
        report=report or Silent(),
    )
