"""Code that comes with a model: never run unasked, and with consent only as it was when the user gave it."""

import json
import shutil
import sys
import tomllib

import pytest
import torch
import transformers

from medcli.core.errors import ModelError
from medcli.core.model_ref import ModelRef, resolve
from medcli.core.report import Silent
from medcli.engine.load import load
from medcli.engine.remote_code import consent
from tests.conftest import RAW

CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig

Path(__file__)
with open({marker!r}, "a") as file:
    file.write("ran ")


class OwnConfig(LlamaConfig):
    model_type = "{kind}"
"""
MODELLING = """
from transformers import LlamaForCausalLM

from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
FAST = ["--batch", 2, "--valid-limit", 0, "--precision", "fp32", "--max-length", 128, "--max-steps", 2]
ASKED = ["头痛怎么办？", "--temperature", 0, "--max-tokens", 4]


@pytest.fixture(scope="module", autouse=True)
def modules_aside(tmp_path_factory):
    """transformers copies the code it runs into a cache of its own; keep the user's clean."""
    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("modules"))
        patch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", cache)
        patch.setattr(sys, "path", [*sys.path])
        yield


@pytest.fixture
def marker(tmp_path):
    """A file that is there when the folder's code has run."""
    return tmp_path / "ran"


@pytest.fixture
def foreign(tiny_folder, tmp_path, marker):
    """The tiny model in a folder that only its own code can read."""
    return written(tiny_folder, tmp_path / "own", marker)


def written(tiny_folder, target, marker, kind="own_llama", modelling=MODELLING, place=""):
    shutil.copytree(tiny_folder, target)
    config = json.loads((target / "config.json").read_text())
    config |= {
        "model_type": kind,
        "architectures": ["OwnForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{place}configuration_own.OwnConfig",
            "AutoModelForCausalLM": f"{place}modeling_own.OwnForCausalLM",
        },
    }
    (target / "config.json").write_text(json.dumps(config))
    (target / "configuration_own.py").write_text(CONFIGURATION.format(marker=str(marker), kind=kind))
    (target / "modeling_own.py").write_text(modelling)
    return target


def opened(ref):
    return load(ref, device=torch.device("cpu"), report=Silent())


def test_without_consent_no_command_runs_it(med, built, foreign, marker):
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)
    for words in (
        ["train", "lora", "--dataset", "few", "--model", foreign, *FAST],
        ["chat", foreign, *ASKED],
        ["eval", foreign, "--dataset", "few"],
        ["data", "show", "few", 1, "--tokens", foreign],
    ):
        result = med(*words)
        assert result.exit_code == 4, result.stderr
        assert "--trust-remote-code" in result.stderr
        assert "Traceback" not in result.stderr
    assert not marker.exists()
    assert med("chat", foreign, *ASKED, "--trust-remote-code").exit_code == 0
    assert marker.exists()


def test_a_run_keeps_the_consent_to_the_files_as_they_were(med, built, project, foreign, marker):
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)
    train = ["train", "lora", "--dataset", "few", "--model", foreign, "--trust-remote-code", "--run", "own", *FAST]
    assert med(*train, "--plan").exit_code == 0
    result = med(*train)
    assert result.exit_code == 0, result.stderr
    code = tomllib.loads((project / "runs" / "own" / "run.toml").read_text())["model"]["code"]
    assert code.keys() == {"configuration_own.py", "modeling_own.py"}
    spoken = med("chat", "own", *ASKED)
    assert spoken.exit_code == 0, spoken.stderr
    merged = med("merge", "own", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True

    marker.unlink()
    (foreign / "modeling_own.py").write_text(MODELLING + f"\nopen({str(marker)!r}, 'w')\n")
    for words in (["chat", "own", *ASKED], ["merge", "own", "--output", "again"], ["eval", "own", "--dataset", "few"]):
        result = med(*words)
        assert result.exit_code == 4, result.stderr
        assert "modeling_own.py has changed" in result.stderr
    assert not marker.exists()
    again = med("chat", "own", *ASKED, "--trust-remote-code")
    assert again.exit_code == 0, again.stderr


def test_a_whole_model_is_saved_with_its_code(med, built, project, foreign):
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)
    train = ["train", "full", "--dataset", "few", "--model", foreign, "--trust-remote-code", "--run", "whole", *FAST]
    result = med(*train)
    assert result.exit_code == 0, result.stderr
    assert med("chat", "whole", *ASKED).exit_code == 0
    saved = project / "runs" / "whole" / "model"
    assert "--trust-remote-code" in med("chat", saved, *ASKED).stderr
    (saved / "extra.py").write_text("")
    assert "extra.py was not there" in med("chat", "whole", *ASKED).stderr


def test_code_that_no_longer_runs_is_one_message(tiny_folder, tmp_path, marker):
    """As ChatGLM's: written for transformers 4, it asks for what is gone."""
    broken = MODELLING.replace("import LlamaForCausalLM", "import LlamaForCausalLM, TFPreTrainedModel")
    folder = written(tiny_folder, tmp_path / "old", marker, kind="chatglm", modelling=broken)
    with pytest.raises(ModelError, match="does not run under transformers") as error:
        opened(consent(ModelRef(base=str(folder))))
    assert "glm-4-9b-chat-hf" in error.value.hint


def test_a_model_that_cannot_answer_is_told_before_the_run(tiny_folder, tmp_path, marker):
    mute = MODELLING + "\n    def forward(self, input_ids, **_):\n        return None\n"
    folder = written(tiny_folder, tmp_path / "mute", marker, kind="baichuan", modelling=mute)
    with pytest.raises(ModelError, match="does not run under transformers") as error:
        opened(consent(ModelRef(base=str(folder))))
    assert "Qwen2.5" in error.value.hint


def test_code_from_elsewhere_cannot_be_agreed_to(tiny_folder, tmp_path, marker):
    folder = written(tiny_folder, tmp_path / "far", marker, place="someone/else--")
    with pytest.raises(ModelError, match="another place: someone/else"):
        consent(ModelRef(base=str(folder)))
    assert not marker.exists()


def test_what_transformers_knows_needs_no_code(tiny_folder, tmp_path, marker):
    folder = written(tiny_folder, tmp_path / "known", marker, kind="llama")
    ref = consent(resolve(str(folder)))
    assert ref.code is None
    assert type(opened(ref).model) is transformers.LlamaForCausalLM
    assert not marker.exists()
