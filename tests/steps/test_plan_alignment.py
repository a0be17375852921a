"""`med train rm|dpo|ppo|grpo --plan`: their own steps, without a weight."""

import json
import shutil

import pytest
import torch

from medcli.core.alignment_settings import GrpoSettings, PpoSettings
from medcli.steps.alignment_facts import facts_of
from medcli.steps.plan_estimate import judge_bytes
from tests import tiny_model

PLAN = ["base model", "parameters", "chat template", "records taken"]
LOST = ["oldest turns dropped", "samples left out", "optimizer steps", "device, precision"]
OF_PAIRS = ["pairs", "tokens an epoch", "tokens of answers"]
OF_PROMPTS = ["prompts", "tokens of the prompts", "answers a step", "reward"]
COMPARED = "memory, of LoRA's"


@pytest.fixture
def plan(med, tiny_folder, project, tmp_path):
    """`plan("rm", …)` plans training a model of which there are configuration and tokenizer only."""
    rows = [
        {
            "prompt": f"感冒第{day}天怎么办？",
            "chosen": "多喝水，注意休息。" * (1 + day % 3),
            "rejected": f"不用管它{day}。",
        }
        for day in range(30)
    ]
    (project / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    assert med("data", "build", "pairs.jsonl", "--name", "pairs", "--valid", 0.2, "--test", 0).exit_code == 0
    model = shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))

    def run(method, *words):
        given = ("--dataset", "pairs", "--model", model, "--device", "cpu", "--precision", "fp32", "--plan", "--json")
        result = med("train", method, *given, *words)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


def parts_of(found):
    own = found["memory"]["gib"]
    return {name: part for name, part in own.items() if name not in ("at one time", "libraries and context")}


def test_pairs_are_planned_by_the_step_that_learns_from_them(plan):
    judge = plan("rm")
    assert list(judge["plan"]) == [*PLAN, *OF_PAIRS, *LOST]
    assert judge["plan"]["pairs"] == 23
    assert judge["plan"]["optimizer steps"] == 3
    assert not judge["memory"]["by_rule_of_thumb"]
    policy = plan("dpo")
    assert list(policy["plan"]) == [*PLAN, *OF_PAIRS, "reference", *LOST]
    assert "asked once before" in policy["plan"]["reference"]
    alone = plan("dpo", "--loss", "simpo")
    assert alone["plan"]["reference"] == "none with --loss simpo"
    assert parts_of(policy) == parts_of(alone), "a reference is no second model"
    # Of a training step's operations (forward and back to the inputs, and the adapters'), a forward is over a third.
    assert 1.3 < policy["time"]["operations"] / alone["time"]["operations"] < 1.7
    head, words = (found["memory"]["gib"]["logits and loss"]["expected"] for found in (judge, policy))
    assert head < words, "a reward is one number, no word of a vocabulary"


def test_pairs_stay_pairs_in_what_is_proposed(plan):
    found = plan("dpo", "--gpu", "0.01GB", "--loss", "kto", "--max-length", 64)
    assert found["memory"]["verdict"] == "does not fit"
    flags = [change["flags"] for change in found["memory"]["changes"]]
    assert {"--checkpointing", "--batch 1 --accumulate 8"} <= set(flags)
    assert not found["memory"]["by_rule_of_thumb"]


def test_a_policy_is_planned_with_its_rollouts(plan):
    service = plan("ppo", "--reward", "http://127.0.0.1:9/score", "--max-tokens", 40, "--rollouts", 16)
    assert list(service["plan"]) == [*PLAN, *OF_PROMPTS[:2], *OF_PROMPTS[2:], *LOST[:3], COMPARED, LOST[3]]
    assert service["plan"]["answers a step"] == "16, of at most 40 tokens"
    assert float(service["plan"][COMPARED].split()[0]) <= 1.3
    assert "GB/s" in service["time"]["speed"]
    assert not service["memory"]["by_rule_of_thumb"]


def reward_run(project, name, base):
    """A finished reward run over `base`, whose adapter is 1,000 bytes of nothing."""
    adapter = project / "runs" / name / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"task_type": "SEQ_CLS", "peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(bytes(1000))
    (adapter.parent / "chat_template.jinja").write_text("{{ messages }}")
    (adapter.parent / "run.toml").write_text(f'[run]\nmethod = "rm"\n[model]\nbase = "{base}"\n')
    return name


def test_a_judge_over_the_policys_weights_takes_its_adapter_alone(project, tiny_folder):
    other = shutil.copytree(tiny_folder, project / "other", ignore=shutil.ignore_patterns("*.safetensors"))
    over, beside = reward_run(project, "over", tiny_folder), reward_run(project, "beside", other)
    given = {"dataset": ("x",), "model": str(tiny_folder)}
    cpu = torch.device("cpu")
    model = tiny_model.loaded(tiny_folder).model
    whole = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]) + 1000
    for name, bytes_, said in ((over, 1000, "an adapter over"), (beside, whole, "a model of its own")):
        settings = PpoSettings(**given, reward=name)
        assert judge_bytes(name, settings, cpu) == bytes_
        assert said in dict(facts_of(settings))["reward"]
    assert judge_bytes(over, GrpoSettings(**given, reward=(over,)), cpu) == whole, "grpo holds its judges beside"


def test_groups_of_answers_are_planned(plan):
    found = plan("grpo", "--reward", "exact,length:0.5", "--max-tokens", 40, "--gpu", "0.01GB")
    assert found["plan"]["reward"] == "exact, length × 0.5"
    assert found["plan"]["answers a step"] == "8, of at most 40 tokens"
    assert found["time"]["hours"] is None
    flags = " ".join(change["flags"] for change in found["memory"]["changes"])
    assert "--checkpointing" in flags
    assert "--max-length" not in flags, "answers have most of it"
