"""Merging takes the memory of a piece of a tensor, not that of the model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests import tiny_model

# The first merge has all libraries at work. The peak is then forgotten, so that the second one's own is measured:
# getrusage would tell the largest of all, even that of the process which started this one.
CHILD = """
import json, re, sys
from pathlib import Path
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import merge

def merged(base, adapter, target):
    Path(target).mkdir()
    parts = [(1.0, ModelRef(base=base, adapters=(Path(adapter),)))]
    assert merge.merge(parts, Path(target), [], "auto", "cpu", Silent()).streamed

def memory(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

merged(*sys.argv[1:4])
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
merged(*sys.argv[4:])
print(memory("VmHWM") - before)
"""
SHAPE = {
    "hidden_size": 1024, "intermediate_size": 2560, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 8,
}  # fmt: skip


def with_adapter(model, base, folder, **kind):
    laid = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", **kind))
    laid.peft_config["default"].base_model_name_or_path = str(base)
    laid.save_pretrained(folder)
    return folder


def large(folder, tokenizer_from):
    """About 220 MB in bfloat16, in files of about 40 MB."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, vocab_size=8192, dtype=torch.bfloat16)).bfloat16()
    model = model.to_empty(device="cpu")
    model.save_pretrained(folder, max_shard_size="40MB")
    for file in [*tokenizer_from.glob("tokenizer*"), *tokenizer_from.glob("chat_template*")]:
        (folder / file.name).write_bytes(file.read_bytes())
    return model


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured by Linux's /proc")
def test_memory_is_that_of_a_shard_and_the_adapter(tiny_folder, tmp_path):
    base = tmp_path / "base"
    small = with_adapter(tiny_model.loaded(tiny_folder).model, tiny_folder, tmp_path / "small")
    adapter = with_adapter(large(base, tiny_folder), base, tmp_path / "adapter", use_dora=True)
    shards = [file.stat().st_size for file in base.glob("*.safetensors")]
    assert len(shards) > 4
    words = [tiny_folder, small, tmp_path / "one", base, adapter, tmp_path / "two"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    allowed = 1.3 * max(shards) + (adapter / "adapter_model.safetensors").stat().st_size
    assert 0 < int(done.stdout) < allowed < sum(shards) / 2
