"""A model folder in few bits by bitsandbytes, shown to be read back as it was before it was written."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Sampling
from medcli.engine import device as devices
from medcli.engine import quantisation
from medcli.engine.load import load
from medcli.engine.loaded import Loaded
from medcli.engine.speaker import LocalSpeaker

_GREEDY = Sampling(temperature=0.0, max_tokens=32)


def quantise(
    ref: ModelRef, target: Path, quant: Literal["4bit", "8bit"], prompts: Sequence[str], device: str, report: Report
) -> None:
    """Write the weights and config of the whole model `ref` in few bits into `target`, reload them, compare answers.

    The greedy answers are those of the quantised model before and after it was written, not of the full one.

    Raises ModelError when they differ, DeviceError where bitsandbytes does not run.
    """
    where = devices.pick(device)
    loaded = load(ref, device=where, report=report, quant=quant, or_else="plain")
    report.stage(f"answers of the model in {quant}", total=len(prompts), unit="prompts")
    before = _answers(loaded, prompts, report)
    report.stage("writing")
    loaded.model.save_pretrained(target)
    report.stage("answers of what was written", total=len(prompts), unit="prompts")
    after = _answers(replace(loaded, model=_again(target, where, ref.code is not None)), prompts, report)
    for prompt, one, other in zip(prompts, before, after, strict=True):
        if one != other:
            raise ModelError(
                f"read back, the quantised model answers '{prompt}' otherwise than before it was written",
                hint="nothing is kept; please report this with the model's name",
            )


def _again(folder: Path, device: torch.device, trusted: bool) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=quantisation.dtype(device), device_map={"": device}, use_safetensors=True,
        local_files_only=True, trust_remote_code=trusted,
    )  # fmt: skip
    return quantisation.ready(model).eval()


def _answers(loaded: Loaded, prompts: Sequence[str], report: Report) -> list[str]:
    asked = [[Message(role="user", content=prompt)] for prompt in prompts]
    return LocalSpeaker(loaded).replies(asked, _GREEDY, report.advance)
