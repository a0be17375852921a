"""From what was asked over HTTP to requests for the scheduler."""

import secrets
from collections.abc import Sequence

from medcli.core.errors import UnknownNameError
from medcli.core.record import Message
from medcli.core.serving import Request, Scheduler
from medcli.core.speaker import Sampling
from medcli.steps.serve import Settings
from medcli.web.errors import ApiError
from medcli.web.schemas import Asked, ChatMessage, ChatRequest

UNBOUNDED = 4096  # tokens of an answer, where neither model nor server has a limit
_SEEDS = 2**31


def model_of(body: Asked, scheduler: Scheduler) -> str:
    """The served model that is meant; raises UnknownNameError."""
    name = scheduler.models[0] if body.model is None else body.model
    if name not in scheduler.models:
        raise UnknownNameError("model", name, scheduler.models)
    return name


def requests_of(
    body: Asked,
    prompts: Sequence[tuple[Message, ...] | str],
    chances: int | None,
    scheduler: Scheduler,
    limits: Settings,
) -> list[Request]:
    """A request for each of the `n` answers to each prompt, those of one prompt together.

    Raises UnknownNameError for a model that is not served, and ApiError for a limit that is passed.
    """
    model = model_of(body, scheduler)
    most = _most_tokens(body, scheduler.context(model), limits.max_tokens)
    _check_number(len(prompts), body.n or 1, limits)
    seed = secrets.randbelow(_SEEDS) if body.seed is None else body.seed
    return [
        Request(model=model, prompt=prompt, sampling=_sampling(body, most, seed + number), chances=chances)
        for prompt in prompts
        for number in range(body.n or 1)
    ]


def conversation_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The dialogue that is to be answered; raises ApiError, naming the message, for one that is odd."""
    dialogue = tuple(_message(index, message) for index, message in enumerate(messages))
    headed = dialogue[0].role == "system"
    for index, message in enumerate(dialogue[headed:], int(headed)):
        expected = "assistant" if (index - headed) % 2 else "user"
        if message.role != expected:
            where = f"messages[{index}].role"
            told = "a system message stands first, once" if message.role == "system" else "user and assistant alternate"
            raise ApiError(400, f"{where}: '{message.role}' where '{expected}' must stand: {told}", param=where)
    if dialogue[-1].role != "user":
        where = f"messages[{len(dialogue) - 1}].role"
        raise ApiError(400, f"{where}: the last message must be the user's, not '{dialogue[-1].role}'", param=where)
    return dialogue


def _message(index: int, message: ChatMessage) -> Message:
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content)
    if not text.strip():
        where = f"messages[{index}].content"
        raise ApiError(400, f"{where} is empty", param=where)
    return Message(role="system" if message.role == "developer" else message.role, content=text)


def _sampling(body: Asked, most: int, seed: int) -> Sampling:
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=body.top_k or 0,
        max_tokens=most,
        seed=seed,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        stop=tuple(stop),
    )


def _most_tokens(body: Asked, context: int | None, cap: int | None) -> int:
    """The longest answer in tokens: what is asked for, or as much as may be."""
    field, wanted = "max_tokens", body.max_tokens
    if isinstance(body, ChatRequest) and body.max_completion_tokens is not None:
        if wanted not in (None, body.max_completion_tokens):
            raise ApiError(400, "max_tokens and max_completion_tokens differ: give one of them", param=field)
        field, wanted = "max_completion_tokens", body.max_completion_tokens
    bounds = [(cap, "this server allows"), (context, "the model reads and writes")]
    most, why = min(((bound, why) for bound, why in bounds if bound), default=(None, ""))
    if wanted is None:
        return most or UNBOUNDED
    if most and wanted > most:
        raise ApiError(400, f"{field}: {wanted} is more than the {most} tokens that {why}", param=field)
    return wanted


def _check_number(prompts: int, each: int, limits: Settings) -> None:
    most = limits.slots + limits.waiting
    if prompts * each > most:
        raise ApiError(400, f"n: {prompts * each} answers are more than the {most} that are taken at once", param="n")
