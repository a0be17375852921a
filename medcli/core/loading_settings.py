"""How a person says where a model is loaded and how precisely: the same words for a chat, a file and a server.

These classes stand beside others as bases of a settings class, which those with slots cannot.
"""

from dataclasses import dataclass
from typing import Literal

from medcli.core.settings import setting


@dataclass(frozen=True, kw_only=True)
class LoadingSettings:
    """What can be set about loading a model that speaks."""

    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, mps, …")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", help="The weights' precision; auto is their own on a GPU, and float32 on a CPU."
    )
    quant: Literal["none", "4bit", "8bit"] = setting("none", help="Hold the weights in fewer bits, by bitsandbytes.")
    trust_remote_code: bool = setting(False, help="Run the Python files of the model's folder. Read them first.")


@dataclass(frozen=True, kw_only=True)
class SpeakingSettings(LoadingSettings):
    """What can be set about a model that speaks to one person, or answers a file."""

    engine: Literal["med", "vllm"] = setting("med", help="What runs the model: vllm needs a GPU, and the package.")
    lookup: bool = setting(
        False, help="Guess the next words by what stood before, where the likeliest is taken: faster when it quotes."
    )
