"""The planned memory against the measured one: short runs on this machine's CPU, each in a process of its own.

    python benchmarks/memory.py             # a ladder of random Llama shapes, about ten minutes on one core
    python benchmarks/memory.py --only 25M  # some of it

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
)
STEPS = 3
TOKENS = 256  # of each sample
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
    import numpy
    import torch

    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.core.run_folder import RunFolder
    from medcli.engine import attention, estimate, outline
    from medcli.engine.load import load
    from medcli.engine.pack import Example, Examples
    from medcli.steps.train import METHODS

    kind = METHODS.get(method)
    settings = kind.Settings(
        **{"dataset": ("random",), "max_steps": STEPS, "precision": "bf16", "valid_limit": 0, "save_every": 1000} | own
    )
    chance = numpy.random.default_rng(0)
    data = Examples(
        Example(ids=chance.integers(5, 4000, TOKENS).astype(numpy.int32), trained=numpy.arange(TOKENS) > TOKENS // 3)
        for _ in range(STEPS * settings.batch * settings.accumulate)
    )
    cpu = torch.device("cpu")
    given: dict[str, Any] = {
        "device": cpu,
        "report": Silent(),
        "attention": attention.NAME if settings.packing else None,
    }
    target = estimate.target_of(cpu, settings.precision)
    planned = estimate.estimate(
        kind.prepare(outline.outline(ModelRef(base=folder), **given), settings),
        settings,
        data,
        quant="none",
        target=target,
        steps=STEPS,
    )

    def train(model: Path) -> None:
        with tempfile.TemporaryDirectory() as run:
            loaded = kind.prepare(load(ModelRef(base=str(model)), **given), settings)
            kind.train(loaded, data, None, settings, RunFolder(Path(run)), Silent())

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


def _memory() -> float:
    """MiB that this process holds, files it has mapped not counted."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
