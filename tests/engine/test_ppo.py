"""PPO on a model of a few thousand parameters: it must learn, stop when told to, and go on as if it never had."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from medcli.core.errors import ModelError, UsageError
from medcli.core.run_folder import RunFolder
from medcli.engine import actor as actors
from medcli.engine import ppo
from tests.engine import small_policies as small

ONE_UPDATE = {"ppo_epochs": 1, "max_steps": 1, "rollouts": 16, "batch": 4, "accumulate": 4}


def logged(path, name):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


def saved(path):
    return load_file(path / "adapter" / "adapter_model.safetensors")


def same(one, other):
    assert one.keys() == other.keys()
    return bool(one) and all(torch.equal(one[name], other[name]) for name in one)


def test_a_bandit_is_solved(tiny_folder, tmp_path):
    """One word in sixteen is worth something: from chance to nine tenths of all that can be had."""
    report = small.Told()
    wanted = small.settings(max_steps=12, rollouts=32, kl=0.0, missing_eos_penalty=0.0)
    outcome = small.train(tiny_folder, tmp_path / "run", wanted, report=report)
    rewards = report.of("reward")
    assert rewards[0] < 0.2
    assert sum(rewards[-3:]) / 3 > 0.9
    assert outcome.figures["eval_reward"] > 0.9 > 0.3 > outcome.facts["eval_reward_before"]
    assert outcome.figures["eval_reward_low"] <= outcome.figures["eval_reward"] <= outcome.figures["eval_reward_high"]
    assert report.of("value_loss")[-1] < max(report.of("value_loss")) / 3  # what to expect is learnt too


def test_the_divergence_holds_the_policy_back(tiny_folder, tmp_path):
    found = {}
    for weight in (0.0, 1.0):
        report = small.Told()
        wanted = small.settings(max_steps=5, rollouts=32, kl=weight)
        small.train(tiny_folder, tmp_path / str(weight), wanted, report=report, valid=False)
        found[weight] = report.of("kl")[-1]
    assert found[0.0] > 2 * abs(found[1.0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_update_begins_at_a_ratio_of_one(tiny_folder, tmp_path, precision):
    """Exactly: the rows, and so the rounding, are those in which the old probabilities were computed."""
    report = small.Told()
    wanted = small.settings(**ONE_UPDATE, precision=precision)
    small.train(tiny_folder, tmp_path / "run", wanted, report=report, valid=False)
    assert report.of("policy_kl") == [0.0]
    assert report.of("clip_fraction") == [0.0]
    assert report.of("kl") == [0.0]  # B is zero at first: the policy is the reference
    assert set(report.figures[0]) >= {
        *("reward", "entropy", "value_loss", "policy_loss", "response_length", "ended", "kl_weight"),
        *("learning_rate", "tokens_per_second", "memory_gib"),
    }


def test_accumulation_learns_as_one_batch(tiny_folder, tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    small.train(tiny_folder, whole, small.settings(**ONE_UPDATE | {"batch": 16, "accumulate": 1}), valid=False)
    small.train(tiny_folder, pieces, small.settings(**ONE_UPDATE), valid=False)
    one, other = (
        torch.load(path / "checkpoints/checkpoint-1/optimizer.pt", weights_only=True) for path in (whole, pieces)
    )
    for number, state in one["state"].items():  # the gradients; Adam's first step knows nothing but their sign
        assert torch.allclose(state["exp_avg"], other["state"][number]["exp_avg"], atol=1e-7)


def test_values_begin_at_the_first_answers_reward_and_no_end_costs_the_penalty(tiny_folder, tmp_path):
    report = small.Told()
    wanted = small.settings(**ONE_UPDATE, missing_eos_penalty=2.0, kl=0.0)
    small.train(tiny_folder, tmp_path, wanted, rule=lambda text: 0.5, report=report, valid=False)
    assert report.of("ended") == [0.0]  # WORDS have no end among them
    assert report.of("reward") == [0.5]  # the judge's own
    head = load_file(tmp_path / "checkpoints/checkpoint-1/value_head.safetensors")
    assert float(head["bias"]) == pytest.approx(0.5 - 2.0, abs=0.01)
    assert report.of("value_loss") == [pytest.approx(0.0, abs=1e-6)]


def updates(path):
    state = torch.load(path / "checkpoints/checkpoint-1/optimizer.pt", weights_only=True)["state"]
    return {int(one["step"]) for one in state.values()}


@pytest.mark.parametrize(("stop", "done"), [(0.0, 8), (1e-9, 1)])
def test_a_step_ends_early_when_the_policy_has_moved_too_far(tiny_folder, tmp_path, stop, done):
    wanted = small.settings(max_steps=1, rollouts=8, batch=4, ppo_epochs=4, kl_stop=stop)
    small.train(tiny_folder, tmp_path / "run", wanted, valid=False)
    assert updates(tmp_path / "run") == {done}


@pytest.mark.parametrize(("target", "rises"), [(1e-6, True), (1e6, False)])
def test_the_weight_of_the_divergence_moves_towards_its_target(tiny_folder, tmp_path, target, rises):
    report = small.Told()
    wanted = small.settings(max_steps=6, kl_target=target)
    small.train(tiny_folder, tmp_path / "run", wanted, report=report, valid=False)
    weights = report.of("kl_weight")
    assert weights[0] == 0.05
    assert (weights[-1] > 0.05) is rises


class Stopped(small.Told):
    """Presses Ctrl-C when the second step is done."""

    def measure(self, step, values):
        super().measure(step, values)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tiny_folder, tmp_path):
    wanted = small.settings(max_steps=5, rollouts=8, batch=4, kl_target=3.0, schedule="cosine", sample_every=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    small.train(tiny_folder, whole, wanted)
    first = small.train(tiny_folder, parts, wanted, report=Stopped())
    assert (first.interrupted, first.steps, first.total) == (True, 2, 5)
    assert not (parts / "adapter").exists()
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["checkpoint-2"]
    second = small.train(tiny_folder, parts, wanted)
    assert (second.interrupted, second.steps) == (False, 5)
    assert same(saved(parts), saved(whole))
    for name in ("reward", "kl", "kl_weight", "learning_rate", "value_loss", "policy_loss", "eval_reward"):
        assert logged(parts, name) == logged(whole, name)
    assert (parts / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    assert "eval_reward_before" in second.facts
    assert not [path for path in parts.rglob("*") if path.suffix in (".bin", ".pkl")]


def test_checkpoints_and_samples_come_when_asked_for(tiny_folder, tmp_path):
    report = small.Told()
    wanted = small.settings(max_steps=5, rollouts=6, save_every=2, eval_every=2, keep_checkpoints=2, sample_every=2)
    small.train(tiny_folder, tmp_path, wanted, report=report)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"checkpoint-4", "checkpoint-5"}
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4, 5]
    assert rows[0]["question"] in small.QUESTIONS
    assert rows[0]["reward"] == pytest.approx(small.liked(rows[0]["answer"]))
    assert sum("→" in note for note in report.notes) == 4
    steps = [row["step"] for row in report.figures if "eval_reward" in row]
    assert steps == [0, 2, 4, 5]


def test_every_epoch_asks_each_prompt_once(tiny_folder, tmp_path):
    asked = []

    class Listening(small.Judge):
        def rewards(self, dialogues, advance):
            asked.extend(dialogue[0].content for dialogue in dialogues)
            return super().rewards(dialogues, advance)

    wanted = small.settings(max_steps=0, epochs=2, rollouts=3)
    policy = small.actor(tiny_folder, wanted, rewarder=Listening(len))
    outcome = ppo.train(policy, small.prompts(policy), None, wanted, RunFolder(tmp_path), small.Told())
    assert outcome.steps == 4
    assert sorted(asked[:6]) == sorted(asked[6:]) == sorted(small.QUESTIONS)
    assert asked[:6] != asked[6:]


def test_recomputed_activations_give_the_same_weights(tiny_folder, tmp_path):
    for name, on in (("kept", False), ("again", True)):
        small.train(tiny_folder, tmp_path / name, small.settings(max_steps=2, checkpointing=on), valid=False)
    kept, again = saved(tmp_path / "kept"), saved(tmp_path / "again")
    assert all(torch.allclose(kept[name], again[name], atol=1e-5) for name in kept)


def test_only_the_policy_is_saved(tiny_folder, tmp_path):
    wanted = small.settings(max_steps=1, rollouts=4)
    ref = small.reward_run(tiny_folder, tmp_path / "judge")
    policy = small.actor(tiny_folder, wanted)
    score = actors.lay_reward(policy.model, ref.adapters[-1])
    policy = actors.Actor(**{**vars(policy), "score": score})
    before = {name: weight.clone() for name, weight in policy.model.named_parameters() if ".reward." in name}
    ppo.train(policy, small.prompts(policy), None, wanted, RunFolder(tmp_path / "run"), small.Told())
    assert {path.name for path in (tmp_path / "run" / "adapter").iterdir()} >= {"adapter_model.safetensors"}
    assert not (tmp_path / "run" / "adapter" / "reward").exists()
    after = dict(policy.model.named_parameters())
    assert before
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert any(weight.any() for name, weight in saved(tmp_path / "run").items() if "lora_B" in name)


def test_a_reward_that_is_no_number_ends_the_run(tiny_folder, tmp_path):
    with pytest.raises(ModelError, match="step 1"):
        small.train(tiny_folder, tmp_path, small.settings(), rule=lambda text: float("nan"), valid=False)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_from_the_first_step_and_falls_to_the_last(schedule):
    wanted = small.settings(warmup=0.2, schedule=schedule, learning_rate=1.0)
    rates = [ppo.rate_at(step, 20, wanted) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(later <= rate for rate, later in zip(rates[4:], rates[5:], strict=False))
    assert rates[-1] > 0
    assert (rates[-1] == 1.0) is (schedule == "constant")


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="fp16"):
        small.settings(precision="fp16")
    with pytest.raises(UsageError, match="no room"):
        small.settings(max_tokens=64)
