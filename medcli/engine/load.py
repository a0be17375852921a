"""From a ModelRef to a model, its tokenizer and its chat template."""

from typing import Any

import torch
from transformers import AutoTokenizer

from medcli.core.chat_template import ChatTemplate
from medcli.core.model_ref import TINY, ModelRef, prefix_length
from medcli.core.report import Report
from medcli.engine import stages, tiny
from medcli.engine.loaded import Loaded
from medcli.engine.model_template import template_of
from medcli.engine.weights import base_weights, is_offline, problems_said


def load(
    ref: ModelRef,
    *,
    device: torch.device,
    report: Report,
    dtype: torch.dtype | None = None,
    template: str = "",
    attention: str = "sdpa",
    merge: bool = False,
    trainable: bool = False,
    quant: str = "none",
) -> Loaded:
    """Load `ref` with what its stages trained, the last one merged too when `merge`.

    With `trainable` the last adapter stays an adapter and goes on learning. `quant` keeps the base in "4bit" or "8bit".
    Weights must be safetensors, and no code of the model's folder is run unless `ref` brings the user's consent.

    Raises ModelError when a part is missing or does not fit, ServiceError when the hub cannot be reached.
    """
    tokenizer, chosen = load_tokenizer(ref, report, template)
    base = _base_of(ref, report)
    report.stage(f"loading {ref.base}")
    model, stored = base_weights(base, device, dtype, attention, quant=quant)
    model = stages.lay_over(model, ref.adapters, base, merge=merge, trainable=trainable)
    model.eval()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        template=chosen,
        stops=_stops(model, tokenizer, chosen),
        base=base,
        stored=stored,
        prefix=prefix_length(ref.adapters[-1]) if ref.adapters else 0,
    )


def load_tokenizer(ref: ModelRef, report: Report, template: str = "") -> tuple[Any, ChatTemplate]:
    """The tokenizer of `ref` and its chat template, without the model."""
    tokenizer = plain_tokenizer(ref, report)
    return tokenizer, template_of(tokenizer, ref, template)


def plain_tokenizer(ref: ModelRef, report: Report) -> Any:
    """The tokenizer of `ref`, whether or not it has a chat template."""
    base = _base_of(ref, report)
    with problems_said(base):
        where = str(ref.adapters[-1]) if _has_tokenizer(ref) else base
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False, local_files_only=is_offline(where))


def plain_model(ref: ModelRef, report: Report) -> Any:
    """The base model of `ref` on the CPU, in the precision it is stored in, whether or not it has a chat template."""
    report.stage(f"loading {ref.base}")
    return base_weights(_base_of(ref, report), torch.device("cpu"), "auto", "sdpa")[0]


def _base_of(ref: ModelRef, report: Report) -> str:
    return str(tiny.ensure(report)) if ref.base == TINY else ref.base


def _stops(model: Any, tokenizer: Any, template: ChatTemplate) -> tuple[int, ...]:
    ends = [tokenizer.convert_tokens_to_ids(stop) for stop in template.stops]
    own = model.generation_config.eos_token_id
    ends += own if isinstance(own, list) else [own]
    ends.append(tokenizer.eos_token_id)
    return tuple(dict.fromkeys(end for end in ends if end is not None))


def _has_tokenizer(ref: ModelRef) -> bool:
    return bool(ref.adapters) and (ref.adapters[-1] / "tokenizer_config.json").is_file()
