"""How a language model behind an OpenAI-compatible service is asked, and what the makers see of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from medcli.core.errors import UsageError
from medcli.core.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSettings:
    """The service to ask. Its key comes from MED_API_KEY or OPENAI_API_KEY, never from here."""

    llm: str = setting("", help="Address of an OpenAI-compatible service, such as http://localhost:8000/v1.")
    llm_model: str = setting("", help="Name of the model there.")
    concurrency: int = setting(8, help="Questions to the service at the same time.", minimum=1)
    requests_per_minute: int | None = setting(None, help="Send no more than this, tries again included.", minimum=1)
    max_tokens_total: int | None = setting(
        None, help="Stop asking before questions and answers together take more tokens than this.", minimum=1
    )

    def __post_init__(self) -> None:
        if self.llm and not self.llm_model:
            raise UsageError("--llm-model is missing", hint="which model of the service: --llm-model NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the service said, or why there is nothing; what stands before ": " in `reason` is counted."""

    text: str = ""
    reason: str = ""


# Prompts in, replies out in the same order.
Ask = Callable[[Sequence[str]], Iterator[Reply]]
