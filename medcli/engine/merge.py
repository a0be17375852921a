"""Adapters into weights, and the proof that nothing was lost on the way."""

import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from medcli.core.chat_template import plain
from medcli.core.errors import ModelError, StorageError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report, Silent
from medcli.core.speaker import Sampling
from medcli.engine import device as devices
from medcli.engine import streamed_merge
from medcli.engine.load import load, load_tokenizer, opened
from medcli.engine.loaded import Loaded
from medcli.engine.skeleton import NotStreamed
from medcli.engine.speaker import LocalSpeaker
from medcli.engine.weights import config_of

PROOF_TOKENS = 64
GREEDY = Sampling(temperature=0.0, max_tokens=PROOF_TOKENS)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_POSITIONS = 16  # the last tokens of a prompt whose logits are compared
_FLOAT32_NOISE = 0.01  # nats; in float32 a right merge stays far below

Parts = Sequence[tuple[float, ModelRef]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the adapters and the merged model said to the same prompts, greedily, and how far apart they were.

    `different` answers are not the same; `logits` and `log_probabilities` are the largest absolute differences over
    the vocabulary and the prompts' last tokens.
    """

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    different: int
    logits: float
    log_probabilities: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """How the weights were written; `proof` is None when nobody asked for one."""

    dtype: str
    streamed: bool
    proof: Proof | None


class _Writer(Protocol):
    """A way to merge."""

    streamed: bool
    stored: torch.dtype

    def write(self, target: Path, dtype: torch.dtype, report: Report) -> None: ...


def merge(parts: Parts, target: Path, prompts: Sequence[str], dtype: str, device: str, report: Report) -> Merged:
    """Write base + adapters as one model folder into `target`, reload it, and compare what it says with before.

    `parts` are runs on the same base, each with the weight of its difference from it; one run has the weight 1. Sums
    are formed in float32 and stored as `dtype` says; with "auto" in the base's own precision or, when rounding to it
    changes an answer, in float32. Without `prompts` nothing is loaded and compared.

    Raises ModelError when the answers still differ, or when an adapter cannot be merged, and StorageError when there is
    no room for the weights.
    """
    where = devices.pick(device)
    writer = _writer(parts, where, report)
    before = partial(_adapted, parts, where, report)
    expected = _said(before, prompts, report, "the adapter") if prompts else None
    tried = dict.fromkeys((writer.stored, torch.float32)) if dtype == "auto" else (DTYPES[dtype],)
    for precision in tried:
        _write(writer, parts[0][1], target, precision, report)
        name = str(precision).removeprefix("torch.")
        if expected is None:
            return Merged(dtype=name, streamed=writer.streamed, proof=None)
        ref = ModelRef(base=str(target), code=parts[0][1].code)
        after = partial(load, ref, device=where, report=Silent(), dtype=torch.float32)  # from a folder nobody has named
        report.stage("loading the merged model")
        proof = expected.compared(_said(after, prompts, report, "the merged model"), prompts)
        if precision == torch.float32 and not proof.log_probabilities <= _FLOAT32_NOISE:  # it may be nan
            break
        if dtype != "auto" or not proof.different:
            return Merged(dtype=name, streamed=writer.streamed, proof=proof)
        if precision != torch.float32:
            report.note(f"in {name} the merged model answers otherwise; trying again in float32")
    raise ModelError(
        f"the merged model does not say what the adapter says: {proof.different} of {len(prompts)} answers differ, "
        f"and log-probabilities by up to {proof.log_probabilities:.2g}",
        hint="nothing was written; please report this with the model's name",
    )


def _writer(parts: Parts, where: torch.device, report: Report) -> _Writer:
    try:
        return _ByFile(streamed_merge.plan(parts, report))
    except NotStreamed as reason:
        report.note(f"merging in memory, which takes room for the whole model: {reason}")
        return _InMemory(parts, where, report)


class _ByFile:
    """The streamed way: the model is never in memory."""

    streamed = True

    def __init__(self, plan: streamed_merge.Streamed) -> None:
        self._plan = plan
        self.stored: torch.dtype = plan.model.config.dtype or torch.float32

    def write(self, target: Path, dtype: torch.dtype, report: Report) -> None:
        require_room(target, self._plan.bytes(dtype))
        self._plan.write(target, dtype, report)


class _InMemory:
    """The way for what the streamed one does not know: peft merges into a loaded model."""

    streamed = False

    def __init__(self, parts: Parts, where: torch.device, report: Report) -> None:
        self._parts, self._where = parts, where
        base, trusted = opened(parts[0][1], report)
        config = config_of(base, trusted)
        streamed_merge.refuse_quantised(config, base)
        self.stored: torch.dtype = config.dtype or torch.float32

    def write(self, target: Path, dtype: torch.dtype, report: Report) -> None:
        model = merged_in_memory(self._parts, self._where, report).model
        report.stage("merging")
        weights = {
            name: value.to(dtype) if value.is_floating_point() else value for name, value in model.state_dict().items()
        }
        require_room(target, sum(value.nbytes for value in weights.values()))
        model.config.dtype = dtype
        model.save_pretrained(target, state_dict=weights, max_shard_size=streamed_merge.SHARD)
        del model, weights
        _free()


def merged_in_memory(parts: Parts, where: torch.device, report: Report) -> Loaded:
    """The model with what the runs changed, each difference from the base times its weight, in float32."""
    if [weight for weight, _ in parts] == [1.0]:
        return load(parts[0][1], device=where, report=report, dtype=torch.float32, merge=True)
    first = parts[0][1]
    loaded = load(
        ModelRef(base=first.base, template=first.template, code=first.code),
        device=where, report=report, dtype=torch.float32,
    )  # fmt: skip
    total = dict(loaded.model.named_parameters())
    before: dict[str, Tensor] = {}  # of what has changed
    with torch.no_grad():
        for weight, ref in parts:
            run = load(ref, device=where, report=report, dtype=torch.float32, merge=True)
            for name, value in run.model.named_parameters():
                if name not in total:
                    raise ModelError(
                        f"{ref.adapters[-1]} makes of {name} a tensor of its own, which its base has in common",
                        hint="merge this run by itself: med merge RUN",
                    )
                old = before[name] if name in before else total[name]
                if not torch.equal(value, old):
                    total[name].add_(value - before.setdefault(name, old.clone()), alpha=weight)
            del run
    return loaded


def require_room(target: Path, needed: int) -> None:
    """Raises StorageError when the disk of the folder `target` has less room than `needed` bytes."""
    free = shutil.disk_usage(target).free
    if needed > free:
        raise StorageError(
            f"{target.parent}: the merged model needs {needed / 2**30:.1f} GiB, the disk has {free / 2**30:.1f} GiB",
            hint="free some room, or choose another disk with --output",
        )


def _write(writer: _Writer, ref: ModelRef, target: Path, dtype: torch.dtype, report: Report) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    writer.write(target, dtype, report)
    tokenizer, template = load_tokenizer(ref, report)
    tokenizer.chat_template = template.text
    tokenizer.save_pretrained(target)


def _adapted(parts: Parts, where: torch.device, report: Report) -> Loaded:
    if [weight for weight, _ in parts] == [1.0]:
        return load(parts[0][1], device=where, report=report, dtype=torch.float32)
    return merged_in_memory(parts, where, report)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """Greedy answers to prompts, and the logits [positions, vocabulary] at each prompt's end."""

    answers: tuple[str, ...]
    logits: tuple[Tensor, ...]

    def compared(self, other: "_Said", prompts: Sequence[str]) -> Proof:
        pairs = list(zip(self.logits, other.logits, strict=True))
        return Proof(
            prompts=tuple(prompts),
            answers=other.answers,
            different=sum(one != two for one, two in zip(self.answers, other.answers, strict=True)),
            logits=max(_largest(one, two) for one, two in pairs),
            log_probabilities=max(_largest(one.log_softmax(-1), two.log_softmax(-1)) for one, two in pairs),
        )


def _said(model: Callable[[], Loaded], prompts: Sequence[str], report: Report, who: str) -> _Said:
    """What the model says that is opened here, and gone when it has spoken."""
    loaded = model()
    asked = [[Message(role="user", content=prompt)] for prompt in prompts]
    report.stage(f"answers of {who}", total=len(prompts), unit="prompts")
    answers = LocalSpeaker(loaded).replies(asked, GREEDY, report.advance)
    logits = [_logits(loaded, messages) for messages in asked]
    del loaded
    _free()
    return _Said(answers=tuple(answers), logits=tuple(logits))


@torch.inference_mode()
def _logits(loaded: Loaded, messages: Sequence[Message]) -> Tensor:
    text = plain(loaded.template.render(messages, ask=True))
    ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"][: loaded.context]
    last: dict[str, Any] = {"logits_to_keep": _POSITIONS} if loaded.causal_lm._supports_logits_to_keep() else {}
    logits: Tensor = loaded.model(input_ids=torch.tensor([ids], device=loaded.device), **last).logits
    return logits[0, -_POSITIONS:].float().cpu()


def _largest(one: Tensor, other: Tensor) -> float:
    """Of the absolute differences; infinities that agree differ by nothing."""
    return float((one - other).abs().masked_fill_(one == other, 0.0).max())


def _free() -> None:
    """Give back what a model took before the next one is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
