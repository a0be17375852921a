"""Adapters into weights, and the proof that nothing was lost on the way."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.core.speaker import Sampling
from medcli.engine import device as devices
from medcli.engine.load import load
from medcli.engine.loaded import Loaded
from medcli.engine.speaker import LocalSpeaker

PROOF_TOKENS = 64
GREEDY = Sampling(temperature=0.0, max_tokens=PROOF_TOKENS)


def merge(ref: ModelRef, target: Path, prompts: Sequence[str], device: str, report: Report) -> dict[str, Any]:
    """Write base + adapters as one model folder into `target`, reload it, and compare greedy answers with before.

    Sums are formed in float32 and stored in the base's own precision; when rounding to it changes an answer, float32 is
    kept instead. Raises ModelError when the answers still differ, or when an adapter cannot be merged.
    """
    where = devices.pick(device)
    report.stage("answers of the adapter", total=len(prompts), unit="prompts")
    loaded = load(ref, device=where, report=report, dtype=torch.float32)
    expected = _answers(loaded, prompts, report)
    report.stage("merging")
    model = loaded.model.merge_and_unload() if isinstance(loaded.model, PeftModel) else loaded.model
    for dtype in dict.fromkeys((loaded.stored, torch.float32)):
        _write(model, loaded, target, dtype)
        report.stage("answers of the merged model", total=len(prompts), unit="prompts")
        again = load(ModelRef(base=str(target), code=ref.code), device=where, report=report, dtype=torch.float32)
        answers = _answers(again, prompts, report)
        if answers == expected:
            return {"dtype": str(dtype).removeprefix("torch."), "prompts": list(prompts), "answers": answers}
        report.note(f"in {dtype} the merged model answers otherwise; trying again in float32")
    different = next(index for index, text in enumerate(answers) if text != expected[index])
    raise ModelError(
        f"the merged model answers '{prompts[different]}' otherwise than the adapter does",
        hint="nothing was written; please report this with the model's name",
    )


def _write(model: Any, loaded: Loaded, target: Path, dtype: torch.dtype) -> None:
    shutil.rmtree(target, ignore_errors=True)
    weights = {name: value.to(dtype) for name, value in model.state_dict().items()}
    before = model.config.dtype
    model.config.dtype = dtype
    model.save_pretrained(target, state_dict=weights)
    model.config.dtype = before
    loaded.tokenizer.chat_template = loaded.template.text
    loaded.tokenizer.save_pretrained(target)


def _answers(loaded: Loaded, prompts: Sequence[str], report: Report) -> list[str]:
    asked = [[Message(role="user", content=prompt)] for prompt in prompts]
    return LocalSpeaker(loaded).replies(asked, GREEDY, report.advance)
