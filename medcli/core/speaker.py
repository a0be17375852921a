"""The one way to get text from a model, whatever the model is."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from medcli.core.record import Conversation, Message
from medcli.core.report import Report

DISCLAIMER = "以下内容由模型生成，仅供学习与研究，不能代替医生的诊断；如有不适请及时就医。"
TINY_DISCLAIMER = f"med-tiny 是演示模型，只记得一张小小的疾病知识表。{DISCLAIMER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when an answer ends.

    Temperature 0 is greedy; `seed` makes sampling repeatable; `top_k` 0 is no limit. `repetition_penalty` divides the
    positive logits of every token that stands in prompt or answer, and multiplies the negative ones (CTRL, Keskar et
    al. 2019); `frequency_penalty` is subtracted for each time that a token stands in the answer, `presence_penalty`
    once (OpenAI's definitions). An answer ends before the first of the texts in `stop`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    seed: int = 42
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()


Finish = Literal["stop", "length", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer and how it ended: by a stop word, by its length, or not at all because it was refused.

    `prompt_tokens` and `tokens` count the question's and the answer's, stop words included; None where nobody knows.
    `problem` is the reason of a refusal.
    """

    text: str
    finish: Finish
    prompt_tokens: int | None = None
    tokens: int | None = None
    problem: str = ""


class Speaker(Protocol):
    """Answers a conversation. Closing the iterator of `reply` stops the model within one token."""

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer's text in pieces; never a broken character. A generator returns the `Answer` at its end."""
        ...

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order; `advance` hears how many are done."""
        ...


class Answering(Protocol):
    """A speaker that says how its answers ended, and is asked for many at a time."""

    def answers(
        self, prompts: Sequence[Sequence[Message]], sampling: Sequence[Sampling]
    ) -> Generator[tuple[int, Answer], None, None]:
        """The number of each prompt with its answer, as soon as that is there, in any order.

        Each prompt has settings of its own, and its answer does not depend on what is asked beside it (but for
        rounding). Closing the generator stops the model.
        """
        ...


@runtime_checkable
class Declining(Protocol):
    """A speaker that answers some prompts with "" and knows why: too long, or refused by a service."""

    @property
    def refusals(self) -> Mapping[tuple[Message, ...], str]:
        """The reasons, by prompt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How likely a text is where it stands: the sum of its tokens' log-probabilities in nat, and how many they are."""

    total: float
    tokens: int


class Reader(Protocol):
    """A model that is here, and can say how likely it finds a text."""

    def likelihoods(
        self,
        prompts: Sequence[Sequence[Message]],
        endings: Sequence[Sequence[str]],
        advance: Callable[[int], None],
        *,
        ended: bool = False,
    ) -> list[list[Likelihood]]:
        """How likely each of a prompt's `endings` is as its answer, or the beginning of it.

        With `ended`, as the whole answer: the word that ends an answer is read too. What prompts have in common is
        read once. `advance` hears how many prompts are done. A prompt that is too long to be read with all its endings
        has no likelihoods.
        """
        ...

    def perplexity(self, conversations: Sequence[Conversation], report: Report) -> tuple[float, int, list[float]]:
        """exp of the mean negative log-likelihood of the answers' tokens, their number, and each dialogue's mean."""
        ...
