"""The reward model: its head learns and comes back, its loss is the field's, its rewards are read where answers end."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.report import Silent
from medcli.engine import attention, reward
from medcli.engine.outline import outline
from medcli.engine.pack import NOTHING, flat
from medcli.engine.reward_model import open_reward_model
from tests import families
from tests.conftest import shared
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
from tests.engine.small_runs import same, saved

STEPS = ["--batch", 4, "--valid-limit", 4, "--precision", "fp32", "--max-length", 128]


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


def test_a_batch_of_nothing_is_a_zero_that_reaches_every_weight(tiny_folder):
    """Other processes wait for its gradients."""
    for packing in (True, False):
        wanted = settings(packing=packing)
        loaded = prepared(tiny_folder, wanted)
        part = measured(loaded, wanted, [NOTHING])
        part.loss.backward()
        assert (part.loss.item(), part.count) == (0.0, 0)
        assert all(weight.grad is not None for weight in loaded.model.parameters() if weight.requires_grad)


def test_an_architecture_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no sequence classifier") as error:
        prepared(families.write("mamba", tmp_path / "mamba"), settings(packing=False))
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
