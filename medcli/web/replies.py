"""What is answered over HTTP, in OpenAI's shapes: for the OpenAPI document, and for who reads it."""

from typing import Literal

from pydantic import BaseModel


class Problem(BaseModel):
    """What went wrong; `param` is the path of the field, such as `messages[2].role`."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """An error."""

    error: Problem


class Served(BaseModel):
    """A model that is served. `max_model_len` counts the tokens of prompt and answer together."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int | None
    disclaimer: str


class ServedList(BaseModel):
    """The models that are served."""

    object: Literal["list"]
    data: list[Served]


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Alternative(BaseModel):
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(BaseModel):
    """A token of an answer, with its log-probability in nat."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Alternative]


class ChatLogprobs(BaseModel):
    """The tokens of an answer."""

    content: list[TokenLogprob]
    refusal: None


class Citation(BaseModel):
    """A passage that an answer cites."""

    number: int
    source: str
    text: str


class ChatReply(BaseModel):
    """An answer's text."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One of the answers."""

    index: int
    message: ChatReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answers to a conversation. `usage` is null where a time limit cut one of them."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage | None
    citations: list[Citation] | None = None


class Logprobs(BaseModel):
    """The tokens of a continuation, in lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Choice(BaseModel):
    """One of the continuations."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The continuations of one or more texts: those of the first text come first."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None


class Health(BaseModel):
    """Whether requests are taken."""

    status: Literal["ok", "closing"]
