"""The one way to get text from a model, whatever the model is."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from medcli.core.record import Message

DISCLAIMER = "以下内容由模型生成，仅供学习与研究，不能代替医生的诊断；如有不适请及时就医。"
TINY_DISCLAIMER = f"med-tiny 是演示模型，只记得一张小小的疾病知识表。{DISCLAIMER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; `seed` makes sampling repeatable."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 42


class Speaker(Protocol):
    """Answers a conversation. Closing the iterator of `reply` stops the model within one token."""

    def reply(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """The answer's text in pieces; never a broken character."""
        ...

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: Sampling, advance: Callable[[int], None]
    ) -> list[str]:
        """One answer per prompt, in order; `advance` hears how many are done."""
        ...
