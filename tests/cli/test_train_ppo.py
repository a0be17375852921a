"""`med train ppo` from the command line: a reward run judges what a tiny model answers."""

import json

import pytest

from tests.conftest import RAW

STEPS = ["--max-steps", 2, "--batch", 4, "--precision", "fp32", "--max-length", 96]


@pytest.fixture
def data(built):
    built("few", RAW / "alpaca", "--valid", 0.2, "--test", 0.1)
    built("pairs", RAW / "preference")


@pytest.fixture
def train(med, data, tiny_folder):
    """`train("--reward", RUN)` trains a policy on the few prompts."""

    def run(*words):
        few = ["--dataset", "few", "--model", tiny_folder, "--max-tokens", 8, "--rollouts", 4, "--lr", 0.01]
        return med("train", "ppo", *few, *STEPS, *words)

    return run


def judge(med, tiny_folder):
    result = med(
        "train", "rm", "--dataset", "pairs", "--model", tiny_folder, "--run", "judge", *STEPS, "--valid-limit", 0
    )
    assert result.exit_code == 0, result.stderr


def test_a_policy_learns_from_a_reward_run_and_speaks(train, med, project, tiny_folder):
    judge(med, tiny_folder)
    result = train("--reward", "judge", "--run", "policy", "--sample-every", 1, "--valid-limit", 2)
    assert result.exit_code == 0, result.stderr
    assert "a second adapter over the policy's own weights" in result.stderr
    assert "→" in result.stderr
    assert "held-out reward" in result.stdout
    run = project / "runs" / "policy"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert {"reward", "kl", "entropy", "clip_fraction", "value_loss", "response_length"} <= rows[1].keys()
    assert rows[0]["eval_kl"] == 0.0
    merged = med("merge", "policy", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True
    # Over another model the judge is loaded by itself.
    result = train("--reward", "judge", "--model", run / "merged", "--valid-limit", 0, "--max-steps", 1)
    assert result.exit_code == 0, result.stderr
    assert "loaded beside the policy" in result.stderr


def test_what_cannot_judge_is_told_before_anything_is_written(train, med, project, tiny_folder):
    few = ["--dataset", "few", "--model", tiny_folder, "--run", "speaker", *STEPS[:1], 1, "--valid-limit", 0]
    assert med("train", "lora", *few).exit_code == 0
    unknown = train("--reward", "speker")
    assert unknown.exit_code == 4
    assert "did you mean 'speaker'" in unknown.stderr
    speaks = train("--reward", "speaker")
    assert speaks.exit_code == 4
    assert "no reward model" in speaks.stderr
    assert "med train rm" in speaks.stderr
    missing = train()
    assert missing.exit_code == 2
    assert "--reward" in missing.stderr
    nobody = train("--reward", "http://127.0.0.1:9/v1")
    assert nobody.exit_code == 6, nobody.stderr
    assert [path.parent.name for path in (project / "runs").glob("*/run.toml")] == ["speaker"]
    assert not any("Traceback" in result.stderr for result in (unknown, speaks, missing, nobody))


def test_one_process_trains(train):
    result = train("--reward", "judge", "--devices", 2)
    assert result.exit_code == 2
    assert "--devices" in result.stderr
