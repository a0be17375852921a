"""The whole life of a model on a CPU: raw file, data set, LoRA, evaluation, answers, merge, answers again."""

import json

import pytest

from medcli.core.report import Silent
from medcli.engine import tiny
from medcli.steps import full_tour, quickstart
from tests.conftest import RAW, shared

TRAIN = ["--batch", 4, "--max-steps", 4, "--lr", "0.01"]


def test_from_raw_files_to_answers(med, project, tiny_folder):
    built = med("data", "build", "cmedqa2", "--raw", RAW / "cmedqa2", "--json")
    assert built.exit_code == 0, built.stderr
    counts = json.loads(built.stdout)["counts"]
    assert counts["kept"] + counts["refused"] == counts["read"]
    trained = med("train", "lora", "--dataset", "cmedqa2", "--model", tiny_folder, *TRAIN, "--json")
    assert trained.exit_code == 0, trained.stderr
    run = project / "runs" / "lora-cmedqa2"
    assert json.loads(trained.stdout)["run"] == str(run)
    judged = med("eval", run, "--dataset", "cmedqa2", "--max-tokens", 12, "--json")
    assert judged.exit_code == 0, judged.stderr
    assert {"bleu-4", "rouge-1", "rouge-2", "rouge-l", "perplexity"} <= {
        score["metric"] for score in json.loads(judged.stdout)["scores"]
    }
    question = ["头痛怎么办？", "--temperature", 0, "--max-tokens", 12, "--json"]
    spoken = med("chat", "runs/lora-cmedqa2", *question)
    assert spoken.exit_code == 0, spoken.stderr
    assert med("merge", "runs/lora-cmedqa2").exit_code == 0
    merged = med("chat", run / "merged", *question)
    assert json.loads(merged.stdout)["answer"] == json.loads(spoken.stdout)["answer"]
    assert "no substitute for a doctor" in merged.stderr
    proof = json.loads((run / "merged" / "merge.json").read_text())
    assert set(proof["sha256"]) >= {"model.safetensors", "config.json", "chat_template.jinja"}


def test_merge_does_not_overwrite(med, built, project, tiny_folder):
    built("cmedqa2", "cmedqa2", "--raw", RAW / "cmedqa2")
    med("train", "lora", "--dataset", "cmedqa2", "--model", tiny_folder, *TRAIN)
    assert med("merge", "lora-cmedqa2").exit_code == 0
    result = med("merge", "lora-cmedqa2")
    assert result.exit_code == 2
    assert "exists" in result.stderr
    result = med("merge", tiny_folder, "--output", "there")
    assert result.exit_code == 4
    assert "no adapter" in result.stderr


def test_a_run_is_the_base_of_the_next(med, built, project, tiny_folder):
    """Stages stack without a merge by hand; the second run names the first one's adapter."""
    built("cmedqa2", "cmedqa2", "--raw", RAW / "cmedqa2")
    assert med("train", "lora", "--dataset", "cmedqa2", "--model", tiny_folder, "--run", "one", *TRAIN).exit_code == 0
    assert med("train", "lora", "--dataset", "cmedqa2", "--model", "one", "--run", "two", *TRAIN).exit_code == 0
    merged = med("merge", "two", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True


def test_quickstart_takes_the_whole_tour(med, project, cached_tiny, monkeypatch):
    """In few steps: that it learns is for the slow test."""
    monkeypatch.setitem(quickstart.LORA, "max_steps", 8)
    result = med("quickstart", "--limit", 8)
    assert result.exit_code == 0, result.stderr
    assert (project / "runs" / "quickstart" / "merged" / "model.safetensors").exists()
    assert "demonstration model" in result.stderr
    for part in ("data", "base model", "LoRA", "merge", "peak memory", "exact answers, base", "exact answers, LoRA"):
        assert part in result.stdout


def test_without_a_model_med_tiny_is_taken_and_said(med, built, project, cached_tiny):
    built("cmedqa2", "cmedqa2", "--raw", RAW / "cmedqa2")
    result = med("train", "lora", "--dataset", "cmedqa2", *TRAIN)
    assert result.exit_code == 0, result.stderr
    assert "base model: med-tiny" in result.stderr
    assert "--model" in result.stderr


def test_an_adapter_of_another_med_tiny_is_refused(med, built, project, cached_tiny):
    """med-tiny is made anew when its recipe changes; the old adapter must not speak nonsense in silence."""
    built("cmedqa2", "cmedqa2", "--raw", RAW / "cmedqa2")
    med("train", "lora", "--dataset", "cmedqa2", *TRAIN)
    config = project / "runs" / "lora-cmedqa2" / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(tiny.folder_name(), "med-tiny-0123456789ab"))
    result = med("chat", "lora-cmedqa2", "你好")
    assert result.exit_code == 4
    assert "med-tiny-0123456789ab" in result.stderr


