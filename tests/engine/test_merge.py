"""Merging without the model in memory gives the weights that peft gives with it, for every kind of adapter."""

import json
import shutil
import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from medcli.core.errors import ModelError, StorageError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import merge, skeleton, streamed_merge, weight_files
from medcli.engine.stages import false_alarms_off
from tests import families, tiny_model
from tests.engine import small_adapters

BOTH = ["embed_tokens", "lm_head"]
KINDS = {
    "lora": {"target_modules": "all-linear"},
    "rslora": {"target_modules": "all-linear", "use_rslora": True},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "patterns": {
        "target_modules": ["q_proj", "o_proj"],
        "rank_pattern": {"q_proj": 3},
        "alpha_pattern": {"layers.1.self_attn.o_proj": 5},
        "layers_to_transform": [1],
    },
    "biases": {"target_modules": ["q_proj", "k_proj"], "bias": "all"},
    "whole embeddings": {"target_modules": ["v_proj"], "modules_to_save": BOTH, "ensure_weight_tying": True},
    "negative rank scale": {"target_modules": ["v_proj"], "lora_alpha": -3},
}
UNTIED = {
    "lora on embeddings": {"target_modules": ["q_proj", *BOTH]},
    "dora on embeddings": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "one whole embedding": {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """`base("glm")` is the folder of a model with random weights, made once."""

    @cache
    def made(family, **shape):
        folder = tmp_path_factory.mktemp(family) / "model"
        if family in tiny_model.FAMILIES and not shape:
            return tiny_model.write(folder, family)
        return families.write(family, folder, **shape)

    return made


def by_peft(folder, *adapters):
    """The weights after peft has merged `adapters` in order, all in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for stage in adapters:
        with false_alarms_off():
            model = PeftModel.from_pretrained(model, stage).merge_and_unload()
    return dict(model.named_parameters(remove_duplicate=False))


def merged(folder, target, *adapters, weights=None):
    """The weights of the model that was merged without one in memory."""
    refs = [ModelRef(base=str(folder), adapters=adapters)]
    if weights:
        refs = [ModelRef(base=str(folder), adapters=(stage,)) for stage in adapters]
    target.mkdir()
    plan = streamed_merge.plan(list(zip(weights or [1.0], refs, strict=True)), Silent())
    plan.write(target, torch.float32, Silent())
    return weights_of(target)


def weights_of(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return dict(model.named_parameters(remove_duplicate=False))


def check_same(ours, theirs, rtol=1e-5, atol=1e-6):
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(
            ours[name], weight, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name} {text}"
        )


def check_streamed_as_peft(folder, tmp_path, *adapters):
    weights = merged(folder, tmp_path / "merged", *adapters)
    check_same(weights, by_peft(folder, *adapters))
    assert any(not torch.equal(weight, weights[name]) for name, weight in weights_of(folder).items())


@pytest.mark.parametrize("family", tiny_model.FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_adapter(base, tmp_path, family, kind):
    how = KINDS[kind]
    if family == "glm" and kind == "whole embeddings":
        how = {key: value for key, value in how.items() if key != "ensure_weight_tying"}
    check_streamed_as_peft(base(family), tmp_path, small_adapters.write(base(family), tmp_path / "adapter", **how))


@pytest.mark.parametrize("kind", UNTIED)
def test_embeddings_of_their_own(base, tmp_path, kind):
    folder = base("qwen3", tie_word_embeddings=False)
    check_streamed_as_peft(folder, tmp_path, small_adapters.write(folder, tmp_path / "adapter", **UNTIED[kind]))


@pytest.mark.parametrize(
    "kind", [{"target_modules": ["c_attn", "c_proj"]}, {"target_modules": ["c_fc"], "use_dora": True}]
)
def test_matrices_that_stand_the_other_way_round(base, tmp_path, kind):
    check_streamed_as_peft(
        base("gpt2"), tmp_path, small_adapters.write(base("gpt2"), tmp_path / "adapter", fan_in_fan_out=True, **kind)
    )


EXPERTS = {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("alike", [True, False])
def test_embeddings_in_common_must_be_changed_alike(base, tmp_path, alike):
    """Trained apart, input and output are no longer one tensor, which the merged model would have to say."""
    stage = small_adapters.write(
        base("qwen2"), tmp_path / "stage", target_modules=["v_proj"], modules_to_save=BOTH, ensure_weight_tying=alike
    )
    parts = [(1.0, ModelRef(base=str(base("qwen2")), adapters=(stage,)))]
    if alike:
        assert streamed_merge.plan(parts, Silent())
    else:
        with pytest.raises(skeleton.NotStreamed, match="in common"):
            streamed_merge.plan(parts, Silent())


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
def test_a_run_that_took_embeddings_apart_is_not_added_up(base, tmp_path):
    folder = base("qwen2")
    one = small_adapters.write(folder, tmp_path / "one", target_modules=["v_proj"])
    two = small_adapters.write(folder, tmp_path / "two", target_modules=["v_proj"], modules_to_save=["embed_tokens"])
    parts = [(1.0, ModelRef(base=str(folder), adapters=(stage,))) for stage in (one, two)]
    (tmp_path / "merged").mkdir()
    with pytest.raises(ModelError, match="a tensor of its own"):
        merge.merge(parts, tmp_path / "merged", [], "auto", "cpu", Silent())


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_experts(base, tmp_path, family):
    """Stored one by one they are one tensor in the model: the adapter's, which is cut up."""
    check_streamed_as_peft(base(family), tmp_path, small_adapters.write(base(family), tmp_path / "adapter", **EXPERTS))


def test_names_that_are_others_in_the_files(base, tmp_path):
    folder = base("gemma3")
    check_streamed_as_peft(
        folder, tmp_path, small_adapters.write(folder, tmp_path / "adapter", target_modules=r".*language_model.*q_proj")
    )


def test_what_a_vocabulary_run_saves_and_pissa(base, tmp_path):
    """A PiSSA adapter is stored as one for the untouched weights, of twice the rank."""
    folder = base("qwen2")
    first, last = tmp_path / "first", tmp_path / "last"
    how = LoraConfig(task_type="CAUSAL_LM", r=3, target_modules="all-linear", init_lora_weights="pissa")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), how)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(first)
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.add_(torch.randn_like(weight) * 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of the very thing that the conversion mends
        model.save_pretrained(last, path_initial_model_for_weight_conversion=str(first))
    check_streamed_as_peft(folder, tmp_path, last)


def test_stages_are_laid_on_in_order(base, tmp_path):
    """An adapter, then tensors that take the place of what it made, then DoRA, which looks at both."""
    folder = base("llama")
    one = small_adapters.write(folder, tmp_path / "one", target_modules="all-linear")
    names = ["model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"]
    two = small_adapters.write_tensors(folder, tmp_path / "two", names)
    three = small_adapters.write(folder, tmp_path / "three", seed=3, target_modules="all-linear", use_dora=True)
    weights = merged(folder, tmp_path / "merged", one, two, three)
    expected = merge.merged_in_memory([(1.0, ModelRef(base=str(folder), adapters=(one, two, three)))],
                                      torch.device("cpu"), Silent())  # fmt: skip
    check_same(weights, dict(expected.model.named_parameters(remove_duplicate=False)))
    tensors = load_file(two / "trained.safetensors")
    assert torch.equal(weights["lm_head.weight"], tensors["model.embed_tokens.weight"])
    assert not torch.equal(weights[names[0]], tensors[names[0]])  # the third stage is above it


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1.0, 1.0), (0.5, -0.25)])
def test_runs_are_added_up_by_weight(base, tmp_path, weights):
    """Against the plain formula: W + sum of weight x alpha / rank x B A."""
    folder = base("llama")
    stages = [
        small_adapters.write(folder, tmp_path / str(seed), seed=seed, target_modules=targets, r=seed + 2)
        for seed, targets in enumerate((["q_proj", "up_proj"], ["q_proj", "down_proj"]))
    ]
    ours = merged(folder, tmp_path / "merged", *stages, weights=weights)
    theirs = {name: value.detach().clone() for name, value in weights_of(folder).items()}
    for weight, stage in zip(weights, stages, strict=True):
        tensors = load_file(stage / "adapter_model.safetensors")
        config = json.loads((stage / "adapter_config.json").read_text())
        for key in (key for key in tensors if "lora_A" in key):
            name = key.removeprefix("base_model.model.").replace("lora_A.", "")
            scale = weight * config["lora_alpha"] / config["r"]
            theirs[name] += scale * tensors[key.replace("lora_A", "lora_B")] @ tensors[key]
    check_same(ours, theirs)
    refs = [ModelRef(base=str(folder), adapters=(stage,)) for stage in stages]
    in_memory = merge.merged_in_memory(list(zip(weights, refs, strict=True)), torch.device("cpu"), Silent())
    check_same(dict(in_memory.model.named_parameters(remove_duplicate=False)), theirs)


