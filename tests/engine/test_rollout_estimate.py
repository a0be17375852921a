"""What a policy takes, against real caches, real steps, and LoRA on the same rows."""

import json
from dataclasses import replace
from operator import attrgetter

import numpy
import pytest
import torch
from transformers import DynamicCache

from medcli.core.alignment_settings import GrpoSettings, PpoSettings
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import attention, estimate, lora, rollout_estimate
from medcli.engine.outline import outline
from medcli.engine.pack import Example, Examples, Prompts
from medcli.engine.rehearsal import cache_bytes
from medcli.engine.rollout_estimate import Drawing
from tests import tiny_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TARGET = estimate.Target(on_gpu=False, precision="fp32", overhead=estimate.exactly(0))
CARD = estimate.Target(on_gpu=True, precision="bf16", overhead=estimate.exactly(0))
DRAWING = Drawing(answers=64, together=32, reads=3, passes=2)
QWEN_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": False,
    "dtype": "bfloat16",
}  # fmt: skip
LAYERS = 3  # of its 28, which are all alike: an operation takes as long without numbers, whatever its size


def settings_of(**own):
    return PpoSettings(**{"dataset": ("x",), "reward": "judge", "precision": "fp32", "max_tokens": 40} | own)


def prompts(*lengths):
    examples = (Example(ids=numpy.full(n, 7, numpy.int32), trained=numpy.zeros(n, bool)) for n in lengths)
    return Prompts(Examples(examples), [])


def policy(folder, settings, device=CPU):
    how = attention.NAME if settings.packing else None
    outlined = outline(ModelRef(base=str(folder)), device=device, report=Silent(), attention=how)
    return lora.prepare(outlined, settings)


def estimated(folder, settings, drawing=DRAWING, data=None, target=TARGET, steps=10):
    data = data or prompts(*range(20, 60))
    loaded = policy(folder, settings, CUDA if target.on_gpu else CPU)
    return rollout_estimate.estimate(loaded, settings, data, drawing, quant="none", target=target, steps=steps)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_token_leaves_in_the_cache_what_it_really_does(tiny_folder, precision):
    loaded = tiny_model.loaded(tiny_folder)
    cache = DynamicCache(config=loaded.model.config)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, precision == "bf16"):
        loaded.model(input_ids=torch.zeros(3, 10, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    assert cache_bytes(policy(tiny_folder, settings_of()), precision=precision) == held / 30


@pytest.mark.parametrize("kind", [settings_of(), GrpoSettings(dataset=("x",), reward=("exact",), max_tokens=40)])
def test_an_estimate_of_a_policy_adds_up(tiny_folder, kind):
    settings = replace(kind, precision="fp32")
    found = estimated(tiny_folder, settings, replace(DRAWING, beside=1e6, learning=33))
    parts, total = dict(found.parts), found.total
    assert not found.guessed
    assert parts["judge and heads"].low == 1e6
    for name in ("activations", "logits and loss", "keys and values of answers"):
        assert 0 < parts[name].low <= parts[name].expected <= parts[name].high
    steady = sum(parts[name].low for name in ("weights", "judge and heads", "optimizer"))
    assert steady + parts["activations"].low < total.low < total.expected < total.high
    assert parts["keys and values of answers"].expected == 32 * 256 * (39.5 + 40)
    assert parts["keys and values of answers"].high == 32 * 256 * (59 + 40)


def test_operations_are_those_of_reading_drawing_and_learning(tiny_folder):
    """A token of an answer: 2 a weight to be drawn, 2 for each other reading, 4 to 6 each time it is learnt from."""
    settings, data = settings_of(batch=16), prompts(*[44] * 64)
    found = estimated(tiny_folder, settings, data=data)
    linear = [module for module in policy(tiny_folder, settings).model.modules() if isinstance(module, torch.nn.Linear)]
    weights = sum(module.weight.numel() for module in linear[:-1])
    tokens = 10 * 64 * (44 + 20)  # answers are taken to be half as long as they may be
    least = tokens * weights * (2 * (1 + DRAWING.reads) + 4 * DRAWING.passes)
    assert least < found.operations < 2 * least
    steps = 10 * 2 * 40 * 0.75  # two batches a step, whose last answer ends after three quarters of what it may take
    weights = dict(found.parts)["weights"].low
    assert found.streamed.expected == pytest.approx(steps * (weights + 32 * 256 * (44 + 40) / 2), rel=0.01)


def test_the_larger_of_drawing_and_learning_counts(tiny_folder):
    settings = settings_of(batch=1)
    few, many = (estimated(tiny_folder, settings, replace(DRAWING, together=together)) for together in (1, 64))
    drawing, learning = ("keys and values of answers", "activations")
    for found, larger, smaller in ((many, drawing, learning), (few, learning, drawing)):
        parts = {name: part.low for name, part in found.parts}
        assert parts[smaller] < parts[larger] < found.total.low


@pytest.mark.parametrize("shape", [None, QWEN_7B])
def test_a_policy_takes_at_most_1_3_times_what_lora_takes(shape, tiny_folder, tmp_path):
    """The reward adapter, of rank 16 as well, lies beside the policy's over the same frozen weights."""
    folder, target = tiny_folder, TARGET
    if shape:
        folder, target = tiny_model.write(tmp_path / "qwen", "qwen2"), CARD
        (folder / "model.safetensors").unlink()
        layers = {"num_hidden_layers": LAYERS, "layer_types": ["full_attention"] * LAYERS}
        config = json.loads((folder / "config.json").read_text()) | shape | layers
        (folder / "config.json").write_text(json.dumps(config))
    settings = settings_of(precision=target.precision, max_tokens=64 if shape else 256)
    data = prompts(*range(50, 250, 5))
    device = CUDA if target.on_gpu else CPU
    loaded = policy(folder, settings, device)
    width = loaded.head.in_features
    beside = estimate.gradient_bytes(loaded.model) + 4 * (2 * width + 1)
    drawing = replace(DRAWING, beside=beside, learning=width + 1)
    found = rollout_estimate.estimate(loaded, settings, data, drawing, quant="none", target=target, steps=10)
    alone = rollout_estimate.imitating(policy(folder, settings, device), settings, data, quant="none", target=target)
    for name in ("low", "expected", "high"):
        theirs, ours = (attrgetter(name)(one) for one in (alone, found.total))
        assert 0.9 < ours / theirs <= 1.3, "the chunked loss of one may hold a little less than the other's"


def test_fewer_prompts_than_rows_are_asked_again(tiny_folder):
    found = estimated(tiny_folder, settings_of(batch=4), replace(DRAWING, together=4), data=prompts(30))
    assert dict(found.parts)["keys and values of answers"].high == 4 * 256 * (30 + 40)
