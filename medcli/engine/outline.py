"""A model's outline: its architecture and its tokenizer, without any weight. Enough to plan with, in a second."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationConfig
from transformers.utils.hub import has_file

from medcli.core.model_ref import ADAPTER_CONFIG, ModelRef, prefix_length
from medcli.core.report import Report
from medcli.engine import load as loading
from medcli.engine import remote_code
from medcli.engine.loaded import Loaded
from medcli.engine.weights import config_of, is_offline, own_dtype, problems_said

_GENERATION = "generation_config.json"


@dataclass(frozen=True, kw_only=True)
class Outline(Loaded):
    """A model without weights, and the device it is planned for, which need not be here."""

    place: torch.device

    @property
    def device(self) -> torch.device:
        return self.place


def outline(
    ref: ModelRef,
    *,
    device: torch.device,
    report: Report,
    template: str = "",
    or_else: str = "",
    attention: str | None = None,
    trainable: bool = False,
) -> Outline:
    """`ref` on the meta device, in the precisions it would have on `device`; only small files are fetched.

    What earlier stages trained has the base's own shapes and is left out, but for the last adapter when it is
    `trainable`. Raises ModelError or ServiceError as loading does.
    """
    loading.refuse_reward_model(ref)
    tokenizer, chosen = loading.load_tokenizer(ref, report, template, or_else)
    base, trusted = loading.opened(ref, report)
    report.stage(f"outlining {ref.base}")
    with remote_code.said(base, trusted), problems_said(base):
        offline = is_offline(base)
        config = AutoConfig.from_pretrained(base, trust_remote_code=trusted, local_files_only=offline)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, dtype=own_dtype(config, device), attn_implementation=attention, trust_remote_code=trusted
            )
        if has_file(base, _GENERATION, local_files_only=offline):
            model.generation_config = GenerationConfig.from_pretrained(base, local_files_only=offline)
    if trainable:
        model = _with_last_adapter(model, ref.adapters[-1])
    return Outline(
        place=device,
        model=model.eval(),
        tokenizer=tokenizer,
        template=chosen,
        stops=loading.stops_of(model, tokenizer, chosen),
        base=base,
        prefix=prefix_length(ref.adapters[-1]) if ref.adapters else 0,
        stored=config.dtype or torch.float32,
    )


def judge_bytes(ref: ModelRef, *, device: torch.device, report: Report) -> int:
    """What the layers of the reward model `ref` take on `device`; a head of one number is not worth counting."""
    base, trusted = loading.opened(ref, report)
    config = config_of(base, trusted)
    with remote_code.said(base, trusted), torch.device("meta"):
        layers = AutoModel.from_config(config, dtype=own_dtype(config, device), trust_remote_code=trusted)
    return sum(tensor.nbytes for tensor in [*layers.parameters(), *layers.buffers()])


def _with_last_adapter(model: Any, stage: Path) -> Any:
    """A new adapter of the same shapes; raises OSError when `stage` holds none."""
    (stage / ADAPTER_CONFIG).stat()
    config = PeftConfig.from_pretrained(str(stage))
    config.inference_mode = False
    return get_peft_model(model, config)
