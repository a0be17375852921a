"""Base models to begin with: `templates/models.toml`, and what training one takes, by rule of thumb.

`med train … --plan` rehearses a step and knows better; these figures need neither the model nor torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from medcli.core.resources import templates
from medcli.core.settings import read_toml

GIB = 2**30
# Bytes a parameter. Adapters and frozen layers: the weights in bf16, a sixth more for adapters, their optimizer and
# activations. 4 bits: nf4 with its scales takes 0.53 (QLoRA, Dettmers et al. 2023), and as much more for the same.
# All weights: bf16 weights and gradients, and AdamW's two moments and master weights in fp32 (ZeRO, Rajbhandari et al.
# 2020, section 3: 16), with a little for activations.
BYTES_A_PARAMETER: Mapping[str, float] = {"none": 2.35, "8bit": 1.4, "4bit": 0.9, "full": 17.0}
OVERHEAD = 1.5  # GiB: the process, its libraries, and the logits of a batch
OF_A_PARAMETER = 2.0  # bytes of the files that are downloaded: bf16
# Operations a token and parameter: forward 2, backward 2 for the activations and 2 for the weights (Kaplan et al. 2020,
# section 2.1); frozen weights have no gradients of their own.
OPERATIONS: Mapping[str, float] = {"adapters": 4.0, "full": 6.0}
CHARACTERS_A_TOKEN = 1.5  # of Chinese text by today's tokenizers; `med data vocab` measures it


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A model with its size and licence."""

    name: str
    billions: float
    licence: str

    def memory(self, quant: str) -> float:
        """GiB that training adapters on it takes with `quant` none, 4bit or 8bit, or all of its weights with "full"."""
        return self.billions * 1e9 * BYTES_A_PARAMETER[quant] / GIB + OVERHEAD

    @property
    def download(self) -> float:
        """GiB of its files."""
        return self.billions * 1e9 * OF_A_PARAMETER / GIB

    def operations(self, characters: float, *, whole: bool = False) -> float:
        """Floating-point operations of reading so many characters once and learning from them."""
        tokens = characters / CHARACTERS_A_TOKEN
        return OPERATIONS["full" if whole else "adapters"] * self.billions * 1e9 * tokens


@cache
def base_models() -> dict[str, BaseModel]:
    """Name -> model, the smallest first."""
    table = read_toml(templates() / "models.toml")
    return {name: BaseModel(name=name, **row) for name, row in table.items()}


def quant_for(model: BaseModel, gib: float) -> str | None:
    """The least rounding with which adapters of a model can be trained in so much memory; None when nothing helps."""
    return next((quant for quant in ("none", "8bit", "4bit") if model.memory(quant) <= gib), None)


def largest_for(gib: float) -> BaseModel:
    """The largest model whose adapters can be trained without rounding its weights, or else the smallest of all."""
    models = list(base_models().values())
    return next((model for model in reversed(models) if model.memory("none") <= gib), models[0])
