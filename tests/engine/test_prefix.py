"""A prefix is read exactly once wherever a text is read, is saved as it is read, and is the only thing that learns."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from medcli.core.errors import ModelError, UsageError
from medcli.core.model_ref import ModelRef, prefix_length
from medcli.core.record import Conversation, Message
from medcli.core.report import Silent
from medcli.core.speaker import Sampling
from medcli.core.tuner_settings import PrefixSettings
from medcli.engine import prefix, trainer
from medcli.engine.likelihood import perplexity
from medcli.engine.load import load
from medcli.engine.speaker import LocalSpeaker
from medcli.engine.virtual_tokens import ENCODER
from medcli.methods.ptuning import Settings
from tests import families, tiny_model
from tests.engine import small_runs

CPU = torch.device("cpu")
LENGTH = 20
GREEDY = Sampling(max_tokens=16)
# Grouped heads, heads wider than hidden / heads, rotation of half a head, attention within a window of 16 tokens.
SHAPES = {"llama": {}, "qwen2": {}, "qwen3": {"head_dim": 32}, "glm": {}, "mistral": {}}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    home = tmp_path_factory.mktemp("bases")
    return {family: families.write(family, home / family, **shape) for family, shape in SHAPES.items()}


def wanted(**values):
    return PrefixSettings(**{"dataset": ("x",), "length": LENGTH, "precision": "fp32", **values})


def opened(base, *adapters, **given):
    ref = ModelRef(base=str(base), adapters=adapters)
    return load(ref, device=CPU, report=Silent(), template="med-tiny", **given)


def prefixed(base, folder, **values):
    """A random prefix as it is in training, and the folder it was saved to."""
    torch.manual_seed(1)
    made = prefix.prepare(opened(base), wanted(**values))
    for weight in made.model.prompt_encoder.parameters():
        weight.data.normal_()  # as large as the model's own keys and values
    prefix._save(made, folder)
    return made, folder


def logits(loaded, ids=(5, 6, 7, 8, 9)):
    with torch.no_grad():
        return loaded.model(input_ids=torch.tensor([ids])).logits


def ask(text):
    return [Message(role="user", content=text)]


def naive_answer(speaker, messages):
    """All is read again from its beginning for each token."""
    ids, said = speaker._prompt(messages), []
    while len(said) < GREEDY.max_tokens:
        token = int(logits(speaker.loaded, ids + said)[0, -1].argmax())
        if token in speaker.loaded.stops:
            break
        said.append(token)
    return speaker.loaded.tokenizer.decode(said, skip_special_tokens=True)


@pytest.mark.parametrize("family", SHAPES)
def test_answers_are_those_of_a_naive_reader(bases, tmp_path, family):
    _, folder = prefixed(bases[family], tmp_path / "prefix")
    speaker = LocalSpeaker(opened(bases[family], folder))
    prompts = [ask(text) for text in ("头痛", "高血压患者的注意事项有哪些？", "a" * 40, "咳嗽")]
    expected = [naive_answer(speaker, prompt).rstrip("\ufffd").lstrip() for prompt in prompts]
    assert any(expected)
    assert ["".join(speaker.reply(prompt, GREEDY)) for prompt in prompts] == expected
    assert speaker.replies(prompts, GREEDY, lambda done: None) == expected
    bare = LocalSpeaker(opened(bases[family]))
    assert bare.replies(prompts, GREEDY, lambda done: None) != expected


@pytest.mark.parametrize("projection", [False, True])
def test_what_was_saved_reads_bitwise_as_what_was_trained(bases, tmp_path, projection):
    made, folder = prefixed(bases["qwen3"], tmp_path / "prefix", projection=projection)
    again = opened(bases["qwen3"], folder)
    assert torch.equal(logits(made), logits(again))
    assert not torch.equal(logits(again), logits(opened(bases["qwen3"])))
    table = json.loads((folder / "adapter_config.json").read_text())
    assert table["prefix_projection"] is False  # its MLP is not needed any more
    saved = load_file(folder / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {
        "prompt_embeddings": (LENGTH, 2 * 2 * 2 * 32)  # layers, keys and values, key heads, head width
    }


def test_the_length_is_that_of_the_adapter_and_counts_in_the_context(bases, tmp_path):
    """An older tool trained 16 virtual tokens, and loaded 128."""
    _, folder = prefixed(bases["llama"], tmp_path / "prefix", length=16)
    loaded = opened(bases["llama"], folder)
    assert prefix_length(folder) == loaded.prefix == 16 != PrefixSettings(dataset=("x",)).length
    assert loaded.context == 512 - 16
    assert loaded.model.get_prompt(1).get_seq_length() == 16
    with pytest.raises(ModelError, match="reads at most 496"):
        list(LocalSpeaker(loaded).reply(ask("长" * 3000), GREEDY))


def test_perplexity_reads_the_prefix(bases, tmp_path):
    _, folder = prefixed(bases["llama"], tmp_path / "prefix")
    loaded = opened(bases["llama"], folder)
    dialogues = [
        Conversation(
            id=str(n), source="t", messages=(*ask("头痛" * n), Message(role="assistant", content="休息。" * n))
        )
        for n in (1, 4)
    ]
    _, _, means = perplexity(loaded, dialogues, Silent())
    _, _, bare = perplexity(opened(bases["llama"]), dialogues, Silent())
    for dialogue, mean, without in zip(dialogues, means, bare, strict=True):
        prompt = loaded.tokenizer(f"<|user|>{dialogue.messages[0].content}<|end|><|assistant|>")["input_ids"]
        answer = loaded.tokenizer(f"{dialogue.messages[1].content}<|end|>")["input_ids"]
        chances = logits(loaded, prompt + answer)[0, len(prompt) - 1 : -1].log_softmax(-1)
        nll = -chances[torch.arange(len(answer)), torch.tensor(answer)].mean().item()
        assert mean == pytest.approx(nll, rel=1e-4)
        assert mean != pytest.approx(without, rel=1e-4)


def test_nothing_but_the_prefix_learns(tiny_folder, tmp_path):
    settings = small_runs.settings("ptuning")
    loaded = small_runs.prepared(tiny_folder, settings, "ptuning")
    learning = {name for name, weight in loaded.model.named_parameters() if weight.requires_grad}
    assert learning == {"prompt_encoder.default.embedding.weight"}
    small_runs.train(tiny_folder, tmp_path / "run", settings, "ptuning", touch=lambda model: models.append(model))
    before = tiny_model.loaded(tiny_folder).model.state_dict()
    after = models[0].get_base_model().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


models = []


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("step", [2, 4])  # in the first epoch of three steps, and in the second
def test_resume_is_bitwise(tiny_folder, tmp_path, projection, step):
    """N steps = k, stop, resume, N - k; with a projection its MLP goes on too, which peft would not save."""
    values = {"max_steps": 6, "save_every": step, "keep_checkpoints": 9, "projection": projection}
    settings = small_runs.settings("ptuning", **values)
    small_runs.train(tiny_folder, tmp_path / "straight", settings, "ptuning")
    at = f"checkpoints/checkpoint-{step}"
    shutil.copytree(tmp_path / "straight" / at, tmp_path / "resumed" / at)
    outcome = small_runs.train(tiny_folder, tmp_path / "resumed", settings, "ptuning")
    assert outcome.steps == 6
    assert small_runs.same(small_runs.saved(tmp_path / "straight"), small_runs.saved(tmp_path / "resumed"))
    encoder = load_file(tmp_path / "straight" / at / ENCODER)
    assert any("transform" in name for name in encoder) is projection


def test_continue_begins_with_the_prefix_that_was_learnt(bases, tmp_path):
    made, folder = prefixed(bases["llama"], tmp_path / "prefix", projection=True)
    again = prefix.prepare(opened(bases["llama"], folder), wanted(continue_run=True))
    assert torch.equal(logits(made), logits(again))
    logits_of_training = again.model(input_ids=torch.tensor([[5, 6, 7]])).logits
    logits_of_training.sum().backward()
    learning = {name: weight for name, weight in again.model.named_parameters() if weight.requires_grad}
    assert list(learning) == ["prompt_encoder.default.embedding.weight"]
    assert all(weight.grad is not None for weight in learning.values())
    prefix._save(again, tmp_path / "second")
    assert small_runs.same(*(load_file(tmp_path / name / "adapter_model.safetensors") for name in ("prefix", "second")))
    with pytest.raises(UsageError, match="has 20 virtual tokens, not 8") as error:
        prefix.prepare(opened(bases["llama"], folder), wanted(continue_run=True, length=8))
    assert "--prefix-length 20" in error.value.hint
    with pytest.raises(UsageError, match="no prefix"):
        prefix.prepare(opened(bases["llama"]), wanted(continue_run=True))


@pytest.mark.parametrize("given", [{"merge": True}, {"trainable": True}], ids=["another method", "lora --continue"])
def test_nothing_is_stacked_on_a_prefix(bases, tmp_path, given):
    _, folder = prefixed(bases["llama"], tmp_path / "prefix")
    with pytest.raises(ModelError, match="nothing can be stacked on it"):
        opened(bases["llama"], folder, **given)


def test_noise_on_the_embeddings_is_noise_beside_the_prefix(tiny_folder, tmp_path):
    """NEFTune works, for the noise is on the text's embeddings; the validation has none."""
    valid = small_runs.examples(4, seed=9)
    outcomes = [
        small_runs.train(
            tiny_folder, tmp_path / str(alpha), small_runs.settings("ptuning", neftune=alpha, max_steps=1, log_every=1),
            "ptuning", valid=valid,
        ).figures
        for alpha in (0.0, 50.0)
    ]  # fmt: skip
    assert outcomes[0]["loss"] != outcomes[1]["loss"]
    assert outcomes[0]["eval_loss"] == pytest.approx(outcomes[1]["eval_loss"], abs=0.02)


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next"])
def test_a_model_that_takes_no_prefix_is_told(tmp_path, family):
    base = families.write(family, tmp_path / family)
    with pytest.raises(ModelError, match="take no prefix") as error:
        prefix.prepare(opened(base), wanted())
    assert "lora" in error.value.hint


