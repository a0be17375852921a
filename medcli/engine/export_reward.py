"""A reward run as one classifier's folder, shown to judge as the run does."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef
from medcli.core.record import Message
from medcli.core.report import Report
from medcli.engine.loaded import Loaded
from medcli.engine.reward_model import open_reward_model

_TOLERANCE = 0.01  # of a reward; trained ones are about one apart
_ANSWERS = ("请尽快去医院就诊，由医生检查后决定。", "没事。")


def write_classifier(ref: ModelRef, target: Path, prompts: Sequence[str], device: str, report: Report) -> None:
    """Write base + adapters of the reward run `ref` into `target`, reload it, and compare rewards.

    It is stored in the base's precision, or in float32 where rounding moves a reward by more than 0.01. Raises
    ModelError when the rewards still differ.
    """
    asked = [
        [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
        for prompt in prompts
        for answer in _ANSWERS
    ]
    opened = open_reward_model(ref, device=device, report=report)
    report.stage("rewards of the run", total=len(asked), unit="answers")
    expected = opened.rewards(asked, report.advance)
    report.stage("merging")
    model = opened.loaded.model.merge_and_unload()
    for dtype in dict.fromkeys((opened.loaded.stored, torch.float32)):
        _write(model, opened.loaded, target, dtype)
        again = open_reward_model(ModelRef(base=str(target), code=ref.code), device=device, report=report)
        report.stage("rewards of what was written", total=len(asked), unit="answers")
        found = again.rewards(asked, report.advance)
        if all(abs(one - other) <= _TOLERANCE for one, other in zip(found, expected, strict=True)):
            return
        report.note(f"in {dtype} the merged reward model judges otherwise")
    raise ModelError(
        "the merged reward model judges otherwise than the run does",
        hint="nothing was written; please report this with the model's name",
    )


def _write(model: Any, loaded: Loaded, target: Path, dtype: torch.dtype) -> None:
    shutil.rmtree(target, ignore_errors=True)
    model.config.dtype = dtype
    model.save_pretrained(target, state_dict={name: value.to(dtype) for name, value in model.state_dict().items()})
    loaded.tokenizer.chat_template = loaded.template.text
    loaded.tokenizer.save_pretrained(target)
