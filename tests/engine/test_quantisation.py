"""QLoRA on a CPU: 4 and 8 bits learn, the adapter speaks and merges over the base in full precision."""

import json

import pytest
import torch

from medcli.core.errors import DeviceError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine import quantisation
from medcli.engine.load import load
from tests import families
from tests.conftest import RAW

TRAIN = ["--batch", 2, "--valid-limit", 4, "--lr", "0.02", "--max-length", 128, "--eval-every", 2]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return families.write("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def train(med, built, llama):
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)

    def run(*words, model=llama):
        return med("train", "lora", "--dataset", "few", "--model", model, *TRAIN, *words)

    return run


@pytest.mark.parametrize(
    "words", ["4bit", "8bit", "4bit --dora", "8bit --rslora --no-packing", "4bit --precision bf16"]
)
def test_few_bits_learn_speak_and_merge(train, med, project, words):
    result = train("--run", "few", "--max-steps", 6, "--quant", *words.split())
    assert result.exit_code == 0, result.stderr
    assert not [line for line in result.stderr.splitlines() if "bitsandbytes" in line.lower() or "MatMul" in line]
    rows = [json.loads(line) for line in (project / "runs" / "few" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    # Each validation puts the model into evaluation; gradients must pass all the same afterwards.
    assert all(row["grad_norm"] > 0.01 for row in rows if "loss" in row)
    spoken = med("chat", "few", "头痛怎么办？", "--temperature", 0, "--max-tokens", 4)
    assert spoken.exit_code == 0, spoken.stderr
    merged = med("merge", "few", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True


@pytest.mark.parametrize("quant", ["4bit", "8bit"])
def test_every_layer_gets_its_gradient_after_an_evaluation(llama, quant):
    """bitsandbytes packs nf4 in evaluation for a kernel without a backward: the lower layers would stop learning."""
    loaded = load(ModelRef(base=str(llama)), device=torch.device("cpu"), report=Silent(), quant=quant)
    ids = torch.arange(5, 15)[None]
    with torch.no_grad():
        loaded.model.eval()(input_ids=ids)
    table = loaded.model.get_input_embeddings().weight.requires_grad_(True)
    loaded.model.train()(input_ids=ids, labels=ids).loss.backward()
    assert table.grad[5:15].abs().sum() > 0


def test_narrow_models_fit_too(train, tiny_folder):
    """32 wide is no multiple of nf4's block of 64 weights."""
    assert train("--run", "narrow", "--max-steps", 2, "--quant", "4bit", model=tiny_folder).exit_code == 0


def test_a_run_goes_on_in_few_bits_but_nothing_is_merged_into_them(train):
    assert train("--run", "one", "--max-steps", 2).exit_code == 0
    result = train("--run", "two", "--max-steps", 2, "--quant", "4bit", model="one")
    assert result.exit_code == 2
    assert "med merge one" in result.stderr
    assert train("--run", "two", "--max-steps", 2, "--quant", "4bit", "--continue", model="one").exit_code == 0
    assert train("--run", "three", "--max-steps", 2, model="one").exit_code == 0
    result = train("--run", "four", "--max-steps", 2, "--quant", "8bit", "--continue", model="three")
    assert result.exit_code == 2
    assert "med merge three" in result.stderr


def test_a_device_without_the_kernels_is_told():
    with pytest.raises(DeviceError, match="--quant 4bit works on cuda and cpu, not on mps"):
        quantisation.check("4bit", torch.device("mps"))
