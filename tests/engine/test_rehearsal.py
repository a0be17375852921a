"""What is counted without numbers is what real tensors hold and compute."""

from contextlib import ExitStack
from dataclasses import replace

import numpy
import pytest
import torch

from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import attention
from medcli.engine.checkpointing import checkpointed
from medcli.engine.loss import head_in_loss
from medcli.engine.outline import outline
from medcli.engine.pack import Example, padded, side_by_side
from medcli.engine.rehearsal import HALVES, rehearse
from medcli.methods import freeze, full, lora, ptuning
from tests import tiny_model

KINDS = {
    "lora": (lora, {}),
    "lora of all kinds": (lora, {"dora": True, "modules_to_save": ("embed_tokens", "lm_head"), "packing": False}),
    "freeze": (freeze, {"layers": "last:1"}),
    "full": (full, {}),
    "full, padded": (full, {"packing": False}),
    "prefix": (ptuning, {"length": 4, "packing": False}),
    "lora, checkpointed": (lora, {"checkpointing": True}),
    "full, checkpointed": (full, {"checkpointing": True}),
}


def settings_of(kind, precision):
    method, own = KINDS[kind]
    return method.Settings(**{"dataset": ("few",), "precision": precision} | own)


def examples():
    return [
        Example(ids=numpy.arange(4, 4 + length, dtype=numpy.int32), trained=numpy.arange(length) > length // 3)
        for length in (60, 90, 100)
    ]


def prepared(kind, folder, settings, *, real):
    how = attention.NAME if settings.packing else None
    if real:
        loaded = tiny_model.loaded(folder, how)
    else:
        loaded = outline(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), attention=how)
    return KINDS[kind][0].prepare(replace(loaded, prefix=0), settings)


def key(tensor):
    return tensor.untyped_storage().data_ptr()


def saved_before_head(loaded, settings):
    """Bytes kept for the backward when the head begins, weights not counted, of a real forward."""
    weights = {key(tensor) for tensor in [*loaded.model.parameters(), *loaded.model.buffers()]}
    kept, at_head = {}, []

    def pack(tensor):
        if key(tensor) not in weights:
            kept[key(tensor)] = tensor  # held, so that its address is not given to another
        return tensor

    def reached(*_):
        at_head.append(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))

    half = HALVES.get(settings.precision)
    with ExitStack() as stack:
        if settings.packing:
            stack.enter_context(head_in_loss(loaded.causal_lm))
        if settings.checkpointing:
            stack.enter_context(checkpointed(loaded))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        stack.enter_context(torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None))
        stack.callback(loaded.causal_lm.get_output_embeddings().register_forward_pre_hook(reached).remove)
        loaded.model.train()
        loaded.model(**(side_by_side(examples()) if settings.packing else padded(examples(), 0)))
    return at_head[0]


@pytest.mark.parametrize("kind", KINDS)
def test_an_outline_has_the_real_models_weights(tiny_folder, kind):
    settings = settings_of(kind, "bf16")
    outlined, loaded = (prepared(kind, tiny_folder, settings, real=real).model for real in (False, True))
    described = [
        {name: (weight.shape, weight.dtype, weight.requires_grad) for name, weight in model.named_parameters()}
        for model in (outlined, loaded)
    ]
    assert described[0] == described[1]
    assert all(weight.is_meta for weight in outlined.base_model.parameters() if not weight.requires_grad)


@pytest.mark.parametrize(
    ("kind", "precision"), [*((kind, "bf16") for kind in KINDS), ("lora", "fp32"), ("full", "fp32")]
)
def test_what_is_held_at_the_head_is_what_is_kept_for_the_backward(tiny_folder, kind, precision):
    settings = settings_of(kind, precision)
    loaded = prepared(kind, tiny_folder, settings, real=True)
    kept = saved_before_head(loaded, settings)
    step = rehearse(
        prepared(kind, tiny_folder, settings, real=False), settings, examples(), precision=precision, on_gpu=False
    )
    held = step.activations + step.copies
    # Beside it lie ids, tables of positions and the last hidden states; constants that the model made before do not.
    assert 0.99 * kept <= held <= 1.1 * kept + 2**17
    assert held < step.peak


def test_copies_are_the_matrices_that_learn(tiny_folder):
    settings = settings_of("full", "bf16")
    outlined = prepared("full", tiny_folder, settings, real=False)
    step = rehearse(outlined, settings, examples(), precision="bf16", on_gpu=True)
    linear = [module for module in outlined.model.modules() if isinstance(module, torch.nn.Linear)]
    head = outlined.model.get_output_embeddings()
    assert step.copies == sum(2 * module.weight.numel() for module in linear if module is not head)


def test_operations_are_six_a_weight_and_token(tiny_folder):
    """2 forward, 2 for the input's gradient and 2 for the weight's; of the head at the labelled positions only."""
    settings = settings_of("full", "fp32")
    outlined = prepared("full", tiny_folder, settings, real=False)
    step = rehearse(outlined, settings, examples(), precision="fp32", on_gpu=False)
    head = outlined.model.get_output_embeddings().weight.numel()
    linear = [module.weight.numel() for module in outlined.model.modules() if isinstance(module, torch.nn.Linear)]
    labelled = side_by_side(examples())["labels"].numel()
    positions = 2 * step.tokens * 8 // 2  # the angles of the positions, by a product with one column
    assert abs(step.products - 6 * (step.tokens * (sum(linear) - head) + labelled * head)) <= positions
    assert step.attention > 0


def test_checkpointing_takes_a_forward_more_and_less_memory(tiny_folder):
    plain, again = (
        rehearse(
            prepared(kind, tiny_folder, settings_of(kind, "fp32"), real=False),
            settings_of(kind, "fp32"), examples(), precision="fp32", on_gpu=False,
        )
        for kind in ("full", "full, checkpointed")
    )  # fmt: skip
    assert again.activations < plain.activations / 3
    assert again.peak < plain.peak
    assert 1.1 < again.products / plain.products < 4 / 3


def test_gradients_of_the_forward_before_are_held_too(tiny_folder):
    settings = settings_of("full", "fp32")
    one, two = (
        rehearse(
            prepared("full", tiny_folder, settings, real=False), replace(settings, accumulate=accumulate),
            examples(), precision="fp32", on_gpu=False,
        )
        for accumulate in (1, 2)
    )  # fmt: skip
    assert one.peak < two.peak


@pytest.mark.parametrize("kind", ["lora", "lora of all kinds"])
def test_a_rehearsal_leaves_nothing_behind(tiny_folder, kind):
    """Fake tensors in a weight's place or in a cache would meet the next real step."""
    settings = settings_of(kind, "fp32")
    loaded = prepared(kind, tiny_folder, settings, real=True)
    before = saved_before_head(loaded, settings)
    for _ in range(2):
        rehearse(loaded, settings, examples(), precision="bf16", on_gpu=True)
    assert saved_before_head(loaded, settings) == before
