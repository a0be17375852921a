"""An answer's way into JSON: the two shapes of OpenAI's, whole and in pieces."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from medcli.core.serving import Piece, TokenChance
from medcli.core.speaker import Answer

Json = dict[str, Any]
LEAST = -9999.0  # JSON has no infinity; OpenAI writes this


class Form(Protocol):
    """The shape of one reply: its choices by number. A form is used for one reply only, for it may count."""

    @property
    def whole(self) -> str:
        """What the whole reply is called."""
        ...

    @property
    def part(self) -> str:
        """What an event of a stream is called."""
        ...

    def choice(self, index: int, answer: Answer, chances: Sequence[TokenChance]) -> Json:
        """A whole answer."""
        ...

    def opening(self, index: int) -> Json | None:
        """What comes before an answer's first piece."""
        ...

    def piece(self, index: int, piece: Piece) -> Json:
        """More of an answer."""
        ...

    def ending(self, index: int, answer: Answer) -> Json:
        """How an answer ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around the choices of a reply, the same for all its events."""

    id: str
    model: str
    created: int = field(default_factory=lambda: int(time.time()))

    def around(self, name: str, choices: Sequence[Json], **more: Any) -> Json:
        """The reply."""
        head = {"id": self.id, "object": name, "created": self.created, "model": self.model}
        return head | {"choices": list(choices)} | more


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatForm:
    """`/v1/chat/completions`."""

    chances: bool
    whole: str = "chat.completion"
    part: str = "chat.completion.chunk"

    def choice(self, index: int, answer: Answer, chances: Sequence[TokenChance]) -> Json:
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        said = self._logprobs(chances)
        return {"index": index, "message": message, "logprobs": said, "finish_reason": answer.finish}

    def opening(self, index: int) -> Json | None:
        return self._delta(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, piece: Piece) -> Json:
        return self._delta(index, {"content": piece.text}) | {"logprobs": self._logprobs(piece.chances)}

    def ending(self, index: int, answer: Answer) -> Json:
        return self._delta(index, {}) | {"finish_reason": answer.finish}

    def _delta(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def _logprobs(self, chances: Sequence[TokenChance]) -> Json | None:
        if not self.chances:
            return None
        rows = []
        for one in chances:
            others = [_token(*other) for other in one.others]
            rows.append(_token(one.text, one.raw, one.log_probability) | {"top_logprobs": others})
        return {"content": rows, "refusal": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """`/v1/completions`; counts the characters of each continuation, for its tokens' places."""

    chances: bool
    whole: str = "text_completion"
    part: str = "text_completion"
    _read: dict[int, bytearray] = field(default_factory=dict)

    def choice(self, index: int, answer: Answer, chances: Sequence[TokenChance]) -> Json:
        return self._choice(index, answer.text, chances) | {"finish_reason": answer.finish}

    def opening(self, index: int) -> Json | None:
        return None

    def piece(self, index: int, piece: Piece) -> Json:
        return self._choice(index, piece.text, piece.chances)

    def ending(self, index: int, answer: Answer) -> Json:
        return self._choice(index, "", ()) | {"finish_reason": answer.finish}

    def _choice(self, index: int, text: str, chances: Sequence[TokenChance]) -> Json:
        said = self._logprobs(index, chances) if self.chances else None
        return {"index": index, "text": text, "logprobs": said, "finish_reason": None}

    def _logprobs(self, index: int, chances: Sequence[TokenChance]) -> Json:
        read, offsets = self._read.setdefault(index, bytearray()), []
        for one in chances:
            offsets.append(len(read.decode("utf-8", "ignore")))
            read += one.raw
        return {
            "tokens": [one.text for one in chances],
            "token_logprobs": [_number(one.log_probability) for one in chances],
            "top_logprobs": [{text: _number(chance) for text, _, chance in one.others} for one in chances],
            "text_offset": offsets,
        }


def usage(answers: Sequence[Answer], each: int) -> Json | None:
    """The tokens of a reply with `each` answers to a prompt, which counts once; None where a count is not known."""
    prompts = [answer.prompt_tokens for answer in answers[::each]]
    said = [answer.tokens for answer in answers]
    known = [count for count in (*prompts, *said) if count is not None]
    if len(known) < len(prompts) + len(said):
        return None
    read, total = sum(known[: len(prompts)]), sum(known)
    return {"prompt_tokens": read, "completion_tokens": total - read, "total_tokens": total}


def _token(text: str, raw: bytes, chance: float) -> Json:
    return {"token": text, "logprob": _number(chance), "bytes": list(raw)}


def _number(chance: float) -> float:
    return max(chance, LEAST)
