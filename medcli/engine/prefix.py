"""Lay a prefix before a model, train it, and save it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PeftType, PrefixTuningConfig, get_peft_model
from torch import nn

from medcli.core.atomic import folder_aside
from medcli.core.errors import ModelError, UsageError
from medcli.core.report import Report
from medcli.core.run_folder import RunFolder
from medcli.core.tuner_settings import PrefixSettings
from medcli.engine import trainer
from medcli.engine.loaded import Loaded
from medcli.engine.pack import Samples
from medcli.engine.trainer import Outcome

# Of the first keys and values. peft's own 1.0 is far from what a model makes itself: after 120 steps on med-tiny the
# loss was 2.46 nat with it and 2.32 with this (128 tokens), 1.70 and 1.50 (16 tokens).
STD = 0.02
_INSTEAD = "train it with another method: med train lora"


def prepare(loaded: Loaded, settings: PrefixSettings) -> Loaded:
    """The model with a prefix, the only thing that learns: a new one, or that of the last stage.

    Raises ModelError when the model cannot read one, UsageError when the last stage's is another than asked for.
    """
    model = _learning_again(loaded.model, settings) if settings.continue_run else _with_prefix(loaded.model, settings)
    return replace(loaded, model=model, prefix=settings.length)


def train(
    prefixed: Loaded, data: Samples, valid: Samples | None, settings: PrefixSettings, run: RunFolder, report: Report
) -> Outcome:
    """Train the prefix, and save it to `run.adapter` unless a person stopped the run."""
    outcome = trainer.train(prefixed, data, valid, settings, run, report)
    if outcome.is_saved_here:
        _save(prefixed, run.adapter)
    return outcome


def _with_prefix(base: Any, settings: PrefixSettings) -> Any:
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=settings.length,
        prefix_projection=settings.projection,
        encoder_hidden_size=settings.hidden or base.config.get_text_config().hidden_size,
    )
    probe = torch.zeros((1, 2), dtype=torch.long, device=base.device)
    with torch.no_grad():
        plain = base(input_ids=probe).logits
    try:
        model = get_peft_model(base, config)
        if not settings.projection:
            nn.init.normal_(model.prompt_encoder["default"].embedding.weight, std=STD)
        with torch.no_grad():
            prefixed = model(input_ids=probe).logits
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"the layers of {type(base).__name__} take no prefix: {first}", hint=_INSTEAD) from error
    if not plain.is_meta and torch.equal(plain, prefixed):  # a plan has no numbers to compare
        raise ModelError(f"{type(base).__name__} does not read a prefix", hint=_INSTEAD)
    return model


def _learning_again(model: Any, settings: PrefixSettings) -> Any:
    """The prefix of the last stage, learning on; a projection was taken out of it when it was saved."""
    length = model.active_peft_config.num_virtual_tokens if _has_prefix(model) else 0
    if not length:
        raise UsageError(
            f"--continue: what {settings.model} has trained is no prefix",
            hint="leave out --continue, or go on with the method that trained it",
        )
    if length != settings.length:
        raise UsageError(
            f"--continue: the prefix of {settings.model} has {length} virtual tokens, not {settings.length}",
            hint=f"add --prefix-length {length}",
        )
    model.active_peft_config.inference_mode = False
    model.prompt_encoder.requires_grad_(True)
    return model


def _has_prefix(model: Any) -> bool:
    return isinstance(model, PeftModel) and model.active_peft_config.peft_type == PeftType.PREFIX_TUNING


def _save(loaded: Loaded, target: Path) -> None:
    """Write the prefix as the model reads it, without its projection, and the tokenizer, whole or not at all."""
    loaded.model.active_peft_config.prefix_projection = False
    with folder_aside(target) as aside:
        loaded.model.save_pretrained(str(aside), save_embedding_layers=False)
        loaded.tokenizer.save_pretrained(aside)
