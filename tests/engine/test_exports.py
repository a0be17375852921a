"""What the engine exports is shown to answer and to judge as before: few bits, and a reward run in one folder."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.prompts import QUESTIONS
from medcli.core.record import Message
from medcli.core.report import Silent
from medcli.engine.export_quantised import quantise
from medcli.engine.export_reward import write_classifier
from medcli.engine.export_source import folder_of, parts_of
from medcli.engine.reward_model import open_reward_model
from tests import families
from tests.engine import small_rewards

ASKED = [
    [Message(role="user", content="头痛"), Message(role="assistant", content=text)] for text in ("去医院。", "没事")
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return families.write("llama", tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("quant", ["4bit", "8bit"])
def test_weights_of_few_bits_are_read_back_as_they_were(llama, tmp_path, quant):
    quantise(ModelRef(base=str(llama)), tmp_path, quant, QUESTIONS[:2], "cpu", Silent())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "bitsandbytes"
    assert config["quantization_config"][f"load_in_{quant}"] is True
    full = sum(path.stat().st_size for path in llama.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) < 0.8 * full


class Spoils(Silent):
    """Writes zeros over the weights when they are about to be read back, as a failing disk might."""

    def __init__(self, folder):
        self.folder = folder

    def stage(self, name, total=None, unit=""):
        for path in self.folder.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
            save_file({name: torch.zeros_like(weight) for name, weight in load_file(path).items()}, path, about)


def test_weights_that_are_read_back_otherwise_are_not_kept(llama, tmp_path):
    with pytest.raises(ModelError, match="read back, the quantised model answers"):
        quantise(ModelRef(base=str(llama)), tmp_path, "8bit", QUESTIONS[:2], "cpu", Spoils(tmp_path))


def test_a_reward_run_becomes_one_folder_that_judges_alike(tiny_folder, tmp_path):
    small_rewards.trained(tiny_folder, tmp_path / "run", small_rewards.settings())
    adapter = resolve(str(tmp_path / "run" / "adapter"))
    write_classifier(adapter, tmp_path / "out", QUESTIONS[:2], "cpu", Silent())
    before = open_reward_model(adapter, device="cpu", report=Silent()).rewards(ASKED, lambda done: None)
    after = open_reward_model(resolve(str(tmp_path / "out")), device="cpu", report=Silent()).rewards(
        ASKED, lambda done: None
    )
    assert after == pytest.approx(before, abs=0.01)
    assert before[0] != pytest.approx(before[1], abs=0.01)


def test_a_folder_is_taken_without_what_does_not_belong_to_a_model(tiny_folder, tmp_path):
    names = ("model.safetensors", "config.json", "tokenizer.json", "LICENSE", "consolidated.00.safetensors", "run.py",
             "optimizer.pt", "pytorch_model.bin", "trainer_state.json", "merge.json", "README.md", ".env")  # fmt: skip
    for name in names:
        (tmp_path / name).write_text("{}")
    assert folder_of(ModelRef(base=str(tmp_path)), Silent()) == (tmp_path, False)
    kept = ["LICENSE", "config.json", "model.safetensors", "tokenizer.json"]
    assert [path.name for path in parts_of(tmp_path, code=False)] == kept
    assert [path.name for path in parts_of(tmp_path, code=True)] == [*kept[:3], "run.py", kept[3]]


@pytest.mark.parametrize("names", [["config.json", "pytorch_model.bin"], ["model.safetensors"]])
def test_a_folder_without_safetensors_or_config_is_no_model(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError):
        folder_of(ModelRef(base=str(tmp_path)), Silent())
