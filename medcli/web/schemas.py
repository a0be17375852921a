"""What may be asked over HTTP: OpenAI's fields, checked strictly, and a few of our own.

A field that would change the answer and is not supported is listed with the only value that changes nothing. Fields
that clients send for their provider's sake are listed and ignored. Any other field is an error.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_ANSWERS = 8  # to one prompt
MOST_STOPS = 16
MOST_CHANCES = 20  # alternatives a token
MOST_PROMPTS = 16

NotSupported = Annotated[None, Field(description="Not supported: only null is accepted.")]
Ignored = Annotated[Any, Field(description="Accepted and ignored.")]
Filled = Annotated[str, Field(min_length=1)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(_Strict):
    """A part of a message; parts that are no text are refused."""

    type: Literal["text"]
    text: Filled


class ChatMessage(_Strict):
    """A turn of a conversation. `developer` is another word for `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Filled | Annotated[list[TextPart], Field(min_length=1)]
    name: Annotated[str, Field(description="Accepted and ignored.")] | None = None
    refusal: Ignored = None
    annotations: Ignored = None
    tool_calls: NotSupported = None
    tool_call_id: NotSupported = None
    function_call: NotSupported = None
    audio: NotSupported = None


class StreamOptions(_Strict):
    """What a stream says beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: Ignored = None


class ResponseFormat(_Strict):
    """The shape of an answer: plain text is all there is."""

    type: Literal["text"]


class Asked(_Strict):
    """What both kinds of request have in common. Null everywhere means: as if it were left out."""

    model: Annotated[str, Field(description="One of /v1/models; the first of them when left out.")] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, description="0 is greedy; 1 when left out.")] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000, description="0 is no limit.")] | None = None
    max_tokens: Annotated[int, Field(ge=1, description="As many as fit when left out.")] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**62)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS, description="Answer i is drawn with seed + i.")] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, description="1 changes nothing.")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(description="Accepted and ignored.")] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0, description="Not supported.")] | None = None


class ChatRequest(Asked):
    """Answer a conversation, whose last message is the user's."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, description="OpenAI's newer word for max_tokens.")] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_CHANCES, description="Asks for logprobs.")] | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1)] | None = None
    store: Annotated[bool, Field(description="Accepted and ignored: nothing is stored.")] | None = None
    metadata: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    parallel_tool_calls: Ignored = None
    tools: NotSupported = None
    tool_choice: NotSupported = None
    functions: NotSupported = None
    function_call: NotSupported = None
    audio: NotSupported = None
    prediction: NotSupported = None
    reasoning_effort: NotSupported = None
    verbosity: NotSupported = None
    web_search_options: NotSupported = None


class CompletionRequest(Asked):
    """Continue plain texts, with no chat template around them."""

    prompt: Filled | Annotated[list[Filled], Field(min_length=1, max_length=MOST_PROMPTS)]
    logprobs: Annotated[int, Field(ge=0, le=MOST_CHANCES)] | None = None
    best_of: Annotated[Literal[1], Field(description="Only 1.")] | None = None
    echo: Annotated[Literal[False], Field(description="Not supported.")] | None = None
    suffix: NotSupported = None


NAMES = frozenset(
    name
    for schema in (TextPart, ChatMessage, StreamOptions, ResponseFormat, ChatRequest, CompletionRequest)
    for name in schema.model_fields
)
