"""Models of every family that people fine-tune: two layers, 64 wide, random but alive, with the tiny tokenizer."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medcli.core import knowledge
from medcli.engine import tiny

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
WIDE = {"head_dim": 16}
WINDOW = {"sliding_window": 16}
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
}  # fmt: skip
LATENT = {
    "q_lora_rank": None, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
    "num_key_value_heads": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
TEXT = {**SHAPE, **WIDE, **WINDOW}
SEEING = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip

# These train in rows without padding.
PACKED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, **WINDOW},
    "qwen3": WIDE,
    "qwen3_moe": {**EXPERTS, **WIDE},
    "glm": WIDE,
    "glm4": WIDE,
    "glm4_moe": {**EXPERTS, **WIDE, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1},
    "internlm3": WIDE,
    "deepseek_v2": {**EXPERTS, **LATENT},
    "deepseek_v3": {**EXPERTS, **LATENT},
    "mistral": WINDOW,
    "mixtral": {**EXPERTS, **WINDOW},
    "gemma": WIDE,
    "gemma2": {**WIDE, **WINDOW, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 2.0},
    "gemma3_text": {**WIDE, **WINDOW},
    "gemma3": {"text_config": TEXT, "vision_config": SEEING, "mm_tokens_per_image": 4},
    "phi": {"num_key_value_heads": 4},
    "phi3": WINDOW,
    "gpt2": OLD,
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
}
# These need --no-packing, and say so.
PADDED: dict[str, dict[str, Any]] = {
    "bloom": OLD,  # its ALiBi counts positions itself
    "falcon": {},  # attention of its own
    "gptj": {**OLD, "rotary_dim": 8},
    "gpt_oss": {**EXPERTS, **WIDE, **WINDOW},  # learnt sinks beside the scores
    "qwen3_next": {**EXPERTS, **WIDE, **LINEAR},  # a state that runs on from document to document
    "stablelm": {},  # its layers do not hand on where documents end
}
MAMBA = {"state_size": 4, "expand": 1}  # recurrent: it keeps no keys and values


def write(family: str, folder: Path, **shape: Any) -> Path:
    """A model of `family`; `shape` overrides its configuration."""
    tokenizer = _tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    words = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": end, "pad_token_id": end}
    own = {**PACKED, **PADDED, "mamba": MAMBA}[family]
    if "text_config" in own:
        config = AutoConfig.for_model(family, **{**own, "text_config": {**own["text_config"], **words}, **words})
    else:
        config = AutoConfig.for_model(family, **{**SHAPE, **own, **words, **shape})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    _wake(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def _tokenizer() -> Any:
    facts = knowledge.facts(knowledge.table_path())
    return tiny.make_tokenizer([fact.say(knowledge.ANSWER) for fact in facts], vocabulary=800)


@torch.no_grad()
def _wake(model: Any) -> None:
    """Fresh weights are so small that attention hardly matters: a token seen wrongly would pass unnoticed."""
    table = model.get_input_embeddings().weight
    for weight in model.parameters():
        if weight is table:
            weight.mul_(10)
        elif weight.ndim > 1:
            weight.mul_(5)
        else:
            weight.add_(torch.randn_like(weight) * 0.1)
