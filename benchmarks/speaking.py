"""What makes answers come sooner: what is kept between turns, rows that join and leave, and looking up, in turns.

    python benchmarks/speaking.py                    # med-tiny's shape; two minutes
    python benchmarks/speaking.py --shape 40M        # a larger one

All sides ask the same model in one process. Printed are ratios of CPU time (more than 1: ours is faster), the median
and the spread of the rounds:

* the next turn of a dialogue of 8 turns, against a model that reads it all again;
* 64 prompts of unlike length with answers of unlike length, against batches by transformers' `generate`, which end
  with their longest answer;
* an answer that repeats what stood before, as random models soon do, by looking up and without: the most it can win.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from medcli.cli.app import TUNED

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"max_position_embeddings": 2048},
    "40M": {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 8, "num_attention_heads": 10,
            "num_key_value_heads": 10, "max_position_embeddings": 2048},
}  # fmt: skip
TURN = 120  # tokens of a question, and of an answer
PROMPTS = 64
BATCH = 32

Side = Callable[[], Any]


def main() -> None:
    options = _options()
    if not os.environ.keys() >= TUNED.keys():  # spinning threads would make what they wait for look slow
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**TUNED, **os.environ})
    loaded = _loaded(options.shape)
    _print("the next turn, kept against read again", _turns(loaded), options.rounds)
    _print("64 prompts, joining and leaving against generate", _batches(loaded), options.rounds)
    _print("an answer that repeats itself, looked up against not", _lookup(loaded), options.rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES], default="tiny", help="of a random Llama")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _print(what: str, sides: tuple[Side, Side], rounds: int) -> None:
    ratios = []
    for _ in range(rounds):
        times = []
        for side in sides:
            started = time.process_time()
            side()
            times.append(time.process_time() - started)
        ratios.append(times[1] / times[0])
    print(f"{what}: x {median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})")


def _loaded(shape: str) -> Any:
    import torch

    from medcli.core import knowledge
    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.engine import tiny
    from medcli.engine.load import load

    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(knowledge.ANSWER) for fact in facts])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.make_model(tokenizer, **SHAPES[shape]).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent())


def _texts(count: int, shortest: int, longest: int) -> list[list[int]]:
    import random

    chance = random.Random(0)
    return [[chance.randrange(300, 3000) for _ in range(chance.randrange(shortest, longest))] for _ in range(count)]


def _said(loaded: Any, decoder: Any, prompts: Sequence[list[int]], most: Sequence[int]) -> list[list[int]]:
    """Answers of exactly so many tokens."""
    from dataclasses import replace

    from medcli.core.speaker import Sampling
    from medcli.engine.speech import Speech

    endless = replace(loaded, stops=(-1,))
    speeches = [
        Speech(endless, prompt, Sampling(max_tokens=tokens)) for prompt, tokens in zip(prompts, most, strict=True)
    ]
    waiting = list(reversed(speeches))
    while waiting or decoder.running:
        while waiting and decoder.free:
            decoder.join(waiting.pop())
        decoder.step()
    return [speech.said for speech in speeches]


def _turns(loaded: Any) -> tuple[Side, Side]:
    from medcli.engine.decoder import Decoder

    questions = _texts(8, TURN, TURN + 1)

    def talk(keeping: bool) -> None:
        decoder, before = Decoder(loaded, 1), list[int]()
        for question in questions:
            prompt = before + question
            before = prompt + _said(loaded, decoder, [prompt], [8])[0]
            if not keeping:
                decoder.clear()

    return lambda: talk(True), lambda: talk(False)


def _batches(loaded: Any) -> tuple[Side, Side]:
    import torch

    from medcli.engine.decoder import Decoder

    prompts = sorted(_texts(PROMPTS, 10, 200), key=len)
    lengths = [8 + 17 * number % 120 for number in range(PROMPTS)]

    @torch.inference_mode()
    def generate() -> None:
        for start in range(0, PROMPTS, BATCH):
            batch, most = prompts[start : start + BATCH], max(lengths[start : start + BATCH])
            longest = max(map(len, batch))
            ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in batch])
            mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
            loaded.model.generate(
                ids, attention_mask=mask, do_sample=False, max_new_tokens=most, min_new_tokens=most, pad_token_id=0
            )

    return lambda: _said(loaded, Decoder(loaded, BATCH), prompts, lengths), generate


def _lookup(loaded: Any) -> tuple[Side, Side]:
    from medcli.engine.decoder import Decoder

    (prompt,) = _texts(1, 200, 201)

    def answer(lookup: bool) -> list[list[int]]:
        return _said(loaded, Decoder(loaded, 1, lookup=lookup), [prompt], [200])

    assert answer(True) == answer(False)
    return lambda: answer(True), lambda: answer(False)


if __name__ == "__main__":
    main()
