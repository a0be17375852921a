"""A model with all that belongs to it."""

import sys
from dataclasses import dataclass
from typing import Any

import torch

from medcli.core.chat_template import ChatTemplate


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model ready to speak or to learn.

    `stops` are the ids that end an answer, `base` is where the weights came from, `stored` their precision there,
    `prefix` how many virtual tokens stand before every text.
    """

    model: Any
    tokenizer: Any
    template: ChatTemplate
    stops: tuple[int, ...]
    base: str
    stored: torch.dtype
    prefix: int = 0

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def context(self) -> int | None:
        """The tokens of text that the model reads at most; None when its config knows no limit, as with ALiBi."""
        try:
            return int(self.model.config.get_text_config().max_position_embeddings) - self.prefix
        except AttributeError:
            return None

    @property
    def causal_lm(self) -> Any:
        """The language model itself, without what peft lays around it."""
        peft = sys.modules.get("peft")  # never imported, it laid nothing around the model; importing it takes seconds
        return self.model.get_base_model() if peft and isinstance(self.model, peft.PeftModel) else self.model

    @property
    def head(self) -> Any:
        """The model's last layer: what gives the vocabulary's logits, or a reward model's number."""
        model = self.causal_lm
        return model.get_output_embeddings() or model.get_submodule("score")
