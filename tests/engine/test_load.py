"""Models that are not there, broken, pickled, or with code of their own: one message each, and nothing is run."""

import json
import shutil

import pytest
import torch

from medcli.core.errors import ModelError, ServiceError
from medcli.core.model_ref import ModelRef
from medcli.core.report import Silent
from medcli.engine.load import load


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model to spoil."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def opened(folder, **given):
    return load(ModelRef(base=str(folder)), device=torch.device("cpu"), report=Silent(), **given)


def test_code_of_the_models_folder_is_never_run(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run foreign code"))
    ran = folder / "ran"
    code = f"open({str(ran)!r}, 'w')\nclass C: pass\n"
    (folder / "evil.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"}}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.C", "evil.C"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="Python files of its own"):
        opened(folder)
    assert not ran.exists()


def test_pickled_weights_are_not_loaded(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        opened(folder)


def test_damaged_weights_are_told(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:20000])
    with pytest.raises(ModelError, match="damaged"):
        opened(folder)


def test_a_model_that_cannot_be_fetched_is_told_at_once():
    with pytest.raises(ServiceError, match="'some/model' could not be fetched") as error:
        load(ModelRef(base="some/model"), device=torch.device("cpu"), report=Silent())
    assert "HF_ENDPOINT" in error.value.hint


def test_a_model_without_a_template_needs_one(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        opened(folder)
    assert opened(folder, template="med-tiny").template.name == "med-tiny"