def test_a_pickled_adapter_is_not_loaded(med, built, project, tiny_folder):
    built("cmedqa2", "cmedqa2", "--raw", RAW / "cmedqa2")
    med("train", "lora", "--dataset", "cmedqa2", "--model", tiny_folder, *TRAIN)
    adapter = project / "runs" / "lora-cmedqa2" / "adapter"
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    result = med("chat", "lora-cmedqa2", "你好")
    assert result.exit_code == 4
    assert "pickled" in result.stderr


def test_the_real_files_train(med, project, tiny_folder):
    """cMedQA2's raw layout at its real size; the candidates files keep dev and test out of train."""
    raw = shared("cepilepsyqa/question.csv").parent
    built = med("data", "build", "cmedqa2", "--raw", raw, "--json")
    counts = json.loads(built.stdout)["counts"]
    assert (counts["train"], counts["valid"], counts["test"]) == (3607, 490, 490)
    trained = med("train", "lora", "--dataset", "cmedqa2", "--model", tiny_folder, *TRAIN, "--valid-limit", 10)
    assert trained.exit_code == 0, trained.stderr


def test_a_real_pretrained_model_speaks(med, project):
    """260,000 parameters trained on English stories: known weights give their known words."""
    import torch

    from medcli.core.model_ref import ModelRef
    from medcli.engine.load import load

    folder = shared("models/stories260k/config.json").parent
    loaded = load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), template="alpaca")
    ids = loaded.tokenizer("Once upon a time", return_tensors="pt")
    text = loaded.tokenizer.decode(loaded.model.generate(**ids, max_new_tokens=12, do_sample=False)[0])
    assert ", there was a little girl named Lily" in text


def test_the_full_tour_takes_every_stage(med, project, cached_tiny, monkeypatch):
    monkeypatch.setitem(full_tour.STAGES, "ppo", {**full_tour.STAGES["ppo"], "rollouts": 32, "valid_limit": 8})
    result = med("quickstart", "--full", "--limit", 6, "--json")
    assert result.exit_code == 0, result.stderr
    tour = json.loads(result.stdout)
    assert list(tour["runs"]) == ["pt", "lora", "rm", "ppo", "dpo"]
    assert [goal["stage"] for goal in tour["goals"]] == ["pt", "rm", "ppo", "ppo", "ppo", "dpo", "dpo"]
    assert (project / tour["merged"] / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quickstart_learns(med, project):
    """The real tour: from at most 20 % to at least 90 % exact answers on phrasings never trained on."""
    result = med("quickstart", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["before"]["value"] <= 0.2
    assert found["after"]["value"] >= 0.9
    assert found["peak_gib"] <= 3.0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_full_tour_reaches_its_goals(med, project):
    """Pairs are judged as the table does, rewards rise, answers stay right, and a policy stays near where it was."""
    result = med("quickstart", "--full", "--json")
    assert result.exit_code == 0, result.stderr
    tour = json.loads(result.stdout)
    missed = [goal for goal in tour["goals"] if not goal["met"]]
    assert not [goal for goal in missed if goal["stage"] in ("pt", "rm")]
    if missed and not 0.7 <= tour["supervised"] <= 0.85:
        # One epoch ends on the steep part of the curve: at 75 % on a Zen 4, at 59 % by the rounding of an Intel Xeon.
        pytest.xfail(f"ppo and dpo are set for 75 % right answers before them; here it is {tour['supervised']:.0%}")
    assert missed == []
