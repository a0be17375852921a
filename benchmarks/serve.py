"""16 clients at once of `med serve`, against a server that answers one after the other, in turns, as a ratio.

    python benchmarks/serve.py                       # or --model med-tiny, --clients 16, --stream, --temperature 0.7

Both servers run beside each other as processes of their own, and only one of them is asked at a time. Printed are
tokens per second of each round as the clients count them, and the median ratio (more than 1: together is better).
Without --model it is a random one of med-tiny's shape, which never comes to an end by itself.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory

import httpx

from medcli.cli.app import TUNED

QUESTIONS = ("偏头痛怎么治疗？", "高血压有什么症状？", "胃炎应该挂哪个科？", "糖尿病要做什么检查？")


def main() -> None:
    options = _options()
    with (
        TemporaryDirectory() as folder,
        _serving(options.model or _random(folder), options.clients) as together,
        _serving(options.model or folder, 1) as serial,
    ):
        for url in (together, serial):
            _round(url, options)  # memory is taken and code is warm
        ratios = []
        for number in range(1, options.rounds + 1):
            speeds = [_round(url, options) for url in (together, serial)]
            ratios.append(speeds[0] / speeds[1])
            print(f"round {number}: together {speeds[0]:,.0f} tok/s, serial {speeds[1]:,.0f} tok/s: {ratios[-1]:.2f}")
    print(f"{options.clients} clients together: {median(ratios):.2f} x the tokens per second of serial service")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96, help="the longest answer")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--asks", type=int, default=3, help="questions of each client, one after the other")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stream", action="store_true", help="every token is sent on its own")
    return parser.parse_args()


def _random(folder: str) -> str:
    """A model of med-tiny's shape with its tokenizer, in this folder."""
    from transformers import AutoTokenizer

    from medcli.core.report import Silent
    from medcli.engine import tiny

    tokenizer = AutoTokenizer.from_pretrained(tiny.ensure(Silent()))
    tiny.make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def _serving(model: str, slots: int) -> Iterator[str]:
    """The address of a server with so many slots."""
    words = ["serve", model, "--slots", str(slots), "--waiting", "64", "--port", "0", "--no-page", "--time-limit", "0"]
    command = [sys.executable, "-m", "medcli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**TUNED, **os.environ})
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def _round(url: str, options: argparse.Namespace) -> float:
    """Tokens per second of clients who all ask at once, and ask again when they are answered."""
    limits = httpx.Limits(max_connections=options.clients)
    with (
        ThreadPoolExecutor(options.clients) as threads,
        httpx.Client(base_url=url, timeout=600, limits=limits) as client,
    ):
        begun = time.perf_counter()
        tokens = sum(threads.map(partial(_ask, client, options), range(options.clients)))
        return tokens / (time.perf_counter() - begun)


def _ask(client: httpx.Client, options: argparse.Namespace, number: int) -> int:
    """The tokens of one client's answers."""
    return sum(_tokens(client, options, number * options.asks + ask) for ask in range(options.asks))


def _tokens(client: httpx.Client, options: argparse.Namespace, number: int) -> int:
    messages = [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]
    body = {"messages": messages, "temperature": options.temperature, "seed": number, "max_tokens": options.tokens}
    if not options.stream:
        said = client.post("/chat/completions", json=body).raise_for_status().json()
        return int(said["usage"]["completion_tokens"])
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/chat/completions", json=body) as answer:
        last = [line for line in answer.raise_for_status().iter_lines() if line][-2]
    return int(last.rpartition('"completion_tokens":')[2].partition(",")[0])


if __name__ == "__main__":
    main()