def test_dora_and_whole_modules_are_added_up_as_differences(base, tmp_path):
    folder = base("qwen3", tie_word_embeddings=False)
    one = small_adapters.write(folder, tmp_path / "one", **UNTIED["dora on embeddings"])
    two = small_adapters.write(folder, tmp_path / "two", seed=1, **UNTIED["one whole embedding"])
    ours = merged(folder, tmp_path / "merged", one, two, weights=(0.25, 0.5))
    before, first, second = by_peft(folder), by_peft(folder, one), by_peft(folder, two)
    check_same(ours, {n: w + 0.25 * (first[n] - w) + 0.5 * (second[n] - w) for n, w in before.items()})


class Noting(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


IN_MEMORY = {
    "which the base has in common": LoraConfig(target_modules=["q_proj", "embed_tokens"]),
    "LoRA of a kind that is not known": LoraConfig(target_modules=["q_proj"], lora_bias=True),
    "is no LoRA adapter": IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "does not belong to the base weights": LoraConfig(target_modules=["q_proj"], init_lora_weights="olora"),
}


@pytest.mark.parametrize("reason", IN_MEMORY)
def test_what_is_not_known_is_merged_in_memory_and_said(base, tmp_path, reason):
    folder, stage, target = base("qwen2"), tmp_path / "stage", tmp_path / "merged"
    config = IN_MEMORY[reason]
    config.task_type = "CAUSAL_LM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied weights
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(stage)
        target.mkdir()
        report = Noting()
        made = merge.merge([(1.0, ModelRef(base=str(folder), adapters=(stage,)))], target, [], "auto", "cpu", report)
    assert not made.streamed
    assert any("in memory" in note and reason in note for note in report.notes), report.notes
    assert (target / "model.safetensors").is_file()


def in_half(folder, target, keep=()):
    """The model of `folder` in bfloat16, but for those kept in float32, and with a tensor that the model has not."""
    shutil.copytree(folder, target)
    weights = load_file(folder / "model.safetensors")
    weights = {name: w if name in keep else w.bfloat16() for name, w in weights.items()}
    save_file({**weights, "model.mtp.extra": torch.arange(6)}, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    return target


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
def test_precision_is_the_bases_or_the_one_asked_for(base, tmp_path, dtype):
    norm = "model.norm.weight"
    folder = in_half(base("llama"), tmp_path / "base", keep=(norm,))
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear")
    parts, target = [(1.0, ModelRef(base=str(folder), adapters=(stage,)))], tmp_path / "merged"
    target.mkdir()
    made = merge.merge(parts, target, [], dtype, "cpu", Silent())
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    wanted = {"auto": torch.bfloat16}.get(dtype) or merge.DTYPES[dtype]
    assert {value.dtype for name, value in stored.items() if name.endswith("proj.weight")} == {wanted}
    assert stored[norm].dtype == torch.float32  # it was kept apart on purpose
    assert torch.equal(stored["model.mtp.extra"], torch.arange(6))
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == str(wanted).removeprefix("torch.")
    assert made.dtype == str(wanted).removeprefix("torch.")
    check_same(weights_of(target), by_peft(folder, stage), rtol=torch.finfo(wanted).eps)


def test_many_files_in_and_out(base, tmp_path):
    """A tensor that is larger than a file may be has one of its own; what is read back is the same."""
    single = base("llama")
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(single).save_pretrained(folder, max_shard_size="60KB")
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear", use_dora=True)
    plan = streamed_merge.plan([(1.0, ModelRef(base=str(folder), adapters=(stage,)))], Silent())
    target = tmp_path / "merged"
    target.mkdir()
    plan.write(target, torch.float32, Silent(), shard=70_000)
    files = sorted(target.glob("*.safetensors"))
    sizes = [sum(tensor.size for tensor in weight_files.contents(file).values()) for file in files]
    assert len(files) > 2
    assert sum(sizes) == plan.bytes(torch.float32)
    assert all(size <= 70_000 or len(weight_files.contents(file)) == 1 for size, file in zip(sizes, files, strict=True))
    check_same(weights_of(target), by_peft(single, stage))


def test_settings_are_those_that_transformers_writes(base, tmp_path):
    folder = shutil.copytree(base("glm"), tmp_path / "base")
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**generation, "max_new_tokens": 77}))
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear")
    parts = [(1.0, ModelRef(base=str(folder), adapters=(stage,)))]
    (tmp_path / "merged").mkdir()
    merge.merge(parts, tmp_path / "merged", [], "auto", "cpu", Silent())
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    for file in ("config.json", "generation_config.json"):
        ours, theirs = (json.loads((tmp_path / where / file).read_text()) for where in ("merged", "saved"))
        assert ours == theirs
    assert (tmp_path / "merged" / "chat_template.jinja").is_file()


