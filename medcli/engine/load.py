"""From a ModelRef to a model, its tokenizer and its chat template."""

from typing import Any

import torch
from transformers import AutoTokenizer

from medcli.core.chat_template import ChatTemplate
from medcli.core.model_ref import TINY, ModelRef, prefix_length
from medcli.core.report import Report
from medcli.engine import remote_code, stages, tiny
from medcli.engine.loaded import Loaded
from medcli.engine.model_template import template_of
from medcli.engine.weights import base_weights, is_offline, problems_said, speaks_not


def load(
    ref: ModelRef,
    *,
    device: torch.device,
    report: Report,
    dtype: torch.dtype | None = None,
    template: str = "",
    or_else: str = "",
    attention: str | None = None,
    merge: bool = False,
    trainable: bool = False,
    quant: str = "none",
) -> Loaded:
    """Load `ref` with what its stages trained, the last one merged too when `merge`.

    `template` is the chat template asked for, `or_else` that of a model which has none of its own.
    With `trainable` the last adapter stays an adapter and goes on learning. `quant` keeps the base in "4bit" or "8bit";
    `attention` names an implementation, None takes what suits the model.
    Weights must be safetensors, and no code of the model's folder is run unless `ref` brings the user's consent.

    Raises ModelError when a part is missing or does not fit, or `ref` is a reward model, ServiceError when the hub
    cannot be reached.
    """
    refuse_reward_model(ref)
    tokenizer, chosen = load_tokenizer(ref, report, template, or_else)
    base, trusted = opened(ref, report, weights=True)
    report.stage(f"loading {ref.base}")
    with remote_code.said(base, trusted):
        model, stored = base_weights(base, device, dtype, attention, quant=quant, trusted=trusted)
        if trusted:
            remote_code.try_out(model)
    model = stages.lay_over(model, ref.adapters, base, merge=merge, trainable=trainable)
    model.eval()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        template=chosen,
        stops=stops_of(model, tokenizer, chosen),
        base=base,
        stored=stored,
        prefix=prefix_length(ref.adapters[-1]) if ref.adapters else 0,
    )


def refuse_reward_model(ref: ModelRef) -> None:
    """Raises ModelError for a reward model where a language model is wanted; one of a hub is seen when it is loaded."""
    if ref.is_reward:
        raise speaks_not(str(ref.adapters[-1] if ref.adapters else ref.base))


def load_tokenizer(ref: ModelRef, report: Report, template: str = "", or_else: str = "") -> tuple[Any, ChatTemplate]:
    """The tokenizer of `ref` and its chat template, without the model."""
    tokenizer = plain_tokenizer(ref, report)
    return tokenizer, template_of(tokenizer, ref, template, or_else)


def plain_tokenizer(ref: ModelRef, report: Report) -> Any:
    """The tokenizer of `ref`, whether or not it has a chat template."""
    base, trusted = opened(ref, report)
    with problems_said(base), remote_code.said(base, trusted):
        where = base if trusted or not _has_tokenizer(ref) else str(ref.adapters[-1])
        return AutoTokenizer.from_pretrained(where, trust_remote_code=trusted, local_files_only=is_offline(where))


def plain_model(ref: ModelRef, report: Report) -> Any:
    """The base model of `ref` on the CPU, in the precision it is stored in, whether or not it has a chat template."""
    report.stage(f"loading {ref.base}")
    base, trusted = opened(ref, report, weights=True)
    with remote_code.said(base, trusted):
        return base_weights(base, torch.device("cpu"), "auto", None, trusted=trusted)[0]


def opened(ref: ModelRef, report: Report, *, weights: bool = False) -> tuple[str, bool]:
    """The folder or hub id of the base model, made when it is med-tiny, and whether Python files there are run.

    Raises ModelError when it needs code that the user has not agreed to.
    """
    return (str(tiny.ensure(report)), False) if ref.base == TINY else remote_code.opened(ref, weights=weights)


def stops_of(model: Any, tokenizer: Any, template: ChatTemplate) -> tuple[int, ...]:
    """The ids that end an answer: the template's, the model's and the tokenizer's."""
    ends = [tokenizer.convert_tokens_to_ids(stop) for stop in template.stops]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    ends.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(end for end in ends if end is not None))


def _has_tokenizer(ref: ModelRef) -> bool:
    return bool(ref.adapters) and (ref.adapters[-1] / "tokenizer_config.json").is_file()
