"""`med train ptuning` from the command line: trained, talked with, measured, gone on with, and not merged."""

import json
import tomllib

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import RAW

STEPS = ["--batch", 2, "--valid-limit", 4, "--precision", "fp32", "--max-length", 128, "--max-steps", 3]
QUESTION = ["头痛怎么办？", "--temperature", 0, "--max-tokens", 8, "--json"]


@pytest.fixture
def train(med, built, tiny_folder):
    """`train("ptuning", "--run", "one")` trains on a few rows; a prefix is of 16 virtual tokens."""
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)

    def run(method, *words, model=tiny_folder):
        own = ["--prefix-length", 16, *words] if method == "ptuning" else words
        return med("train", method, "--dataset", "few", "--model", model, *STEPS, *own)

    return run


@pytest.fixture
def trained(train):
    result = train("ptuning", "--run", "one")
    assert result.exit_code == 0, result.stderr
    return result


def prefix_of(project, run):
    return load_file(project / "runs" / run / "adapter" / "adapter_model.safetensors")["prompt_embeddings"]


def test_chat_and_eval_take_a_prefix_without_a_flag(trained, med, project):
    """Whatever length the settings name now, the run knows its own."""
    before = med("chat", "one", *QUESTION)
    assert before.exit_code == 0, before.stderr
    (project / "med.toml").write_text("[train.ptuning]\nprefix_length = 128\n")
    after = med("chat", "one", *QUESTION)
    assert json.loads(after.stdout)["answer"] == json.loads(before.stdout)["answer"]
    judged = med("eval", "one", "--dataset", "few", "--max-tokens", 8, "--json")
    assert judged.exit_code == 0, judged.stderr
    assert "perplexity" in {score["metric"] for score in json.loads(judged.stdout)["scores"]}
    assert "med merge" not in trained.stdout  # it could not be done


def test_merge_says_why_it_cannot(trained, med, project):
    result = med("merge", "one")
    assert result.exit_code == 4
    assert "16 virtual tokens" in result.stderr
    assert "cannot be merged" in result.stderr
    assert "med chat one" in result.stderr
    assert not list((project / "runs" / "one").glob("*merged*"))


def test_no_other_method_stacks_on_a_prefix(trained, train):
    for words in (["lora"], ["lora", "--continue"], ["freeze"], ["ptuning"]):
        result = train(*words, "--run", "two", model="one")
        assert result.exit_code == 4, result.stderr
        assert "nothing can be stacked on it" in result.stderr
        assert "--continue" in result.stderr


def test_a_prefix_stands_before_what_an_earlier_run_trained(train, med, project):
    assert train("lora", "--run", "adapted", "--lr", 0.01).exit_code == 0
    result = train("ptuning", "--run", "two", model="adapted")
    assert result.exit_code == 0, result.stderr
    table = tomllib.loads((project / "runs/two/run.toml").read_text())
    assert [path.rsplit("/", 2)[1] for path in table["model"]["adapters"]] == ["adapted"]
    assert med("chat", "two", *QUESTION).exit_code == 0


def test_continue_goes_on_with_the_prefix(trained, train, med, project):
    result = train("ptuning", "--continue", "--run", "two", "--lr", "1e-4", model="one")
    assert result.exit_code == 0, result.stderr
    one, two = prefix_of(project, "one"), prefix_of(project, "two")
    assert one.shape == two.shape
    assert 0 < float((one - two).abs().max()) < 1e-3  # at this rate it is still near to where it began
    assert tomllib.loads((project / "runs/two/run.toml").read_text())["model"]["adapters"] == []
    assert med("chat", "two", *QUESTION).exit_code == 0
    result = train("ptuning", "--continue", "--prefix-length", 8, "--run", "three", model="one")
    assert result.exit_code == 2
    assert "--prefix-length 16" in result.stderr


def test_from_repeats_a_run(train, project):
    assert train("ptuning", "--run", "first", "--projection", "--hidden", 8).exit_code == 0
    assert train("ptuning", "--run", "again", "--from", project / "runs/first/run.toml").exit_code == 0
    assert torch.equal(prefix_of(project, "first"), prefix_of(project, "again"))


def test_the_best_validation_is_what_is_kept(train, project):
    """The MLP behind a prefix is taken back from the best checkpoint too."""
    words = ["--projection", "--best", "--eval-every", 1, "--save-every", 1, "--lr", 0.5]
    result = train("ptuning", "--run", "best", *words)
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in (project / "runs/best/metrics.jsonl").read_text().splitlines()]
    best = min((row for row in rows if "eval_loss" in row), key=lambda row: row["eval_loss"])
    checkpoint = project / f"runs/best/checkpoints/checkpoint-{best['step']}/adapter_model.safetensors"
    assert torch.equal(prefix_of(project, "best"), load_file(checkpoint)["prompt_embeddings"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--packing"], 2, "--no-packing"),
        (["--checkpointing"], 2, "computing a layer again would lose the prefix"),
        (["--prefix-length", 0], 2, "smallest value is 1"),
        (["--prefix-length", 512], 2, "nothing is left for the text"),
        (["--hidden", 8], 2, "add --projection"),
        (["--continue"], 2, "no adapter to go on with"),
    ],
)
def test_wrong_settings_get_one_message(train, project, words, code, said):
    result = train("ptuning", *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((project / "runs").glob("*/run.toml"))


def test_the_prefix_takes_its_share_of_the_context(train):
    """The tiny model reads 512 tokens: with a prefix of 400 there are 112 left for a dialogue."""
    tokens = []
    for length in (400, 16):
        result = train("ptuning", "--prefix-length", length, "--max-length", 512, "--plan", "--json")
        assert result.exit_code == 0, result.stderr
        plan = json.loads(result.stdout)["plan"]
        tokens.append(plan["tokens an epoch"])
        assert "grouped by length" in plan["padding"]
    assert 0 < tokens[0] < tokens[1]
