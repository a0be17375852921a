"""med's rollouts, reward-model steps and DPO steps against transformers' `generate` and TRL, in turns, as ratios.

    python benchmarks/alignment.py rollout               # answers drawn; or --batch 16, --group 8, --precision fp32
    python benchmarks/alignment.py rm --dataset pairs    # a built set or a raw file of pairs; or --tuner full
    python benchmarks/alignment.py dpo --dataset pairs   # both sides ask the reference model, within the time measured

Printed are ratios (more than 1: med is better) of tokens per second and per CPU second. rm and dpo take each pair once,
on the very tokens that med trains on, each side in a process of its own. Without --dataset they take the shared pairs
of MedicalGPT where those are at hand. The last losses show that both learn alike.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

SHARED_PAIRS = Path(__file__).parents[2] / "shared" / "data" / "medicalgpt" / "dpo_zh_500.jsonl"
SPEEDS = {"tokens per second": "seconds", "tokens per CPU second": "cpu_seconds"}

_PASSED_ON = ("dataset", "model", "precision", "tuner", "steps", "batch", "max_length")
_ENDING = 0.05  # chance of an answer to end at a token: 20 tokens on average
_PROMPTS = (12, 40)  # tokens


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps({"med": run_med, "trl": run_trl}[options.side](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or str(_make_model(Path(folder) / "model"))
        if options.what == "rollout":
            rounds, rival = _rollout_rounds(options), "generate"
        else:
            environment = (
                {**os.environ, "MED_DATA": str(Path(folder) / "data")} if options.is_shared else {**os.environ}
            )
            sides = ("med", "trl")
            rounds = [{side: _measure(side, options, environment) for side in sides} for _ in range(options.rounds)]
            rival = "trl"
    _print(options, rounds, rival)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rollout", "rm", "dpo"])
    parser.add_argument("--dataset", default="", help="rm, dpo: a built data set or a raw file of pairs")
    parser.add_argument("--model", default="", help="a model folder; med-tiny's shape, random, when not given")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--tuner", choices=["lora", "full"], default="lora")
    parser.add_argument("--steps", type=int, default=10, help="rm, dpo: optimizer steps")
    parser.add_argument("--batch", type=int, default=0, help="pairs a step, 8, or answers drawn together, 64")
    parser.add_argument("--max-length", type=int, default=1024, help="rm, dpo: tokens of a sample")
    parser.add_argument("--prompts", type=int, default=64, help="rollout: answers in all")
    parser.add_argument("--group", type=int, default=1, help="rollout: answers to each prompt")
    parser.add_argument("--max-tokens", type=int, default=64, help="rollout: tokens of the longest answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["med", "trl"], default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.batch = options.batch or (64 if options.what == "rollout" else 8)
    options.is_shared = not options.dataset
    options.dataset = options.dataset or str(SHARED_PAIRS)
    if options.what != "rollout" and options.is_shared and not SHARED_PAIRS.is_file():
        parser.error("name a set of pairs with --dataset: the shared ones are not here")
    return options


def _print(options: argparse.Namespace, rounds: Sequence[dict[str, dict[str, float]]], rival: str) -> None:
    for number, sides in enumerate(rounds, 1):
        for side, figures in sides.items():
            print(f"round {number}  {side}: {figures}", file=sys.stderr)
    print(f"{options.what}, {options.tuner}, {options.precision}, batch {options.batch}, med against {rival}")
    for name, clock in SPEEDS.items():
        med, other = ([sides[side]["tokens"] / sides[side][clock] for sides in rounds] for side in ("med", rival))
        ratios = [ours / theirs for ours, theirs in zip(med, other, strict=True)]
        print(f"{name:<28} x {median(ratios):.2f}   ({min(ratios):.2f} – {max(ratios):.2f})")
    if rival == "trl":
        losses = [f"{side} {figures['loss']:.4f}" for side, figures in rounds[-1].items()]
        print(f"{'last loss':<28} {'   '.join(losses)}")


def _make_model(folder: Path) -> Path:
    import torch

    from medcli.core import knowledge
    from medcli.engine import tiny

    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(form) for fact in facts for form in knowledge.SENTENCES])
    torch.manual_seed(0)
    tiny.make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# Rollouts: both sides in one process, on the same model.


def _rollout_rounds(options: argparse.Namespace) -> list[dict[str, dict[str, float]]]:
    loaded = _policy(options)
    prompts = _prompts(options)
    sides: dict[str, Callable[[int], int]] = {
        "med": lambda seed: _drawn(loaded, prompts, options, seed),
        "generate": lambda seed: _generated(loaded, prompts, options, seed),
    }
    for draw in sides.values():
        draw(0)
    return [{side: _timed(draw, seed) for side, draw in sides.items()} for seed in range(1, options.rounds + 1)]


def _timed(draw: Callable[[int], int], seed: int) -> dict[str, float]:
    started, used = time.monotonic(), time.process_time()
    tokens = draw(seed)
    return {"tokens": tokens, "seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - used}


def _policy(options: argparse.Namespace) -> Any:
    """The model as PPO has it. A random one is as likely to say any word: some of them, then, end an answer."""
    import torch

    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.core.tuner_settings import LoraSettings
    from medcli.engine import attention, lora
    from medcli.engine.load import load

    device = torch.device("cpu")
    loaded = load(ModelRef(base=options.model), device=device, report=Silent(), attention=attention.NAME)
    words = len(loaded.tokenizer)
    loaded = replace(loaded, stops=tuple(range(words - int(words * _ENDING), words)))
    return (
        lora.prepare(loaded, LoraSettings(dataset=(), precision=options.precision))
        if options.tuner == "lora"
        else loaded
    )


def _prompts(options: argparse.Namespace) -> list[Any]:
    import numpy

    chance = numpy.random.default_rng(0)
    lengths = chance.integers(*_PROMPTS, options.prompts // options.group)
    alone = [chance.integers(300, 3500, length).astype(numpy.int32) for length in lengths]
    return [prompt for prompt in alone for _ in range(options.group)]


def _drawn(loaded: Any, prompts: Sequence[Any], options: argparse.Namespace, seed: int) -> int:
    import torch

    from medcli.engine.rollout import draw

    drawn = draw(
        loaded, prompts, max_tokens=options.max_tokens, temperature=1.0, batch=options.batch,
        generator=torch.Generator().manual_seed(seed), precision=options.precision, advance=lambda done: None,
    )  # fmt: skip
    return sum(len(one.ids) for one in drawn)


def _generated(loaded: Any, prompts: Sequence[Any], options: argparse.Namespace, seed: int) -> int:
    """`model.generate` on prompts sorted by length; tokens after an answer's end are not counted."""
    import torch

    from medcli.core.batches import batches
    from medcli.engine import attention

    torch.manual_seed(seed)
    half, tokens, pad = options.precision == "bf16", 0, loaded.stops[0]
    loaded.model.eval()
    with attention.own(loaded.causal_lm), torch.no_grad(), torch.autocast("cpu", torch.bfloat16, half):
        for rows in batches(sorted(prompts, key=len), options.batch):
            longest = len(rows[-1])
            ids = torch.tensor([[pad] * (longest - len(row)) + row.tolist() for row in rows])
            mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
            out = loaded.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=options.max_tokens, do_sample=True, top_k=0,
                top_p=None, eos_token_id=list(loaded.stops), pad_token_id=pad,
            )  # fmt: skip
            for said in out[:, longest:].tolist():
                ends = [place for place, token in enumerate(said, 1) if token in loaded.stops]
                tokens += ends[0] if ends else len(said)
    return tokens


