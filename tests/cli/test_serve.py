"""What `med serve` takes and refuses before a model is loaded, and the command line it hands over to vLLM."""

import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from medcli.core.errors import ModelError, UsageError
from medcli.core.model_ref import ModelRef
from medcli.steps.serve import Settings, keys_of, served, url_of
from medcli.steps.vllm_command import command


def folder(path, config="config.json", **content):
    path.mkdir(parents=True)
    (path / config).write_text(json.dumps(content))
    return path


@pytest.fixture
def models(project):
    """A model's folder and two LoRA adapters of it."""
    base = folder(project / "models" / "base", model_type="llama")
    for name in ("one", "two"):
        table = {"base_model_name_or_path": str(base), "peft_type": "LORA", "r": 24}
        folder(project / "runs-of-mine" / name, "adapter_config.json", **table)
    return base


def test_models_are_called_by_the_last_part_of_where_they_are(models, project):
    refs = served(Settings(model=("models/base/", "runs-of-mine/one", "Qwen/Qwen2.5-0.5B")))
    assert list(refs) == ["base", "one", "Qwen2.5-0.5B"]
    assert refs["one"].adapters[0].name == "one"
    assert list(served(Settings())) == ["med-tiny"]
    assert list(served(Settings(model=("models/base", "med-tiny"), name=("a", "b")))) == ["a", "b"]


def test_names_must_tell_models_apart(models):
    with pytest.raises(UsageError, match="two models would be called 'base'") as caught:
        served(Settings(model=("models/base", "models/base")))
    assert "--name NAME1,NAME2" in caught.value.hint
    with pytest.raises(UsageError, match="--name has 1 names for 2 models"):
        served(Settings(model=("models/base", "med-tiny"), name=("a",)))


def test_what_cannot_be_served(models, project):
    with pytest.raises(UsageError, match="is served already"):
        served(Settings(model=("http://localhost:8000/v1#qwen",)))
    folder(project / "judge", architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ModelError, match="judge is a reward model"):
        served(Settings(model=("judge",)))


def test_keys_come_from_the_environment_and_from_a_file(project, monkeypatch):
    said = []
    (project / "keys").write_text("first\n\n second \nfirst\n")
    (project / "keys").chmod(0o600)
    monkeypatch.setenv("MED_SERVE_KEY", "third")
    assert keys_of(Settings(api_key_file="keys"), said.append) == ("third", "first", "second")
    assert said == []
    (project / "keys").chmod(0o644)
    keys_of(Settings(api_key_file="keys"), said.append)
    assert said == ["others on this machine can read the keys in keys: chmod 600 keys"]


@pytest.mark.parametrize("content", ["\n", "a key with spaces\n", "钥匙\n"])
def test_keys_that_cannot_be_used(project, content):
    (project / "keys").write_text(content)
    with pytest.raises(UsageError):
        keys_of(Settings(api_key_file="keys"), lambda text: None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "clinic.example"])
def test_others_are_let_in_only_with_a_key(med, monkeypatch, host):
    refused = med("serve", "--host", host)
    assert refused.exit_code == 2
    assert "can be reached by others, and no key is set" in refused.stderr
    monkeypatch.setenv("MED_SERVE_KEY", "secret")
    assert keys_of(Settings(host=host), print) == ("secret",)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_on_this_machine_no_key_is_needed(host):
    assert keys_of(Settings(host=host), print) == ()


