"""`med merge --no-check` against peft's `merge_and_unload`: peak memory and time, as ratios.

    python benchmarks/merge.py                    # a random Llama of 0.3 GB in bfloat16, in files of 64 MB
    python benchmarks/merge.py --layers 24        # a larger one; or --dora, --rank 64
    python benchmarks/merge.py --base FOLDER --adapter FOLDER

Each side runs in a process of its own, in turns, and merges twice: a model of a few thousand parameters, so that all
libraries are at work, then the one that counts. Its peak is what the process grew by. peft loads the base as it is
stored, merges, and saves with `save_pretrained`, in files of the same size as med's. Printed are ratios (more than 1:
med is better), and med's peak as a multiple of the largest file of the base + the adapter, which is to be below 1.3.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

SIDES = ("med", "peft")


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_run(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        options.small, options.small_adapter = _made(home / "small", layers=1, hidden=64, options=options)
        if not options.base:
            options.base, options.adapter = _made(home / "large", options.layers, options.hidden, options)
        rounds = [{side: _measure(side, options, home / f"{side}{n}") for side in SIDES} for n in range(options.rounds)]
        _print(options, rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a model folder; a random Llama when not given")
    parser.add_argument("--adapter", default="", help="with --base: the folder of a LoRA adapter for it")
    parser.add_argument("--layers", type=int, default=10, help="of the random Llama")
    parser.add_argument("--hidden", type=int, default=1024, help="its width")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, default="", help=argparse.SUPPRESS)
    for name in ("small", "small-adapter", "target"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if bool(options.base) != bool(options.adapter):
        parser.error("name both --base and --adapter, or none")
    return options


def _print(options: argparse.Namespace, rounds: list[dict[str, dict[str, float]]]) -> None:
    shards = [file.stat().st_size for file in Path(options.base).glob("*.safetensors")]
    adapter = (Path(options.adapter) / "adapter_model.safetensors").stat().st_size
    print(f"{sum(shards) / 1e6:,.0f} MB in {len(shards)} files, adapter {adapter / 1e6:.1f} MB, {len(rounds)} rounds")
    for name in ("peak", "seconds"):
        ratios = [sides["peft"][name] / sides["med"][name] for sides in rounds]
        print(f"{name:<10} peft : med   x {median(ratios):.2f}   ({min(ratios):.2f} – {max(ratios):.2f})")
    peaks = [(sides["med"]["peak"] - adapter) / max(shards) for sides in rounds]
    print(f"med's peak - the adapter : the largest file   x {median(peaks):.2f}")


def _measure(side: str, options: argparse.Namespace, target: Path) -> dict[str, float]:
    words = ["--side", side, "--target", str(target)]
    for name in ("base", "adapter", "small", "small_adapter"):
        words += [f"--{name.replace('_', '-')}", str(vars(options)[name])]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{side:<6}{figures}", file=sys.stderr)
    return figures


def _run(options: argparse.Namespace) -> dict[str, float]:
    merge = {"med": run_med, "peft": run_peft}[options.side]
    merge(options.small, options.small_adapter, Path(f"{options.target}-small"))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, started = _memory("VmRSS"), time.monotonic()
    merge(options.base, options.adapter, Path(options.target))
    return {"peak": _memory("VmHWM") - before, "seconds": round(time.monotonic() - started, 2)}


def run_med(base: str, adapter: str, target: Path) -> None:
    """File by file, as `med merge --no-check` does."""
    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.engine import streamed_merge

    target.mkdir()
    plan = streamed_merge.plan([(1.0, ModelRef(base=base, adapters=(Path(adapter),)))], Silent())
    plan.write(target, plan.model.config.dtype, Silent())


def run_peft(base: str, adapter: str, target: Path) -> None:
    """The usual way."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="auto"), adapter)
    model.merge_and_unload().save_pretrained(target, max_shard_size="5GB")


def _memory(kind: str) -> int:
    """Bytes of this process, as Linux counts them."""
    found = re.search(kind + r":\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    return 1024 * int(found[1]) if found else 0


def _made(folder: Path, layers: int, hidden: int, options: argparse.Namespace) -> tuple[str, str]:
    """A random Llama in bfloat16 in files of 64 MB, and an adapter on all its layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": hidden * 5 // 2, "num_hidden_layers": layers,
                             "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 8192}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**shape, dtype=torch.bfloat16)).bfloat16()
    model.save_pretrained(folder / "base", max_shard_size="64MB")
    how = {"r": options.rank, "use_dora": options.dora, "init_lora_weights": False}
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **how)
    laid = get_peft_model(model, config)
    laid.peft_config["default"].base_model_name_or_path = str(folder / "base")
    laid.save_pretrained(str(folder / "adapter"))
    return str(folder / "base"), str(folder / "adapter")


if __name__ == "__main__":
    main()
