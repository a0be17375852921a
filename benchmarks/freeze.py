"""A training step of `full`, of `freeze` that computes its trunk, and of `freeze` that reads it, as ratios.

    python benchmarks/freeze.py                      # a 40 M Llama shape, the last two of twelve layers learn
    python benchmarks/freeze.py --layers last:4 --precision fp32 --rounds 5

Each side runs in a process of its own, in turns, so that whatever else the machine does meets all. A step is taken
from the second epoch on, in CPU seconds of the process: the median over the steps, then ratios within a round. Beside
them stands the floor, products of matrices alone: 2 FLOPs a weight and token in the forward, 2 for the gradient that is
handed down, 2 for the weight's own; the head at learnt tokens only. What storing costs the first epoch is printed too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from medcli.core.report import Silent

if TYPE_CHECKING:
    from medcli.engine.pack import Examples

SHAPE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12, "num_attention_heads": 8,
         "num_key_value_heads": 8}  # fmt: skip
SIDES = ("full", "computed", "read")
EPOCHS, LEARNT = 3, 0.4  # LEARNT: the share of the tokens that is learnt


class Clock(Silent):
    """CPU seconds at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def advance(self, done: int) -> None:
        self.ends.append(time.process_time())


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(run_side(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = str(_make_model(Path(folder) / "model"))
        rounds = [{side: _measure(side, options, folder) for side in SIDES} for _ in range(options.rounds)]
    for number, sides in enumerate(rounds, 1):
        print(f"round {number}: {sides}", file=sys.stderr)
    floors = {side: rounds[0][side]["floor"] for side in SIDES}
    print(f"precision {options.precision}, layers {options.layers}, {options.rounds} rounds; CPU seconds of a step")
    for above, below in (("full", "computed"), ("full", "read"), ("computed", "read")):
        ratios = [sides[above]["step"] / sides[below]["step"] for sides in rounds]
        print(
            f"{above:>8} : {below:<8}  x {median(ratios):.2f}   ({min(ratios):.2f} – {max(ratios):.2f})"
            f"   floor x {floors[above] / floors[below]:.2f}"
        )
    storing = [sides["read"]["first"] / sides["computed"]["first"] - 1 for sides in rounds]
    print(f"storing costs the first epoch {median(storing):+.1%}   ({min(storing):+.1%} – {max(storing):+.1%})")
    gap = max(abs(sides["read"]["loss"] - sides["computed"]["loss"]) for sides in rounds)
    print(f"last losses differ by {gap:.1e}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="last:2")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=5, help="steps in an epoch")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(side: str, options: argparse.Namespace, folder: str) -> dict[str, float]:
    passed = {**vars(options), "side": side, "run": tempfile.mkdtemp(dir=folder)}
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in passed.items())]
    from medcli.cli.app import TUNED

    environment = {**os.environ, **TUNED, "MED_CACHE": passed["run"]}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _make_model(folder: Path) -> Path:
    import torch

    from medcli.core import knowledge
    from medcli.engine import tiny

    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(form) for fact in facts for form in knowledge.SENTENCES])
    torch.manual_seed(0)
    tiny.make_model(tokenizer, **SHAPE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_side(options: argparse.Namespace) -> dict[str, float]:
    """Train EPOCHS on samples of 64 to 192 random tokens, as the command would."""
    import torch

    from medcli.core.model_ref import ModelRef
    from medcli.core.run_folder import RunFolder
    from medcli.engine import attention
    from medcli.engine.load import load
    from medcli.methods import freeze, full

    shared = {"dataset": ("random",), "batch": options.batch, "precision": options.precision, "epochs": float(EPOCHS),
              "learning_rate": 1e-4, "save_every": 10_000}  # fmt: skip
    cache = 20.0 if options.side == "read" else 0.0
    ref, clock, run = ModelRef(base=options.model), Clock(), RunFolder(Path(options.run))
    loaded = load(ref, device=torch.device("cpu"), report=Silent(), attention=attention.NAME)
    data = _samples(options, len(loaded.tokenizer))
    if options.side == "full":
        whole = full.Settings(**shared)
        outcome = full.train(full.prepare(loaded, whole), data, None, whole, run, clock)
    else:
        some = freeze.Settings(**shared, layers=options.layers, trunk_cache=cache)
        outcome = freeze.train(freeze.prepare(loaded, some), data, None, some, run, clock)
    steps = [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    floor = _floor(loaded.model, options)
    return {
        "first": median(steps[: options.steps - 1]),
        "step": median(steps[options.steps :]),
        "floor": floor,
        "loss": outcome.figures["loss"],
    }


def _samples(options: argparse.Namespace, words: int) -> "Examples":
    import numpy

    from medcli.engine.pack import Example, Examples

    chance = numpy.random.default_rng(0)
    lengths = chance.integers(64, 193, options.steps * options.batch)
    return Examples(
        Example(
            ids=chance.integers(0, words, length).astype(numpy.int32),
            trained=numpy.arange(length) >= (1 - LEARNT) * length,
        )
        for length in lengths
    )


def _floor(model: Any, options: argparse.Namespace) -> float:
    """FLOPs of a token in one step on this side."""
    from torch import nn

    from medcli.engine.freeze import decoder_blocks

    blocks = decoder_blocks(model)
    sizes = [sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear)) for block in blocks]
    learning = [any(weight.requires_grad for weight in block.parameters()) for block in blocks]
    lowest = learning.index(True)
    head = LEARNT * model.get_output_embeddings().weight.numel() * (6 if options.side == "full" else 4)
    trunk = 0 if options.side == "read" else 2 * sum(sizes[:lowest])
    above = zip(sizes[lowest:], learning[lowest:], strict=True)
    return trunk + sum((6 if learns else 4) * size for size, learns in above) + head


if __name__ == "__main__":
    main()
