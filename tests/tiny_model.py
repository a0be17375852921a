"""A model of a few thousand parameters and a data set of a few rows, for tests that need the real thing."""

from pathlib import Path

import torch

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


def write(folder: Path) -> Path:
    """A Llama shape with grouped heads and a tokenizer of 800 words."""
    facts = knowledge.facts(knowledge.table_path())
    tokenizer = tiny.make_tokenizer([fact.say(knowledge.ANSWER) for fact in facts], vocabulary=800)
    torch.manual_seed(0)
    model = tiny.make_model(tokenizer, **SHAPE)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path, attention: str = "sdpa") -> Loaded:
    return load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), attention=attention)
