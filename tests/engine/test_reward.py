"""The reward model: its head learns and comes back, its loss is the field's, its rewards are read where answers end."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from medcli.core.alignment_settings import RewardSettings
from medcli.core.errors import DataError, ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.record import Message, Preference
from medcli.core.report import Silent
from medcli.core.run_folder import RunFolder
from medcli.engine import attention, reward
from medcli.engine import device as devices
from medcli.engine.encode import Losses, encode_pairs
from medcli.engine.load import load
from medcli.engine.outline import outline
from medcli.engine.pack import NOTHING, Example, Examples, Pairs, flat
from medcli.engine.reward_model import open_reward_model
from tests import families
from tests.conftest import shared
from tests.engine.small_runs import example, same, saved

CPU = torch.device("cpu")
STEPS = ["--batch", 4, "--valid-limit", 4, "--precision", "fp32", "--max-length", 128]


def settings(**values):
    given = {"dataset": ("few",), "batch": 4, "precision": "fp32", "learning_rate": 3e-3, "schedule": "constant"}
    return RewardSettings(**given | {"warmup": 0.0, "max_steps": 2, "save_every": 100, **values})


def pairs(count=8, seed=0):
    """Pairs of unequal lengths, each ending with the end token, which is the padding's too."""
    made = [example(7 + (5 * n + seed) % 11, 4, seed + n) for n in range(2 * count)]
    return Pairs(Examples(Example(ids=ended(one.ids), trained=one.trained) for one in made))


def ended(ids):
    ids[-1] = 3
    return ids


def prepared(folder, wanted):
    devices.seed_all(wanted.seed)
    name = attention.NAME if wanted.packing else None
    ref = ModelRef(base=str(folder))
    return reward.prepare(load(ref, device=CPU, report=Silent(), attention=name, quant=wanted.quant), wanted)


def measured(loaded, wanted, examples):
    objective = reward.PairwiseReward(loaded, wanted)
    with objective.laid_over():
        return objective.measure(loaded.model, objective.collate(examples))


def trained(folder, path, wanted, data=None):
    loaded = prepared(folder, wanted)
    path.mkdir(parents=True, exist_ok=True)
    return loaded, reward.train(loaded, data or pairs(), pairs(4, 50), wanted, RunFolder(path), Silent())


def opened(path):
    return open_reward_model(resolve(str(path)), device="cpu", report=Silent())


