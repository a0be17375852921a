"""The planned memory against the measured one: short runs on this machine's CPU, each in a process of its own.

    python benchmarks/memory.py             # a ladder of random Llama shapes, about ten minutes on one core
    python benchmarks/memory.py --only 25M  # some of it
    python benchmarks/memory.py --only ppo  # one method

Measured is the memory of its own (RssAnon) that the process holds at most, looked at every 5 ms, above what it holds
when it has trained a model of a few thousand weights, so that all libraries are there. Planned is the same figure of
`med train … --plan`, without its line for libraries. Printed are planned low, expected and high over the measured one:
right is low <= 1 <= high.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from operator import attrgetter
from pathlib import Path
from statistics import geometric_mean
from typing import Any

TINY = "tiny"
WIDTHS = {TINY: (64, 2), "10M": (256, 8), "25M": (512, 6), "60M": (768, 8), "100M": (1024, 7)}  # width, layers
LADDER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("10M", "lora", {"batch": 8}),
    ("10M", "lora", {"batch": 8, "packing": False}),
    ("25M", "lora", {"batch": 1}),
    ("25M", "lora", {"batch": 8}),
    ("25M", "lora", {"batch": 8, "checkpointing": True}),
    ("25M", "lora", {"batch": 8, "precision": "fp32"}),
    ("25M", "freeze", {"batch": 8, "layers": "last:2", "trunk_cache": 0.0}),
    ("25M", "full", {"batch": 4}),
    ("25M", "full", {"batch": 4, "checkpointing": True}),
    ("60M", "lora", {"batch": 4}),
    ("60M", "full", {"batch": 2, "accumulate": 2}),
    ("100M", "lora", {"batch": 2}),
    ("100M", "full", {"batch": 1}),
    ("25M", "rm", {"batch": 4}),
    ("25M", "dpo", {"batch": 4}),
    ("25M", "dpo", {"batch": 4, "loss": "simpo", "checkpointing": True}),
    ("60M", "rm", {"batch": 2, "tuner": "full"}),
    ("25M", "ppo", {"batch": 8, "rollouts": 32, "max_tokens": 128}),
    ("25M", "ppo", {"batch": 1, "rollouts": 32, "max_tokens": 128}),
    ("60M", "ppo", {"batch": 4, "rollouts": 16, "max_tokens": 64, "checkpointing": True}),
)
STEPS = 3
TOKENS = 256  # of each sample, or of a prompt and its answer
_NAMES = ("low", "expected", "high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the rungs whose name holds this")
    parser.add_argument("--case", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**json.loads(options.case))))
        return
    ratios = []
    print(f"{'':<44}{'MiB':>8}{'low':>8}{'expected':>10}{'high':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for size, method, own in LADDER:
            name = f"{size} {method} {' '.join(f'{key}={value}' for key, value in own.items())}"
            if options.only not in name:
                continue
            found = _in_process(folder, size, method, own)
            planned = [found[key] / found["measured"] for key in ("low", "expected", "high")]
            ratios.append(planned[1])
            row = f"{name:<44}{found['measured']:>8.0f}{planned[0]:>8.2f}{planned[1]:>10.2f}{planned[2]:>8.2f}"
            print(row + ("" if planned[0] <= 1 <= planned[2] else "  outside"), flush=True)
    print(f"expected over measured: {geometric_mean(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})")


def _in_process(folder: str, size: str, method: str, own: dict[str, Any]) -> dict[str, float]:
    from medcli.cli.app import TUNED

    home = Path(folder) / size
    for name in (size, TINY):
        if not (Path(folder) / name).exists():
            _make_model(Path(folder) / name, *WIDTHS[name])
    case = json.dumps({"folder": str(home), "method": method, "own": own})
    done = subprocess.run(
        [sys.executable, __file__, "--case", case],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | TUNED,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _make_model(folder: Path, width: int, layers: int) -> None:
    import torch

    from medcli.core import knowledge
    from medcli.engine import tiny

    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(form) for fact in facts for form in knowledge.SENTENCES])
    torch.manual_seed(0)
    shape = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers}
    tiny.make_model(
        tokenizer, **shape, num_attention_heads=width // 64, num_key_value_heads=width // 64
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure(folder: str, method: str, own: dict[str, Any]) -> dict[str, float]:
    """Plan a run and carry it out; MiB above the libraries."""
    import torch

    from medcli.core.alignment_settings import RolloutSettings
    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.core.run_folder import RunFolder
    from medcli.engine import actor, attention, estimate, lora, outline, ppo
    from medcli.engine.load import load
    from medcli.steps.train import METHODS

    kind = METHODS.get(method)
    judged = {"reward": "http://127.0.0.1/"} if method == "ppo" else {}  # no step of this benchmark asks it
    settings = kind.Settings(
        **{"dataset": ("random",), "max_steps": STEPS, "precision": "bf16", "valid_limit": 0, "save_every": 1000}
        | judged
        | own
    )
    data = _data(settings)
    cpu = torch.device("cpu")
    given: dict[str, Any] = {
        "device": cpu,
        "report": Silent(),
        "attention": attention.NAME if settings.packing else None,
    }
    target = estimate.target_of(cpu, settings.precision)
    planned = _planned(kind.prepare(outline.outline(ModelRef(base=folder), **given), settings), settings, data, target)

    def train(model: Path) -> None:
        with tempfile.TemporaryDirectory() as run:
            loaded = load(ModelRef(base=str(model)), **given)
            if isinstance(settings, RolloutSettings):
                policy = actor.actor_of(lora.prepare(loaded, settings), settings, rewarder=_Judge())
                ppo.train(policy, data, None, settings, RunFolder(Path(run)), Silent())
            else:
                kind.train(kind.prepare(loaded, settings), data, None, settings, RunFolder(Path(run)), Silent())

    train(Path(folder).with_name(TINY))
    before = _memory()
    ended, most = threading.Event(), [before]

    def look() -> None:
        while not ended.wait(0.005):
            most[0] = max(most[0], _memory())

    watcher = threading.Thread(target=look)
    watcher.start()
    train(Path(folder))
    ended.set()
    watcher.join()
    total = {name: (attrgetter(name)(planned.total) - attrgetter(name)(target.overhead)) / 2**20 for name in _NAMES}
    return total | {"measured": most[0] - before}


class _Judge:
    """Gives every answer the same."""

    def rewards(self, dialogues: Any, advance: Any) -> list[float]:
        return [0.0] * len(dialogues)


def _data(settings: Any) -> Any:
    """Random samples of TOKENS tokens, pairs of such, or prompts that leave room for an answer."""
    import numpy

    from medcli.core.alignment_settings import PairSettings, RolloutSettings
    from medcli.core.reading import Asked
    from medcli.core.record import Message
    from medcli.engine.pack import Example, Examples, Pairs, Prompts

    chance = numpy.random.default_rng(0)

    def examples(count: int, length: int, prompt: int) -> Examples:
        return Examples(
            Example(ids=chance.integers(5, 4000, length).astype(numpy.int32), trained=numpy.arange(length) > prompt)
            for _ in range(count)
        )

    samples = STEPS * settings.batch * settings.accumulate
    if isinstance(settings, RolloutSettings):
        asked = Asked(id="", messages=(Message(role="user", content="?"),), reference="")
        return Prompts(examples(samples, TOKENS - settings.max_tokens, TOKENS), [asked] * samples)
    if isinstance(settings, PairSettings):
        return Pairs(examples(2 * samples, TOKENS, TOKENS // 3))
    return examples(samples, TOKENS, TOKENS // 3)


def _planned(loaded: Any, settings: Any, data: Any, target: Any) -> Any:
    from medcli.core.alignment_settings import DpoSettings, PpoSettings, RewardSettings
    from medcli.engine import dpo, estimate, rollout_estimate
    from medcli.engine.reward import PairwiseReward

    how: dict[str, Any] = {"quant": "none", "target": target, "steps": STEPS}
    if isinstance(settings, PpoSettings):
        drawing = rollout_estimate.Drawing(
            answers=settings.rollouts,
            together=min(settings.rollouts, settings.drawn_together),
            reads=2,
            passes=settings.ppo_epochs,
        )
        return rollout_estimate.estimate(loaded, settings, data, drawing, **how)
    objective: Any = None
    if isinstance(settings, RewardSettings):
        objective = PairwiseReward(loaded, settings)
    if isinstance(settings, DpoSettings):
        objective = dpo.rehearsed(loaded, settings, data)
    return estimate.estimate(loaded, settings, data, **how, objective=objective)


def _memory() -> float:
    """MiB that this process holds, files it has mapped not counted."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