# Pairs: each side in a process of its own.


def _measure(side: str, options: argparse.Namespace, environment: dict[str, str]) -> dict[str, float]:
    from medcli.cli.app import TUNED

    words = [f"--{name.replace('_', '-')}={vars(options)[name]}" for name in _PASSED_ON]
    command = [sys.executable, __file__, options.what, *words, f"--side={side}"]
    own = TUNED if side == "med" else {}  # `med train` sets it for itself
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment | own)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _prepared(options: argparse.Namespace) -> tuple[Any, Any]:
    """What `med train rm` or `med train dpo` would train, and as many of its pairs as the steps take."""
    from medcli.core.report import Silent
    from medcli.core.settings import Resolved
    from medcli.engine.pack import Examples, Pairs
    from medcli.steps import train

    settings = train.METHODS.get(options.what).Settings(
        dataset=(options.dataset,), model=options.model, epochs=1.0, batch=options.batch, tuner=options.tuner,
        precision=options.precision, max_length=options.max_length, valid_limit=0, schedule="constant", warmup=0.0,
        **({"sample_every": 0} if options.what == "dpo" else {}),
    )  # fmt: skip
    resolved = Resolved(values=settings, origins={item.name: "flag" for item in fields(settings)})
    prepared = train.prepare(options.what, resolved, Silent())
    count = min(options.steps * options.batch, len(prepared.data))
    return prepared, Pairs(Examples(chain.from_iterable(prepared.data[number] for number in range(count))))


