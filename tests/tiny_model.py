"""A model of a few thousand parameters and a data set of a few rows, for tests that need the real thing."""

from pathlib import Path
from typing import Any

import torch
from transformers import GlmConfig, GlmForCausalLM, Qwen2Config, Qwen2ForCausalLM

from medcli.core import knowledge
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import tiny
from medcli.engine.load import load
from medcli.engine.loaded import Loaded

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


FAMILIES = ("llama", "qwen2", "glm")


def write(folder: Path, family: str = "llama") -> Path:
    """Two layers of a family's shape with grouped heads, and a tokenizer of 800 words."""
    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(knowledge.ANSWER) for fact in facts], vocabulary=800)
    torch.manual_seed(0)
    model = tiny.make_model(tokenizer, **SHAPE) if family == "llama" else _of_family(family, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _of_family(family: str, tokenizer: Any) -> Any:
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    words = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": end, "pad_token_id": end}
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SHAPE, **words, tie_word_embeddings=True))
    return GlmForCausalLM(GlmConfig(**SHAPE, **words, head_dim=8))


def loaded(folder: Path, attention: str | None = None) -> Loaded:
    return load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), attention=attention)
