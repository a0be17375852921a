"""LoRA+ and what else an adapter brings along."""

import torch

from medcli.core.tuner_settings import LoraSettings
from medcli.engine import lora
from tests import tiny_model


def test_lora_plus_lets_the_b_matrices_learn_faster(tiny_folder):
    settings = LoraSettings(dataset=("x",), rate_ratio=16, weight_decay=0.1, precision="fp32")
    adapted = lora.prepare(tiny_model.loaded(tiny_folder), settings)
    make = lora.optimizer_of(settings)
    groups = make(adapted.model, torch.optim.AdamW, {"lr": 1e-3}).param_groups
    rate = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    decay = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
    learning = {name: weight for name, weight in adapted.model.named_parameters() if weight.requires_grad}
    assert rate.keys() == {id(weight) for weight in learning.values()}
    for name, weight in learning.items():
        assert rate[id(weight)] == (1.6e-2 if "lora_B" in name else 1e-3), name
        assert decay[id(weight)] == 0.1


def test_without_a_ratio_the_usual_optimizer_serves(tiny_folder):
    assert lora.optimizer_of(LoraSettings(dataset=("x",))) is None


def test_modules_saved_whole_learn_beside_the_adapters(tiny_folder):
    settings = LoraSettings(dataset=("x",), modules_to_save=("embed_tokens", "lm_head"), precision="fp32")
    adapted = lora.prepare(tiny_model.loaded(tiny_folder), settings)
    learning = [name for name, weight in adapted.model.named_parameters() if weight.requires_grad]
    assert any("embed_tokens" in name for name in learning)
    assert any("lora_A" in name for name in learning)
    head, embedding = adapted.model.get_output_embeddings(), adapted.model.get_input_embeddings()
    assert head.weight is embedding.weight  # tied in the base, tied in what is saved
