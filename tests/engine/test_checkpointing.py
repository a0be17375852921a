"""Gradient checkpointing: the same numbers with less kept, and only where a gradient passes."""

from dataclasses import replace

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from medcli.core.errors import ModelError
from medcli.engine.checkpointing import checkpointed
from medcli.engine.loss import head_in_loss
from medcli.engine.pack import on_device, padded, side_by_side
from tests.engine import small_runs
from tests.engine.small_runs import saved, settings, train

EXAMPLES = [small_runs.example(length, 3, length) for length in (40, 61, 17)]


def step_of(loaded, wanted):
    """Loss, gradients, and the bytes kept between forward and backward of one batch."""
    torch.manual_seed(5)
    loaded.model.train()
    loaded.model.zero_grad()
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    collate = side_by_side(EXAMPLES) if wanted.packing else padded(EXAMPLES, 0)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loaded.model(**on_device(collate, torch.device("cpu"))).loss
    weights = {id(weight.data_ptr()) for weight in loaded.model.parameters()}
    size = sum(count for place, count in kept.items() if place not in weights)
    loss.backward()
    gradients = {name: w.grad.clone() for name, w in loaded.model.named_parameters() if w.grad is not None}
    return loss.detach(), gradients, size


KINDS = {
    "lora": ("lora", {"dropout": 0.3}),
    "dora": ("lora", {"dora": True}),
    "embeddings": ("lora", {"modules_to_save": ("embed_tokens", "lm_head")}),
    "padded": ("lora", {"packing": False}),
    "full": ("full", {}),
    "first": ("freeze", {"layers": "first:1"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_loss_and_gradients_with_less_kept(tiny_folder, kind):
    tuner, words = KINDS[kind]
    wanted = settings(tuner, **words)
    loaded = small_runs.prepared(tiny_folder, wanted, tuner)
    with head_in_loss(loaded.causal_lm) if wanted.packing else torch.enable_grad():
        loss, gradients, size = step_of(loaded, wanted)
        with checkpointed(loaded):
            again, computed, smaller = step_of(loaded, wanted)
        _, _, after = step_of(loaded, wanted)
    assert torch.equal(loss, again)
    assert small_runs.same(gradients, computed)
    assert smaller < 0.6 * size, (smaller, size)
    assert after > 1.5 * smaller  # nothing of it is left


def checkpointed_layers(loaded):
    """The layers that are computed again, by their number."""
    layers = [module for name, module in loaded.causal_lm.named_modules() if name.rpartition(".")[0].endswith("layers")]
    with checkpointed(loaded):
        return [number for number, layer in enumerate(layers) if layer.gradient_checkpointing]


@pytest.mark.parametrize(("layers", "expected"), [("last:1", [1]), ("first:1", [0, 1]), ("all", [0, 1])])
def test_the_frozen_trunk_is_left_alone(tiny_folder, layers, expected):
    loaded = small_runs.prepared(tiny_folder, settings("freeze", layers=layers), "freeze")
    assert checkpointed_layers(loaded) == expected


def test_an_embedding_that_learns_needs_every_layer(tiny_folder):
    loaded = small_runs.prepared(tiny_folder, settings("freeze"), "freeze")
    loaded.model.get_input_embeddings().requires_grad_(True)
    assert checkpointed_layers(loaded) == [0, 1]


def test_quantised_layers_are_computed_again(tiny_folder, tmp_path):
    from medcli.core.model_ref import ModelRef
    from medcli.core.report import Silent
    from medcli.engine import attention, lora
    from medcli.engine.load import load

    wanted = settings(quant="4bit")
    loaded = load(
        ModelRef(base=str(tiny_folder)), device=torch.device("cpu"), report=Silent(), attention=attention.NAME,
        quant="4bit",
    )  # fmt: skip
    loaded = lora.prepare(loaded, wanted)
    with head_in_loss(loaded.causal_lm):
        loss, gradients, size = step_of(loaded, wanted)
        with checkpointed(loaded):
            again, computed, smaller = step_of(loaded, wanted)
    assert torch.equal(loss, again)
    assert small_runs.same(gradients, computed)
    assert smaller < size


def test_a_model_without_such_layers_is_refused(tiny_folder):
    loaded = small_runs.prepared(tiny_folder, settings())
    config = loaded.causal_lm.config
    plain = torch.nn.Linear(2, 2)
    plain.config = config
    with (
        pytest.raises(ModelError, match="--checkpointing|compute its activations"),
        checkpointed(replace(loaded, model=plain)),
    ):
        pass


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_whole_runs_are_the_same(tiny_folder, tmp_path, precision):
    for name, on in {"kept": False, "again": True}.items():
        wanted = settings(dropout=0.2, neftune=5.0, checkpointing=on, precision=precision, accumulate=2)
        train(tiny_folder, tmp_path / name, wanted)
    assert small_runs.same(saved(tmp_path / "kept"), saved(tmp_path / "again"))
