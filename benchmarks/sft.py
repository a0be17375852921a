"""med's training step against plain TRL: the same model, data, order and precision, in turns, as ratios.

    python benchmarks/sft.py                     # LoRA on a 10 M model, the shipped knowledge table
    python benchmarks/sft.py --dataset cmedqa2   # a data set you built; or --precision fp32, --rounds 5
    python benchmarks/sft.py --method full       # or freeze (the last two layers), or pt on a set of documents

Each side runs in a process of its own, med and TRL in turns, so that whatever else the machine does meets both. Printed
are the ratios (more than 1: med is better) of real tokens per second inside the loop, padding not counted, and of CPU
seconds from the start of the process to its end, imports and all. The last losses show that both learn alike.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

SHAPE = {"hidden_size": 384, "intermediate_size": 1152, "num_hidden_layers": 5, "num_attention_heads": 6,
         "num_key_value_heads": 6}  # fmt: skip

_PASSED_ON = ("method", "dataset", "model", "precision", "steps", "batch")
_FROZEN = {"layers": "last:2", "trunk_cache": 0.0}


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps({"med": run_med, "trl": run_trl}[options.side](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or str(_make_model(Path(folder) / "model"))
        rounds = [{side: _measure(side, options, folder) for side in ("med", "trl")} for _ in range(options.rounds)]
    for number, sides in enumerate(rounds, 1):
        for side, figures in sides.items():
            print(f"round {number}  {side}: {figures}", file=sys.stderr)
    speed = [sides["med"]["tokens_per_second"] / sides["trl"]["tokens_per_second"] for sides in rounds]
    cpu = [sides["trl"]["cpu_seconds"] / sides["med"]["cpu_seconds"] for sides in rounds]
    print(f"precision {options.precision}, {options.steps} steps of {options.batch} samples, {options.rounds} rounds")
    for name, ratios in {"real tokens per second": speed, "CPU seconds, whole process": cpu}.items():
        print(f"{name:<28} x {median(ratios):.2f}   ({min(ratios):.2f} – {max(ratios):.2f})")
    last = rounds[-1]
    print(f"last loss                    med {last['med']['loss']:.4f}   trl {last['trl']['loss']:.4f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["lora", "freeze", "full", "pt"], default="lora")
    parser.add_argument("--dataset", default="knowledge", help="a built data set")
    parser.add_argument("--model", default="", help="a model folder; a random 10 M Llama shape when not given")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["med", "trl"], default="", help=argparse.SUPPRESS)
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(side: str, options: argparse.Namespace, folder: str) -> dict[str, float]:
    words = [f"--{name}={vars(options)[name]}" for name in _PASSED_ON]
    run = tempfile.mkdtemp(dir=folder)
    command = [sys.executable, __file__, *words, f"--side={side}", f"--run={run}"]
    from medcli.cli.app import TUNED

    environment = {**os.environ, **(TUNED if side == "med" else {})}  # `med train` sets it for itself
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
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


def run_med(options: argparse.Namespace) -> dict[str, float]:
    """`med train METHOD`, as the command runs it; pt trains every weight."""
    from medcli.core.report import Silent
    from medcli.core.run_folder import RunFolder
    from medcli.core.settings import Resolved
    from medcli.steps import train

    own = {"freeze": _FROZEN, "pt": {"tuner": "full"}}.get(options.method, {})
    settings = train.METHODS.get(options.method).Settings(
        dataset=(options.dataset,), model=options.model, max_steps=options.steps, batch=options.batch,
        precision=options.precision, learning_rate=2e-4, valid_limit=0, schedule="constant", warmup=0.0, **own,
    )  # fmt: skip
    resolved = Resolved(values=settings, origins={item.name: "flag" for item in fields(settings)})
    prepared = train.prepare(options.method, resolved, Silent())
    run = RunFolder(Path(options.run))
    outcome = prepared.method.train(prepared.loaded, prepared.data, None, settings, run, Silent())
    return _figures(outcome.tokens, outcome.seconds, outcome.figures["loss"])


def run_trl(options: argparse.Namespace) -> dict[str, float]:
    """TRL's SFTTrainer as its documentation uses it: padded batches, loss on completions, the same weights learning.

    For pt its own packing into rows of the same length, documents ended by EOS.
    """
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from medcli.methods.lora import Settings

    ours = Settings(dataset=(options.dataset,))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    data = _rows_for_trl(options)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32")
    if options.method == "freeze":
        model.requires_grad_(False)
        for block in model.model.layers[-2:]:
            block.requires_grad_(True)
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=ours.rank, lora_alpha=ours.alpha, lora_dropout=0.0, target_modules="all-linear"
    )
    tokens = 0

    class Counting(SFTTrainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
            nonlocal tokens
            tokens += int(inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel())
            return super().training_step(model, inputs, *rest)

    trainer = Counting(
        model=model,
        processing_class=tokenizer,
        train_dataset=data,
        peft_config=adapter if options.method == "lora" else None,
        args=SFTConfig(
            output_dir=options.run,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch,
            learning_rate=ours.learning_rate,
            lr_scheduler_type="constant",
            max_length=ours.max_length,
            packing=options.method == "pt",
            bf16=options.precision == "bf16",
            gradient_checkpointing=False,
            use_cpu=True,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            seed=ours.seed,
            save_strategy="no",
        ),  # fmt: skip
    )
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return _figures(tokens, seconds, losses[-1])


def _rows_for_trl(options: argparse.Namespace) -> Any:
    from datasets import Dataset

    from medcli.core.dataset_folder import open_dataset
    from medcli.core.record import Conversation, message_rows

    records = list(open_dataset(options.dataset).records("train"))
    if isinstance(records[0], Conversation):
        rows = [message_rows(record.messages) for record in records]
        return Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    return Dataset.from_list([{"text": record.text} for record in records])


def _figures(tokens: int, seconds: float, loss: float) -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "loss": loss,
    }


if __name__ == "__main__":
    main()
