"""The instructions that models are given: `templates/prompts/*.md`, with $names filled in."""

from collections.abc import Sequence
from string import Template

from medcli.core.record import Message
from medcli.core.resources import templates

# Asked of any model, to see what it says.
QUESTIONS = ("你好", "头痛怎么办？", "高血压患者的注意事项有哪些？", "感冒能吃头孢吗？")
_SAID_BY = {"system": "系统", "user": "患者", "assistant": "医生"}


def prompt(kind: str, /, **values: str) -> str:
    """The text of a prompt with its names replaced; raises KeyError when one is not given."""
    text = (templates() / "prompts" / f"{kind}.md").read_text("utf-8")
    return Template(text).substitute(values).strip()


def written_out(messages: Sequence[Message]) -> str:
    """A dialogue as text, with who says it."""
    return "\n".join(f"{_SAID_BY[message.role]}（{message.role}）：{message.content}" for message in messages)
