"""`med eval` and `med data make preference` with a reward model that was just trained."""

import json

import pytest

from tests.conftest import RAW, shared
from tests.evaluation import facts, write_dataset


@pytest.fixture
def judge(med, tiny_folder):
    """The run "judge", trained for two steps on the pairs "few"; and the conversations "facts"."""
    built = med("data", "build", RAW / "preference/dpo.jsonl", "--name", "few", "--valid", 0.3, "--test", 0.3)
    assert built.exit_code == 0, built.stderr
    words = ("--model", tiny_folder, "--max-length", 128, "--max-steps", 2, "--batch", 2, "--device", "cpu")
    done = med("train", "rm", "--dataset", "few", "--run", "judge", *words)
    assert done.exit_code == 0, done.stderr
    write_dataset("facts", train=facts())
    return "judge"


def test_a_reward_run_judges_pairs_and_ranks_answers(med, project, judge, tiny_folder):
    card = (project / "runs/judge/README.md").read_text("utf-8")
    assert "judges answers" in card
    assert "reward-model" in card
    assert "validation pairs right" in card
    shown = med("eval", judge, "--dataset", "few", "--split", "train", "--device", "cpu")
    assert shown.exit_code == 0, shown.stderr
    names = [line.split()[0] for line in shown.stdout.splitlines() if line]
    assert {"accuracy", "margin", "ece", "longer-right"} <= set(names)
    assert "length is preferred for its own sake" in shown.stderr
    found = json.loads(med("eval", judge, "--dataset", "few", "--split", "train", "--limit", 2, "--json").stdout)
    assert found["scores"][0]["count"] == 2
    assert (project / "runs/judge/eval/few-train.json").is_file()
    plan = med("eval", judge, "--dataset", "few", "--plan")
    assert "would sit few-" in plan.stdout

    answers = [{"id": f"c{n}", "answer": text} for n in range(3) for text in ("多喝水。", "无。", "请到医院检查。")]
    (project / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    ranking = ("data", "make", "preference", "facts", "--answers", "a.jsonl", "--margin", 0)
    made = med(*ranking, "--reward", judge, "--name", "ranked", "--device", "cpu")
    assert made.exit_code == 0, made.stderr
    assert "made 3 preferences" in made.stdout

    for said, words in (
        ("is a reward model, which judges pairs", ("eval", judge, "--dataset", "facts")),
        ("med eval judge --dataset PAIRS", ("eval", judge, "--dataset", "facts", "--plan")),
        ("is a model that speaks", ("eval", tiny_folder, "--dataset", "few")),
        ("med train rm", ("eval", tiny_folder, "--dataset", "few", "--plan")),
        ("two judges", (*ranking, "--reward", judge, "--llm", "http://localhost:1/v1", "--llm-model", "m")),
        ("judges nothing", (*ranking, "--reward", tiny_folder)),
    ):
        refused = med(*words)
        assert refused.exit_code in (2, 3, 4), words
        assert said in refused.stderr.replace("\n", " "), refused.stderr
        assert refused.stdout == ""


def test_real_candidates_become_pairs_to_learn_from_and_to_judge(med, tiny_folder):
    folder = shared("cepilepsyqa/question.csv").parent
    built = med("data", "build", folder, "--importer", "cmedqa_pairs", "--name", "epi", "--limit", 20, "--json")
    counts = json.loads(built.stdout)["counts"]
    assert (counts["train"], counts["valid"], counts["test"]) == (20, 20, 20)
    words = ("--model", tiny_folder, "--max-length", 512, "--max-steps", 1, "--batch", 2, "--device", "cpu")
    done = med("train", "rm", "--dataset", "epi", "--run", "epi", *words)
    assert done.exit_code == 0, done.stderr
    judged = med("eval", "epi", "--dataset", "epi", "--json")
    assert judged.exit_code == 0, judged.stderr
    found = json.loads(judged.stdout)
    assert (found["scores"][0]["count"], found["exam"]) == (19, "epi-test")
    assert "1 of 20 pairs are longer than the model reads, and are left out" in judged.stderr