def run_med(options: argparse.Namespace) -> dict[str, float]:
    """As the command trains; what it saves at the end is within the time."""
    from medcli.core.report import Silent
    from medcli.core.run_folder import RunFolder

    prepared, pairs = _prepared(options)
    with tempfile.TemporaryDirectory() as run:
        started, used = time.monotonic(), time.process_time()
        outcome = prepared.method.train(
            prepared.loaded, pairs, None, prepared.resolved.values, RunFolder(Path(run)), Silent()
        )
        return _figures(pairs.tokens, started, used, outcome.figures["loss"])


def run_trl(options: argparse.Namespace) -> dict[str, float]:
    """TRL's trainer as its documentation uses it, padded, on the very tokens that med trains on."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    prepared, pairs = _prepared(options)
    ours = prepared.resolved.values
    each = [pairs[number] for number in range(len(pairs))]
    model, adapter, kind, config = _of_trl(options, ours)
    with tempfile.TemporaryDirectory() as run:
        trainer = kind(
            model=model,
            processing_class=AutoTokenizer.from_pretrained(options.model),
            train_dataset=Dataset.from_list([_row(options.what, better, worse) for better, worse in each]),
            peft_config=adapter if options.tuner == "lora" else None,
            args=config(
                output_dir=run,
                num_train_epochs=1,
                per_device_train_batch_size=options.batch,
                learning_rate=ours.learning_rate,
                lr_scheduler_type="constant",
                max_length=options.max_length,
                bf16=options.precision == "bf16",
                activation_checkpointing=False,
                use_cpu=True,
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
                seed=ours.seed,
                save_strategy="no",
            ),
        )
        started, used = time.monotonic(), time.process_time()
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return _figures(pairs.tokens, started, used, losses[-1])


def _of_trl(options: argparse.Namespace, ours: Any) -> tuple[Any, Any, Any, Any]:
    """Model, adapter, trainer and the maker of its arguments."""
    from functools import partial

    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

    class OnTokens(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    shape = {"r": ours.rank, "lora_alpha": ours.alpha, "lora_dropout": 0.0, "target_modules": "all-linear"}
    if options.what == "dpo":
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32")
        return model, LoraConfig(task_type="CAUSAL_LM", **shape), OnTokens, partial(DPOConfig, beta=ours.beta)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1, dtype="float32")
    adapter = LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], **shape)
    return model, adapter, RewardTrainer, partial(RewardConfig, center_rewards_coefficient=ours.centring)


def _row(what: str, better: Any, worse: Any) -> dict[str, list[int]]:
    if what == "rm":
        return {"chosen_ids": better.ids.tolist(), "rejected_ids": worse.ids.tolist()}
    asked = int(better.trained.argmax())
    return {
        "prompt_ids": better.ids[:asked].tolist(),
        "chosen_ids": better.ids[asked:].tolist(),
        "rejected_ids": worse.ids[asked:].tolist(),
    }


def _figures(tokens: int, started: float, used: float, loss: float) -> dict[str, float]:
    return {
        "tokens": tokens,
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - used,
        "loss": loss,
    }


if __name__ == "__main__":
    main()
