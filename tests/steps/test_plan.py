"""`med train … --plan` of models that are not here: a folder of a configuration and a tokenizer is enough."""

import json
import shutil

import pytest

from tests.conftest import RAW

LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 32000, "max_position_embeddings": 4096,
    "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip
HALF_A_BILLION = LLAMA_7B | {
    "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 16,
}  # fmt: skip


@pytest.fixture
def plan(med, built, tiny_folder, tmp_path):
    """`plan("lora", shape, …)` plans training a model of that shape, of which no weight exists."""
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)

    def run(method, shape, *words):
        model = tmp_path / "model"
        shutil.copytree(
            tiny_folder, model, ignore=shutil.ignore_patterns("*.safetensors", "generation*"), dirs_exist_ok=True
        )
        config = json.loads((model / "config.json").read_text()) | shape
        (model / "config.json").write_text(json.dumps(config))
        return med("train", method, "--dataset", "few", "--model", model, "--plan", *words)

    return run


def test_seven_billion_weights_are_planned_without_one(plan, project):
    result = plan("lora", LLAMA_7B, "--gpu", "rtx 4090", "--batch", 4, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    trained = 32 * 16 * (4 * 2 * 4096 + 3 * (4096 + 11008))
    assert found["plan"]["parameters"] == f"{6_738_415_616 + trained:,}, of which {trained:,} learn"
    assert found["plan"]["device, precision"] == "RTX 4090, bf16"
    gib = found["memory"]["gib"]
    assert gib["weights"]["expected"] == pytest.approx((6_738_415_616 * 2 + trained * 4) / 2**30, rel=1e-3)
    assert gib["gradients"]["high"] == pytest.approx(trained * 4 / 2**30, abs=1e-3)
    assert gib["optimizer"]["low"] == pytest.approx(trained * 8 / 2**30, abs=1e-3)
    assert (found["memory"]["verdict"], found["memory"]["available_gib"]) == ("fits", 22.5)
    assert found["time"]["hours"]["low"] < found["time"]["hours"]["high"]
    assert "165.2 TFLOPS" in found["time"]["speed"]
    tokens = found["plan"]["optimizer steps"] * 512  # four samples of about 110 tokens fill a row of four times 128
    assert found["time"]["operations"] == pytest.approx(tokens * 4 * 6.7e9, rel=0.1)  # forward, and back to the inputs
    assert not (project / "runs").exists()


def test_what_does_not_fit_is_told_how_it_would(plan):
    result = plan("lora", HALF_A_BILLION, "--gpu", "1 GB", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["memory"]["verdict"] == "does not fit"
    changes = found["memory"]["changes"]
    alone, together = changes[:-1], changes[-1]
    assert {change["flags"].split()[0] for change in alone} == {"--checkpointing", "--batch", "--quant"}
    assert [change["gib"] for change in alone] == sorted(change["gib"] for change in alone)
    assert together["gib"] < alone[0]["gib"]
    assert together["flags"].count("--") == 4
    assert found["time"]["hours"] is None
    assert "only the memory is known" in found["time"]["speed"]


def test_old_cards_are_planned_in_fp32(plan):
    result = plan("freeze", HALF_A_BILLION, "--gpu", "T4", "--layers", "last:1")
    assert result.exit_code == 0, result.stderr
    assert "T4, fp32" in result.stdout
    assert "8.1 TFLOPS (fp32" in result.stdout


@pytest.mark.parametrize("words", ["lora --init pissa", "lora --quant 4bit", "ptuning --no-packing", "full"])
def test_every_method_is_planned_for_the_device_at_hand(plan, words):
    method, *own = words.split()
    result = plan(method, {}, *own)
    assert result.exit_code == 0, result.stderr
    assert "memory on cpu, GiB" in result.stdout
    assert "fits:" in result.stdout
    assert "measured on cpu" in result.stdout


def test_a_wrong_gpu_gets_one_message(plan, med):
    result = plan("lora", {}, "--gpu", "RTX 4099")
    assert result.exit_code == 2
    assert "did you mean 'RTX 4090'" in result.stderr
    result = med("train", "lora", "--dataset", "few", "--gpu", "24GB")
    assert result.exit_code == 2
    assert "add --plan" in result.stderr
