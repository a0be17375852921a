"""A model with all that belongs to it."""

from dataclasses import dataclass
from typing import Any

import torch

from medcli.core.chat_template import ChatTemplate


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to speak or to learn.

    `stops` are the ids that end an answer, `base` is where the weights came from, `stored` their precision there.
    """

    model: Any
    tokenizer: Any
    template: ChatTemplate
    stops: tuple[int, ...]
    base: str
    stored: torch.dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def causal_lm(self) -> Any:
        """The language model itself, without what peft lays around it."""
        from peft import PeftModel

        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
