"""med-tiny: a small Llama-shaped model and its tokenizer, made on this machine from the shipped table of diseases.

It knows the facts as running text and has never seen a question: what LoRA adds to it is seen plainly. Made once and
kept in the cache folder under a name that follows from the recipe and the table, so a change of either makes it anew.
"""

import hashlib
import random
from itertools import permutations
from pathlib import Path
from typing import Any

import filelock
import numpy
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from medcli.core import chat_template, knowledge
from medcli.core.atomic import folder_aside
from medcli.core.report import Report
from medcli.core.settings import folder
from medcli.engine import attention, device
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import Example, on_device, side_by_side

ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
VOCABULARY = 4096
SHAPE = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
STEPS = 200
ROW = 2048  # tokens a step
WARMUP = 20
MUON_RATE = 4e-3  # for 2-D weights; at equal CPU time it beats AdamW alone (2.86 against 3.07 nll a character)
ADAMW_RATE = 3e-3
SEED = 42


def ensure(report: Report) -> Path:
    """The folder of med-tiny, made now when it is not there; another process that makes it is waited for."""
    target = folder("cache") / folder_name()
    if (target / "config.json").is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_suffix(".lock")):
        if not (target / "config.json").is_file():
            report.note("med-tiny, the built-in demonstration model, is made now (once, about a minute)")
            with folder_aside(target) as aside:
                _make(aside, report)
    return target


def folder_name() -> str:
    """The name of this recipe's folder in the cache."""
    return f"med-tiny-{_key()}"


def _key() -> str:
    recipe = f"{SHAPE} {VOCABULARY} {STEPS} {ROW} {WARMUP} {MUON_RATE} {ADAMW_RATE} {SEED} {knowledge.SENTENCES}"
    content = recipe.encode() + knowledge.table_path().read_bytes() + knowledge.phrasings_path().read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _make(target: Path, report: Report) -> None:
    facts = knowledge.facts(knowledge.table_path())
    # Each text says its fact twice, in two forms: from the second a small model learns to look back and repeat, and
    # only then does it later take from a question what the question is about.
    texts = [fact.say(one) + fact.say(other) for fact in facts for one, other in permutations(knowledge.SENTENCES, 2)]
    asked = [question for fact in facts for question in knowledge.questions(fact, 2, seed=SEED)]
    tokenizer = make_tokenizer([*texts, *asked])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = make_model(tokenizer)
        _pretrain(model, [_document(tokenizer, text) for text in texts], report)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def make_tokenizer(texts: list[str], vocabulary: int = VOCABULARY) -> Any:
    """A byte-level BPE whose role markers are single tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(ROLES), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", additional_special_tokens=list(ROLES[:3])
    )
    tokenizer.chat_template = chat_template.shipped_text("med-tiny")
    return tokenizer


def make_model(tokenizer: Any, **shape: Any) -> Any:
    """A Llama-shaped model for the tokenizer, with random weights; `shape` overrides SHAPE."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    config = LlamaConfig(
        **{**SHAPE, **shape}, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=end, pad_token_id=end,
        med_tiny=True,
    )  # fmt: skip
    config._attn_implementation = attention.NAME
    return LlamaForCausalLM(config)


def _document(tokenizer: Any, text: str) -> Example:
    ids = numpy.array(tokenizer(f"{text}<|end|>")["input_ids"], dtype=numpy.int32)
    return Example(ids=ids, trained=numpy.ones(len(ids), dtype=bool))


def _pretrain(model: Any, documents: list[Example], report: Report) -> None:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=ADAMW_RATE, weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, _rate) for optimizer in optimizers]
    half = device.has_bf16(torch.device("cpu"))
    rows = _rows(documents)
    report.stage("making med-tiny", total=STEPS, unit="steps")
    model.train()
    with head_in_loss(model):
        for step in range(1, STEPS + 1):
            batch = on_device(side_by_side(next(rows)), model.device)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
                loss = model(**batch).loss
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            report.measure(step, {"loss": float(loss.detach())})
            report.advance(step)
    model.eval()


def _rate(step: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    return min((step + 1) / WARMUP, 1.0) * (1 - step / STEPS)


def _rows(documents: list[Example]) -> Any:
    """Batches of about ROW tokens, every document once before any comes again."""
    chance = random.Random(SEED)
    row: list[Example] = []
    while True:
        for document in chance.sample(documents, len(documents)):
            row.append(document)
            if sum(len(d.ids) for d in row) >= ROW:
                yield row
                row = []