def test_a_full_disk_is_seen_before_writing(tmp_path):
    (tmp_path / "part").mkdir()
    with pytest.raises(StorageError, match=r"needs 1048576.0 GiB, the disk has \d+"):
        merge.require_room(tmp_path / "part", 1 << 50)


def test_weights_of_few_bits_are_refused(base, tmp_path):
    folder = shutil.copytree(base("llama"), tmp_path / "base")
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="few bits") as error:
        merged(folder, tmp_path / "merged", stage)
    assert "base_model_name_or_path" in error.value.hint


def test_a_damaged_file_is_named(base, tmp_path):
    folder = shutil.copytree(base("llama"), tmp_path / "base")
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1000])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        merged(folder, tmp_path / "merged", stage)


def test_an_adapter_of_another_model_is_refused(base, tmp_path):
    wide = families.write("llama", tmp_path / "wide", hidden_size=96)
    stage = small_adapters.write(wide, tmp_path / "stage", target_modules="all-linear")
    (tmp_path / "merged").mkdir()
    parts = [(1.0, ModelRef(base=str(base("llama")), adapters=(stage,)))]
    with pytest.raises(ModelError, match="does not fit"):
        merge.merge(parts, tmp_path / "merged", [], "auto", "cpu", Silent())


def test_the_proof_measures_what_rounding_does(base, tmp_path):
    folder = base("llama")
    stage = small_adapters.write(folder, tmp_path / "stage", target_modules="all-linear")
    parts = [(1.0, ModelRef(base=str(folder), adapters=(stage,)))]
    (tmp_path / "merged").mkdir()
    proof = merge.merge(parts, tmp_path / "merged", ["头痛怎么办？"], "bfloat16", "cpu", Silent()).proof
    assert 1e-4 < proof.log_probabilities < 1
    assert 1e-4 < proof.logits < 1


def test_places_are_left_out_where_the_way_is_not_known(base):
    """A matrix that loading changes on its way is not taken for one that it leaves alone."""
    folder = base("llama")
    model = skeleton.empty(str(folder), False)
    tensors = skeleton.stored(folder)
    whole = skeleton.places(model, tensors)
    assert whole.keys() == tensors.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    other = replace(tensors[name], shape=(16, 64))
    assert name not in skeleton.places(model, {**tensors, name: other})