def test_addresses_that_a_browser_understands():
    assert url_of("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 8000) == "http://[::1]:8000"


def test_the_command_line_refuses_what_it_must(med, project):
    assert med("serve", "med-tinny").exit_code == 4
    assert "did you mean 'med-tiny'" in med("serve", "med-tinny").stderr
    assert med("serve", "--slots", "0").exit_code == 2
    assert med("serve", "--quant", "3bit").exit_code == 2
    assert "--api-key-file: nowhere is not there" in med("serve", "--api-key-file", "nowhere").stderr
    assert "no knowledge base" in med("serve", "--kb", "nowhere").stderr
    (project / "med.toml").write_text("[serve]\nprot = 8001\n")
    assert "did you mean 'port'" in med("serve").stderr
    (project / "med.toml").write_text('[serve]\nmodel = ["nowhere"]\n')
    assert "'nowhere'" in med("serve").stderr


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(med):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused = med("serve", "--port", other.getsockname()[1])
    assert refused.exit_code == 2
    assert "Address already in use" in refused.stderr
    assert med("serve", "--port", "70000").exit_code == 2


def test_vllm_serves_one_base_with_its_adapters(models, vllm):
    settings = Settings(model=("models/base", "runs-of-mine/one", "runs-of-mine/two"), slots=16, port=9000)
    order = command(served(settings), settings, ("secret",))
    assert order.words[:3] == (str(vllm), "serve", str(models))
    line = " ".join(order.words)
    assert "--served-model-name base --host 127.0.0.1 --port 9000" in line
    assert "--enable-lora --max-lora-rank 32 --max-loras 2 --lora-modules one=runs-of-mine/one two=" in line
    assert order.environment == {"VLLM_API_KEY": "secret"}
    assert "secret" not in line


@pytest.fixture
def vllm(project, tmp_path, monkeypatch):
    """A program of that name, which prints what it was given."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$VLLM_API_KEY" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_vllm_takes_not_everything(models, vllm, project):
    one = served(Settings(model=("runs-of-mine/one",)))
    with pytest.raises(UsageError, match="--log does not go"):
        command(one, Settings(log="talks"), ())
    with pytest.raises(UsageError, match="one key"):
        command(one, Settings(), ("a", "b"))
    with pytest.raises(UsageError, match="med-tiny is not served"):
        command(served(Settings()), Settings(), ())
    two = {"a": ModelRef(base="x"), "b": ModelRef(base="y")}
    with pytest.raises(UsageError, match="one base model, and these have 2"):
        command(two, Settings(), ())
    table = {"base_model_name_or_path": "models/base", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
    folder(project / "prefix", "adapter_config.json", **table)
    with pytest.raises(ModelError, match="what 'prefix' was trained to") as caught:
        command(served(Settings(model=("prefix",))), Settings(), ())
    assert caught.value.hint == "merge it: med merge prefix"


def test_a_chat_template_goes_along(models, vllm, project):
    (project / "runs-of-mine" / "one" / "chat_template.jinja").write_text("{{ messages }}")
    settings = Settings(model=("runs-of-mine/one",))
    words = command(served(settings), settings, ()).words
    assert words[words.index("--chat-template") + 1].endswith("one/chat_template.jinja")


def test_without_vllm_it_says_how_to_get_it(med, models, monkeypatch):
    monkeypatch.setenv("PATH", "")
    refused = med("serve", "models/base", "--engine", "vllm")
    assert refused.exit_code == 2
    assert 'pip install "medcli[vllm]"' in refused.stderr


def test_vllm_takes_the_place_of_med(models, vllm, project):
    environment = os.environ | {"MED_SERVE_KEY": "secret"}
    words = [sys.executable, "-m", "medcli", "serve", "models/base", "--engine", "vllm", "--host", "0.0.0.0"]
    done = subprocess.run(words, env=environment, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("secret serve ")
    assert "--host 0.0.0.0" in done.stdout
    assert "secret" not in done.stderr


def test_it_serves_and_stops(tiny_folder, project):
    words = [sys.executable, "-m", "medcli", "serve", str(tiny_folder), "--name", "mine", "--port", "0", "--no-page"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        body = {"model": "mine", "messages": [{"role": "user", "content": "头痛"}], "max_tokens": 3}
        assert httpx.post(f"{url}/chat/completions", json=body).json()["model"] == "mine"
        process.send_signal(signal.SIGTERM)
        out, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    for words in (
        "no substitute for a doctor",
        "models: mine; a key is not needed",
        "stop it with Ctrl-C",
        "stopped; everything",
    ):
        assert words in said
