"""An exam's answers per second: written one by one, written in batches, and read as likelihoods of letters, in turns.

    python benchmarks/eval.py                        # med-tiny's shape, 5 questions shown before each one; two minutes
    python benchmarks/eval.py --shape 40M            # a larger one; or --model FOLDER
    python benchmarks/eval.py --shots 0 --questions 200

All sides answer the same questions in one process with the same model, so that whatever else the machine does meets
all. Printed are ratios of answers per second and per CPU second (more than 1: faster than one by one), answers per CPU
second, and how many there could be if products of the layers' matrices with the tokens asked were all. A random model
writes until its tokens are used up; a trained one says a letter and stops, so that writing 2 tokens is a side of its
own. "plain" reads each prompt whole, in batches; the letters it chooses are compared with those of "shared".
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
    "tiny": {},
    "40M": {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 8, "num_attention_heads": 10,
            "num_key_value_heads": 10, "max_position_embeddings": 2048},
}  # fmt: skip
LETTERS = "ABCDE"
FIRST, SHORTER = "one by one", "one by one, 2 tokens"
SHARING = ("batches", "batches, 2 tokens", "shared")  # what prompts share is read once
TOKENS = 4096  # in one batch of the plain reader

Prompts = Sequence[Sequence[Any]]  # of messages


def main() -> None:
    options = _options()
    if not os.environ.keys() >= TUNED.keys():  # spinning threads would make what they wait for look slow
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**TUNED, **os.environ})
    with tempfile.TemporaryDirectory() as folder:
        loaded = _loaded(options.model or str(_make_model(Path(folder) / "model", options.shape)))
    prompts = _prompts(options)
    sides = _sides(loaded, prompts, options)
    sides["shared"]()
    rounds: list[dict[str, tuple[float, float]]] = []
    answers: dict[str, list[str]] = {}
    for number in range(1, options.rounds + 1):
        figures = {}
        for side, answer in sides.items():
            started, used = time.monotonic(), time.process_time()
            answers[side] = answer()
            figures[side] = (time.monotonic() - started, time.process_time() - used)
            print(f"round {number}  {side}: {figures[side][0]:.2f} s, {figures[side][1]:.2f} CPU s", file=sys.stderr)
        rounds.append(figures)
    _print(rounds, _floors(loaded, prompts), len(prompts))
    same = sum(one == other for one, other in zip(answers["plain"], answers["shared"], strict=True))
    print(f"letters that plain and shared choose alike: {same} of {len(prompts)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES], default="tiny", help="of a random Llama")
    parser.add_argument("--model", default="", help="a model folder instead")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--shots", type=int, default=5, help="questions with answers shown before each one")
    parser.add_argument("--max-tokens", type=int, default=16, help="of a written answer")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _print(rounds: Sequence[dict[str, tuple[float, float]]], floors: dict[str, float], questions: int) -> None:
    print(f"{'':<22}{'clock':>10}{'CPU time':>12}{'spread':>20}{'per CPU second':>18}{'at most':>10}")
    for side in rounds[0]:
        wall, cpu = ([one[FIRST][clock] / one[side][clock] for one in rounds] for clock in (0, 1))
        spread = f"({min(cpu):.2f} – {max(cpu):.2f})"
        rate = questions / median(one[side][1] for one in rounds)
        ratios = f"{f'x {median(wall):.2f}':>10}{f'x {median(cpu):.2f}':>12}{spread:>20}"
        print(f"{side:<22}{ratios}{rate:>18,.1f}{1 / floors[side]:>10,.1f}")


def _make_model(folder: Path, shape: str) -> Path:
    import torch

    from medcli.core import knowledge
    from medcli.engine import tiny

    facts = knowledge.facts(knowledge.table_path())
    asked = [question for fact in facts for question in knowledge.questions(fact, 2, seed=0)]
    tokenizer = tiny.make_tokenizer([*(fact.say(form) for fact in facts for form in knowledge.SENTENCES), *asked])
    torch.manual_seed(0)
    tiny.make_model(tokenizer, **SHAPES[shape]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _loaded(model: str) -> Any:
    import torch

    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.engine.load import load

    return load(ModelRef(base=model), device=torch.device("cpu"), report=Silent())


def _prompts(options: argparse.Namespace) -> Prompts:
    """Questions about the shipped table of diseases, the same ones shown before each."""
    import random

    from medcli.core import knowledge
    from medcli.core.exam_question import as_turns, in_order, text_of
    from medcli.core.record import Question

    chance = random.Random(0)
    facts = knowledge.facts(knowledge.table_path())
    questions = []
    for number in range(options.shots + options.questions):
        fact = facts[number * 7 % len(facts)]
        others = [chance.choice(facts).values for _ in LETTERS[1:]]
        choices = tuple("、".join(values) for values in (fact.values, *others))
        stem = f"下列哪一项是{fact.disease}的{fact.attribute}？"
        questions.append(Question(id=str(number), stem=stem, choices=choices, answer="A", subject="", source="t"))
    shots = [(text_of(in_order(question)), question.answer) for question in questions[: options.shots]]
    return [as_turns(shots, text_of(in_order(question)), None) for question in questions[options.shots :]]


def _sides(loaded: Any, prompts: Prompts, options: argparse.Namespace) -> dict[str, Callable[[], list[str]]]:
    from medcli.core.speaker import Sampling
    from medcli.engine.reader import LocalReader
    from medcli.engine.speaker import LocalSpeaker

    speaker, reader = LocalSpeaker(loaded), LocalReader(loaded)
    long, short = Sampling(max_tokens=options.max_tokens), Sampling(max_tokens=2)

    def shared() -> list[str]:
        rows = reader.likelihoods(prompts, [LETTERS] * len(prompts), lambda done: None)
        return [LETTERS[max(range(len(row)), key=lambda at: row[at].total)] for row in rows]

    return {
        FIRST: lambda: ["".join(speaker.reply(prompt, long)) for prompt in prompts],
        SHORTER: lambda: ["".join(speaker.reply(prompt, short)) for prompt in prompts],
        "batches": lambda: speaker.replies(prompts, long, lambda done: None),
        "batches, 2 tokens": lambda: speaker.replies(prompts, short, lambda done: None),
        "plain": lambda: _plain(loaded, speaker, prompts),
        "shared": shared,
    }


def _plain(loaded: Any, speaker: Any, prompts: Prompts) -> list[str]:
    """The likeliest letter after each prompt, read whole, prompts of like length together."""
    import torch

    letters = [loaded.tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in LETTERS]
    texts = [speaker._prompt(prompt) for prompt in prompts]
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    size = max(1, TOKENS // len(texts[order[-1]]))
    found = [""] * len(texts)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        longest = len(texts[batch[-1]])
        ids = torch.tensor([texts[at] + [0] * (longest - len(texts[at])) for at in batch])
        lasts = torch.tensor([len(texts[at]) - 1 for at in batch])
        with torch.inference_mode():
            kept, which = lasts.unique(return_inverse=True)
            logits = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
        best = logits[torch.arange(len(batch)), which][:, letters].argmax(-1)
        for at, one in zip(batch, best.tolist(), strict=True):
            found[at] = LETTERS[one]
    return found


def _floors(loaded: Any, prompts: Prompts) -> dict[str, float]:
    """CPU seconds a question that the products of the layers' matrices take at least, by side, at the rate measured.

    Only for what is asked: the tokens that are written come on top of it. Attention is left out.
    """
    from medcli.engine.endings import encode_endings
    from medcli.engine.shared_prefix import groups

    texts = [one.stem for one in encode_endings(loaded, prompts, [LETTERS] * len(prompts), ended=False)]
    tokens = sum(map(len, texts))
    once = tokens - sum((len(group.texts) - 1) * group.shared for group in groups(texts))
    layers = sum(weight.numel() for weight in loaded.model.model.layers.parameters() if weight.ndim == 2)
    second = 2 * layers / _rate() / len(texts)
    print(f"{len(texts)} questions of {tokens / len(texts):.0f} tokens; {layers / 1e6:.1f} M weights in layers")
    print(f"sharing leaves one token of {tokens / once:.2f} to read")
    return {side: (once if side in SHARING else tokens) * second for side in (FIRST, SHORTER, "plain", *SHARING)}


def _rate() -> float:
    """Floating-point operations per CPU second in products of large matrices: the best of some."""
    import torch

    one = torch.randn(1024, 1024)
    seconds = []
    for _ in range(20):
        used = time.process_time()
        one @ one
        seconds.append(time.process_time() - used)
    return float(2 * 1024**3 / min(seconds))


if __name__ == "__main__":
    main()
