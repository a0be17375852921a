"""`med train grpo` from the command line: every kind of data, every kind of reward, and one message for each error."""

import json

import pytest

from tests.conftest import RAW

OWN = "def rewards(asked, answers):\n    return [len(a) for a in answers]\n"
STEPS = ["--batch", 4, "--group", 4, "--max-tokens", 4, "--max-length", 128, "--precision", "fp32", "--max-steps", 2]


@pytest.fixture
def train(med, built, project, tiny_folder):
    """`train("few", "exact")` trains on a set that is built from the raw rows of that name."""
    (project / "own.py").write_text(OWN)

    def run(layout, reward, *words):
        if not (project / "data" / layout).exists():
            built(layout, RAW / layout, "--valid", 0.2, "--test", 0)
        return med("train", "grpo", "--model", tiny_folder, "--dataset", layout, "--reward", reward, *STEPS, *words)

    return run


def rows(project, run):
    return [json.loads(line) for line in (project / "runs" / run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_on_questions_leaves_all_its_parts_and_speaks(train, med, project):
    result = train("cmb", "exact,format:0.2,own.py", "--run", "one", "--sample-every", 1)
    assert result.exit_code == 0, result.stderr
    run = project / "runs" / "one"
    for part in ("run.toml", "metrics.jsonl", "loss.png", "README.md", "samples.jsonl", "adapter/adapter_config.json"):
        assert (run / part).exists(), part
    assert "own.py is run to judge the answers" in result.stderr
    assert not list(run.rglob("training_args.bin"))
    last = [row for row in rows(project, "one") if "reward" in row][-1]
    parts = last["reward_exact"] + 0.2 * last["reward_format"] + last["reward_own"]
    assert last["reward"] == pytest.approx(parts, rel=1e-5)
    assert "reward" in result.stdout
    spoken = med("chat", "one", "头痛怎么办？", "--temperature", 0, "--max-tokens", 3, "--json")
    assert spoken.exit_code == 0, spoken.stderr
    assert train("cmb", "exact", "--run", "one").exit_code == 2  # it exists


def test_conversations_are_prompts_too(train, project):
    result = train("alpaca", "length", "--run", "one", "--valid-limit", 0)
    assert result.exit_code == 0, result.stderr
    assert rows(project, "one")[-1]["response_length"] > 0


def test_a_reward_run_judges_and_a_model_that_speaks_does_not(train, med, project, tiny_folder):
    assert med("data", "build", RAW / "preference", "--name", "pairs", "--test", 0).exit_code == 0
    judge = ["--model", tiny_folder, "--dataset", "pairs", "--batch", 2, "--max-steps", 1, "--valid-limit", 0]
    result = med("train", "rm", *judge, "--precision", "fp32", "--run", "judge")
    assert result.exit_code == 0, result.stderr
    result = train("preference", "judge:2,format", "--run", "one", "--max-steps", 1)
    assert result.exit_code == 0, result.stderr
    [row] = [row for row in rows(project, "one") if "reward" in row]
    assert row["reward"] == pytest.approx(2 * row["reward_judge"] + row["reward_format"], rel=1e-4)
    result = train("preference", "one")
    assert result.exit_code == 4
    assert "no reward model" in result.stderr


@pytest.mark.parametrize(
    ("reward", "words", "code", "said"),
    [
        ("exat", [], 2, "did you mean 'exact'"),
        ("exact:0", [], 2, "weight of 0"),
        ("nothing.py", [], 2, "no such file"),
        ("exact", ["--group", 3], 2, "try --batch 6, or --group 4"),
        ("exact", ["--max-tokens", 128], 2, "no room for the prompt"),
        ("http://127.0.0.1:9/score", [], 6, "127.0.0.1:9"),
        ("bad.py", [], 3, "bad.py:2: ZeroDivisionError"),
    ],
)
def test_wrong_settings_get_one_message(train, project, reward, words, code, said):
    (project / "bad.py").write_text("def rewards(asked, answers):\n    return [1 / 0 for a in answers]\n")
    result = train("alpaca", reward, *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_plan_opens_no_judge(train, project):
    result = train("alpaca", "exact,http://127.0.0.1:9/score", "--plan", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["settings"]["group"]["value"] == 4
    assert not (project / "runs").exists()
    flags = json.loads(result.stdout)["settings"].keys()
    assert not flags & {"packing", "devices", "strategy", "clip"}  # what has no effect has no flag
