"""Many clients at once, of whom some are patient, some slow, some leave, and some talk nonsense."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

_HABITS = ("patient", "patient", "whole", "slow", "leaves", "leaves at once", "malformed")
_NONSENSE = (
    b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"messages": 5}', b'{"messages": [{"role": "king", "content": "x"}]}',
    b'{"messages": [{"role": "user", "content": "x"}], "n": 99}', b"[" * 9000, b'{"prompt": "x"}', b"\x00" * 100,
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """What one request asks, and the only right answer."""

    body: dict[str, Any]
    answer: str


@dataclass
class Seen:
    """What happened to a crowd."""

    codes: Counter[int] = field(default_factory=Counter)
    habits: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Answers that were read to their ends, and were right."""
        return self.habits["answered"]


Asking = Callable[[random.Random], Question]


def visit(url: str, clients: int, seconds: float, question: Asking) -> Seen:
    """Let a crowd ask for so long."""
    return asyncio.run(_visit(url, clients, seconds, question))


async def _visit(url: str, clients: int, seconds: float, question: Asking) -> Seen:
    seen, end = Seen(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(_live(client, random.Random(number), end, question, seen) for number in range(clients)))
    return seen


async def _live(client: httpx.AsyncClient, chance: random.Random, end: float, question: Asking, seen: Seen) -> None:
    while time.monotonic() < end:
        habit = chance.choice(_HABITS)
        seen.habits[habit] += 1
        if habit == "malformed":
            body = chance.choice(_NONSENSE)
            answer = await client.post(
                "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
            )
            seen.codes[answer.status_code] += 1
            if not 400 <= answer.status_code < 500:
                seen.wrong.append(f"{answer.status_code} for {body!r}")
        elif habit == "whole":
            await _ask_whole(client, question(chance), seen)
        else:
            await _ask_stream(client, question(chance), habit, chance, seen)


async def _ask_whole(client: httpx.AsyncClient, asked: Question, seen: Seen) -> None:
    answer = await client.post("/v1/chat/completions", json=asked.body)
    if await _taken(answer, seen):
        _check(asked, answer.json()["choices"][0]["message"]["content"], seen)


async def _ask_stream(
    client: httpx.AsyncClient, asked: Question, habit: str, chance: random.Random, seen: Seen
) -> None:
    async with client.stream("POST", "/v1/chat/completions", json=asked.body | {"stream": True}) as answer:
        if not await _taken(answer, seen) or habit == "leaves at once":
            return
        left, said, ended = chance.randrange(1, 8), "", False
        async for line in answer.aiter_lines():
            if not line:
                continue
            if line == "data: [DONE]":
                ended = True
                break
            said += json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content", "")
            if habit == "slow":
                await asyncio.sleep(chance.uniform(0, 0.05))
            left -= 1
            if habit == "leaves" and not left:
                return
        if ended:
            _check(asked, said, seen)
        else:
            seen.wrong.append(f"a stream broke off after {said!r}")


async def _taken(answer: httpx.Response, seen: Seen) -> bool:
    """Whether the request was taken; one that was told to come back waits a little."""
    seen.codes[answer.status_code] += 1
    if answer.status_code == 429:
        await asyncio.sleep(min(0.2, int(answer.headers["retry-after"])))
    return answer.status_code == 200


def _check(asked: Question, said: str, seen: Seen) -> None:
    if said == asked.answer:
        seen.habits["answered"] += 1
    else:
        seen.wrong.append(f"{said!r} in the place of {asked.answer!r}")