def test_a_model_that_ignores_its_prefix_is_told(bases):
    loaded = opened(bases["llama"])
    for layer in loaded.model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    with pytest.raises(ModelError, match="does not read a prefix"):
        prefix.prepare(loaded, wanted())


def test_the_rate_is_one_that_the_way_of_learning_bears():
    assert Settings(dataset=("x",)).learning_rate == 2e-2
    assert Settings(dataset=("x",), projection=True).learning_rate == 5e-3
    assert Settings(dataset=("x",), projection=True, learning_rate=1e-3).learning_rate == 1e-3


def test_out_of_memory_the_advice_is_one_that_a_prefix_can_follow():
    assert "--checkpointing" in trainer._smaller(small_runs.settings("lora"))
    assert "--checkpointing" not in trainer._smaller(small_runs.settings("ptuning"))


def test_a_new_prefix_begins_near_to_nothing(bases):
    weights = prefix.prepare(opened(bases["llama"]), wanted(length=128)).model.prompt_encoder.default.embedding.weight
    assert float(weights.detach().std()) == pytest.approx(prefix.STD, rel=0.1)


@pytest.mark.parametrize(
    ("given", "said", "fix"),
    [
        ({"packing": True}, "--packing", "--no-packing"),
        ({"checkpointing": True}, "--checkpointing", "--no-checkpointing"),
        ({"hidden": 8}, "--hidden", "--projection"),
        ({"continue_run": True, "projection": True}, "--continue", "--no-projection"),
    ],
)
def test_what_would_lose_the_prefix_is_one_message(given, said, fix):
    with pytest.raises(UsageError, match=said) as error:
        Settings(dataset=("x",), **given)
    assert fix in error.value.hint
