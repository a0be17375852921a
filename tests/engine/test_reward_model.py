"""A trained reward model: opened from wherever it lies, and the same reward for an answer however it is read."""

import json

import pytest
import torch
from safetensors.torch import load_file

from medcli.core.errors import DataError, ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.record import Preference
from medcli.core.report import Silent
from medcli.engine import attention
from medcli.engine.encode import Losses, encode_pairs
from medcli.engine.load import load
from medcli.engine.pack import flat
from tests import families
from tests.engine.small_rewards import (
    CPU,
    head_of,
    measured,
    opened,
    opened_scores,
    pairs,
    prepared,
    settings,
    trained,
    turns,
)
from tests.engine.small_runs import example


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models by the name of their family, made when asked for."""
    home = tmp_path_factory.mktemp("families")

    def folder(family):
        path = home / family
        return path if path.exists() else families.write(family, path)

    return folder


@pytest.mark.parametrize("family", ["llama", "qwen2", "glm", "gpt2", "gemma2"])
def test_rewards_are_the_same_packed_padded_and_alone(models, family):
    batch = flat([pairs()[index] for index in range(4)])
    packed = prepared(models(family), settings())
    padded = prepared(models(family), settings(packing=False))
    alone = [opened_scores(packed, [one])[0] for one in batch]
    by_hand = []
    with torch.no_grad(), attention.own(padded.causal_lm):
        classifier = padded.causal_lm
        body = classifier.get_submodule(classifier.base_model_prefix)
        for one in batch:
            hidden = body(torch.from_numpy(one.ids)[None].long()).last_hidden_state[0, -1]
            by_hand.append(float(hidden @ head_of(padded)[0]))
    assert opened_scores(packed, batch) == pytest.approx(by_hand, abs=1e-5)
    assert alone == pytest.approx(by_hand, abs=1e-5)
    losses = {
        name: measured(model, settings(packing=name), batch).loss for name, model in ((True, packed), (False, padded))
    }
    assert losses[True].item() == pytest.approx(losses[False].item(), abs=1e-4)
    spread = max(by_hand) - min(by_hand)
    assert spread > 0.1  # else nothing was compared


@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_a_classifier_that_transformers_lacks_is_put_together(models, tmp_path, tuner):
    loaded, _ = trained(models("internlm3"), tmp_path, settings(tuner=tuner, max_steps=1))
    batch = flat([pairs()[index] for index in range(2)])
    found = opened(tmp_path / ("adapter" if tuner == "lora" else "model"))
    assert found.scores(batch) == pytest.approx(opened_scores(loaded, batch), abs=1e-6)


@pytest.mark.parametrize("family", ["bloom", "stablelm"])
def test_what_cannot_pack_is_judged_in_padded_rows(models, family, tmp_path):
    with pytest.raises(ModelError, match="rows without padding") as error:
        prepared(models(family), settings())
    assert "--no-packing" in error.value.hint
    trained(models(family), tmp_path / "run", settings(packing=False, max_steps=1))
    batch = flat([pairs()[index] for index in range(4)])
    found = opened(tmp_path / "run" / "adapter")
    assert found.scores(batch) == pytest.approx([found.scores([one])[0] for one in batch], abs=1e-5)


def test_an_adapter_says_what_it_is(tiny_folder, tmp_path):
    trained(tiny_folder, tmp_path, settings(max_steps=1))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert config["base_model_name_or_path"] == str(tiny_folder)
    assert any("score" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert resolve(str(tmp_path / "adapter")).is_reward
    assert not ModelRef(base=str(tiny_folder)).is_reward


def test_a_whole_one_is_a_plain_classifier_for_all_tools(tiny_folder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    trained(tiny_folder, tmp_path, settings(tuner="full"))
    folder = tmp_path / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert plain.config.num_labels == 1
    one = flat([pairs()[0]])[0]
    plain.config.pad_token_id = 0  # or the last token, which is the padding's too, would not be read
    with torch.no_grad():
        expected = float(plain(torch.from_numpy(one.ids)[None].long()).logits)
    assert resolve(str(folder)).is_reward
    assert opened(folder).scores([one]) == pytest.approx([expected], abs=1e-6)


def test_what_is_no_reward_model_is_refused(tiny_folder, tmp_path):
    with pytest.raises(ModelError, match="no reward model"):
        opened(tiny_folder)
    trained(tiny_folder, tmp_path, settings(tuner="full", max_steps=1))
    with pytest.raises(ModelError, match="does not speak"):
        load(resolve(str(tmp_path / "model")), device=CPU, report=Silent())
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"0": "LABEL_0"', '"0": "LABEL_0", "1": "LABEL_1"'))
    with pytest.raises(ModelError, match="2 classes"):
        opened(tmp_path / "model")


@pytest.fixture(scope="module")
def judge(tmp_path_factory, tiny_folder):
    """A reward model over the tiny model, and what it was trained from."""
    path = tmp_path_factory.mktemp("judge")
    trained(tiny_folder, path, settings(max_steps=2))
    return opened(path / "adapter")


def test_rewards_of_dialogues_are_those_of_the_training(judge):
    preference = Preference(id="1", prompt=tuple(turns("头痛怎么办")), chosen="多喝水", rejected="不知道", source="x")
    encoded = list(
        encode_pairs([preference], judge.loaded.template, judge.loaded.tokenizer, max_length=512, losses=Losses())
    )
    heard = []
    found = judge.rewards([turns("头痛怎么办", text) for text in ("多喝水", "不知道")], heard.append)
    assert found == judge.scores(encoded)
    assert heard[-1] == 2


def test_a_long_dialogue_loses_its_oldest_exchanges(judge):
    short = turns("头痛怎么办", "多喝水")
    found = judge.rewards([[*turns("好" * 400, "是" * 400), *short], short], lambda done: None)
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    with pytest.raises(DataError, match="reads at most 512"):
        judge.rewards([turns("头痛怎么办", "好" * 2000)], lambda done: None)
    with pytest.raises(DataError, match="no answer"):
        judge.rewards([turns("头痛怎么办")], lambda done: None)


def test_many_examples_are_judged_in_bounded_batches(judge):
    batch = [example(5 + index % 40, 2, index) for index in range(600)]
    heard = []
    found = judge.scores(batch, heard.append)
    assert len(heard) > 1
    assert heard[-1] == 600
    assert found[::150] == pytest.approx([judge.scores([one])[0] for one in batch[::150]], abs=1e-5)