def head_of(loaded):
    """The head's weight, that which learns where peft keeps two."""
    named = [
        weight for name, weight in loaded.model.named_parameters() if name.endswith(("default.weight", "score.weight"))
    ]
    return next(weight for weight in named if weight.shape[0] == 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models by the name of their family, made when asked for."""
    home = tmp_path_factory.mktemp("families")

    def folder(family):
        path = home / family
        return path if path.exists() else families.write(family, path)

    return folder


def test_the_loss_is_that_of_trls_trainer(tiny_folder, tmp_path):
    """On the same padded batch, with padding unlike the end token, for TRL reads the last token that is no padding."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    wanted = settings(tuner="full", packing=False, margin=0.5, centring=0.3)
    loaded, batch = prepared(tiny_folder, wanted), flat([pairs()[index] for index in range(8)])
    ours = measured(loaded, wanted, batch)
    ours.loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in loaded.model.named_parameters()}
    loaded.model.zero_grad()
    loaded.model.config.pad_token_id = 0
    rows = [
        {"chosen_ids": better.ids.tolist(), "rejected_ids": worse.ids.tolist(), "margin": 0.5}
        for better, worse in zip(batch[::2], batch[1::2], strict=True)
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder, pad_token="<|user|>")
    how = RewardConfig(
        output_dir=str(tmp_path),
        center_rewards_coefficient=0.3,
        bf16=False,
        use_cpu=True,
        report_to="none",
        activation_checkpointing=False,
    )
    trl = RewardTrainer(loaded.model, how, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    loaded.model.config.pad_token_id = tokenizer.pad_token_id
    theirs = trl.compute_loss(loaded.model, trl.data_collator(rows))
    theirs.backward()
    assert ours.loss.item() / 8 == pytest.approx(theirs.item(), abs=1e-5)
    for name, weight in loaded.model.named_parameters():
        assert torch.allclose(gradients[name] / 8, weight.grad, atol=1e-5), name


def test_margin_centring_and_figures_are_the_formulas(tiny_folder):
    batch = [*flat([pairs()[index] for index in range(3)]), *[pairs()[0][0]] * 2]  # the last pair is a tie
    plain = settings(centring=0.0)
    loaded = prepared(tiny_folder, plain)
    values = opened_scores(loaded, batch)
    both = [(values[index], values[index + 1]) for index in range(0, len(batch), 2)]

    def loss(margin, centring):
        return sum(math.log1p(math.exp(w - b + margin)) + centring * (b + w) ** 2 for b, w in both)

    for margin, centring in ((0.0, 0.0), (0.7, 0.0), (0.0, 0.1), (0.7, 0.1)):
        part = measured(loaded, replace(plain, margin=margin, centring=centring), batch)
        assert part.loss.item() == pytest.approx(loss(margin, centring), abs=1e-5)
    assert part.count == 4
    right = sum(b > w for b, w in both[:3]) + 0.5
    assert float(part.figures["accuracy"]) == pytest.approx(right)
    assert float(part.figures["margin"]) == pytest.approx(sum(b - w for b, w in both), abs=1e-5)
    assert float(part.figures["reward"]) == pytest.approx(sum(values) / 2, abs=1e-5)


def opened_scores(loaded, batch):
    from medcli.engine.reward_model import RewardModel

    return RewardModel(loaded).scores(batch)


def test_a_batch_of_nothing_is_a_zero_that_reaches_every_weight(tiny_folder):
    """Other processes wait for its gradients."""
    for packing in (True, False):
        wanted = settings(packing=packing)
        loaded = prepared(tiny_folder, wanted)
        part = measured(loaded, wanted, [NOTHING])
        part.loss.backward()
        assert (part.loss.item(), part.count) == (0.0, 0)
        assert all(weight.grad is not None for weight in loaded.model.parameters() if weight.requires_grad)


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


def test_an_architecture_without_a_classifier_is_refused(models):
    with pytest.raises(ModelError, match="no sequence classifier") as error:
        prepared(models("mamba"), settings(packing=False))
    assert "choose another base" in error.value.hint


def test_a_new_head_is_drawn_by_the_seed_in_float32(tiny_folder):
    one, again, other = (head_of(prepared(tiny_folder, settings(seed=seed))) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32
    many = torch.cat([head_of(prepared(tiny_folder, settings(tuner="full", seed=seed))) for seed in range(6)])
    assert many.std().item() == pytest.approx(1 / math.sqrt(32 + 1), rel=0.15)


@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_the_head_learns_and_comes_back(tiny_folder, tmp_path, tuner):
    """The classic trap: peft leaves a classifier's head frozen at random, and draws another one at the next start."""
    wanted = settings(tuner=tuner)
    fresh = head_of(prepared(tiny_folder, wanted)).clone()
    loaded, _ = trained(tiny_folder, tmp_path, wanted)
    learnt = head_of(loaded)
    assert learnt.requires_grad
    assert not torch.equal(fresh, learnt)
    assert not any("lora" in name and "score" in name for name, _ in loaded.model.named_parameters())
    found = opened(tmp_path / ("adapter" if tuner == "lora" else "model"))
    assert torch.equal(head_of(found.loaded), learnt)
    batch = flat([pairs()[0], pairs()[1]])
    assert found.scores(batch) == pytest.approx(opened_scores(loaded, batch), abs=1e-6)


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


@pytest.mark.parametrize(
    "values",
    [
        {"precision": "bf16"},
        {"precision": "bf16", "tuner": "full", "packing": False},
        {"quant": "4bit"},
        {"dora": True, "packing": False},
    ],
    ids=str,
)
def test_every_kind_trains(tiny_folder, tmp_path, values):
    _, outcome = trained(tiny_folder, tmp_path, settings(**values))
    assert math.isfinite(outcome.figures["loss"])
    assert saved(tmp_path)


@pytest.mark.parametrize("packing", [True, False])
def test_checkpointing_changes_nothing(tiny_folder, tmp_path, packing):
    for name, on in (("kept", False), ("again", True)):
        trained(tiny_folder, tmp_path / name, settings(packing=packing, checkpointing=on, max_steps=2))
    one, other = saved(tmp_path / "kept"), saved(tmp_path / "again")
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("tuner", ["lora", "full"])
def test_resume_is_bitwise(tiny_folder, tmp_path, tuner):
    wanted = settings(tuner=tuner, max_steps=2, save_every=1, dropout=0.1 if tuner == "lora" else 0.0)
    trained(tiny_folder, tmp_path / "straight", wanted)
    shutil.copytree(tmp_path / "straight", tmp_path / "broken")
    for finished in ("adapter", "model", "checkpoints/checkpoint-2"):
        shutil.rmtree(tmp_path / "broken" / finished, ignore_errors=True)
    _, outcome = trained(tiny_folder, tmp_path / "broken", wanted)
    assert outcome.steps == 2
    assert same(saved(tmp_path / "straight"), saved(tmp_path / "broken"))


def test_an_outline_is_prepared_without_weights(tiny_folder):
    for tuner in ("lora", "full"):
        outlined = outline(ModelRef(base=str(tiny_folder)), device=CPU, report=Silent(), attention=attention.NAME)
        model = reward.prepare(outlined, settings(tuner=tuner)).model
        assert all(weight.is_meta for weight in model.parameters())


@pytest.fixture(scope="module")
def judge(tmp_path_factory, tiny_folder):
    """A reward model over the tiny model, and what it was trained from."""
    path = tmp_path_factory.mktemp("judge")
    trained(tiny_folder, path, settings(max_steps=2))
    return opened(path / "adapter")


def turns(*texts):
    roles = ("user", "assistant")
    return [Message(role=roles[index % 2], content=text) for index, text in enumerate(texts)]


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


@pytest.fixture
def preferences(project):
    """Twelve pairs made by hand: the better answer says what to do, the worse one sends the asker away."""
    ills = ["头痛", "咳嗽", "发烧", "失眠", "胃痛", "牙痛", "皮疹", "腹泻", "便秘", "头晕", "心悸", "水肿"]
    rows = [
        {
            "prompt": f"{ill}怎么办？",
            "chosen": f"{ill}时请多休息，喝温水，必要时就医。",
            "rejected": f"不知道{ill}是什么。",
        }
        for ill in ills
    ]
    path = project / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_a_run_learns_twelve_pairs_and_is_no_model_to_talk_with(med, preferences, tiny_folder, project):
    words = ["--dataset", preferences, "--model", tiny_folder, "--run", "judge", "--epochs", 6, "--lr", 0.01, *STEPS]
    result = med("train", "rm", *words)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in (project / "runs/judge/metrics.jsonl").read_text().splitlines()]
    assert [row["accuracy"] for row in rows if "accuracy" in row][-1] == 1.0
    found = open_reward_model(resolve("judge"), device="cpu", report=Silent())
    pair = [turns("头痛怎么办？", text) for text in ("头痛时请多休息，喝温水，必要时就医。", "不知道头痛是什么。")]
    better, worse = found.rewards(pair, lambda done: None)
    assert better > worse + 1
    for command in (["chat", "judge", "你好"], ["merge", "judge"], ["train", "rm", *words[:2], "--model", "judge"]):
        refused = med(*command)
        assert refused.exit_code == 4, (command, refused.stderr)
        assert "is a reward model" in refused.stderr


@pytest.mark.parametrize("file", ["reward_test.json", "dpo_zh_500.jsonl"])
def test_the_real_pairs_train(med, project, tiny_folder, file):
    raw = shared(f"medicalgpt/{file}")
    built = med("data", "build", raw, "--name", "real", "--limit", 60)
    assert built.exit_code == 0, built.stderr
    words = [
        "--dataset",
        "real",
        "--model",
        tiny_folder,
        "--run",
        "real",
        "--max-steps",
        3,
        *STEPS,
        "--max-length",
        512,
    ]
    result = med("train", "rm", *words)
    assert result.exit_code == 0, result.stderr
    assert math.isfinite(json.loads((project / "runs/real/metrics.jsonl").read_text().splitlines()[0])["loss"])
