"""An export is a whole folder with card and hashes, or nothing: copied, merged, converted, described, pushed."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from medcli.core.errors import DataError, ModelError, ServiceError, StorageError, UsageError
from medcli.core.report import Silent
from medcli.steps import export
from medcli.steps.export import Settings
from tests import exports
from tests.engine import small_runs
from tests.steps.push_server import TOKEN, serving

CARD = {"README.md", "SHA256SUMS"}


@pytest.fixture
def no_converter(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def exported(project):
    """`exported(model, format="gguf")` gives the folder, once its hashes are seen to be right."""

    def run(model, report=None, **given):
        found = export.export(str(model), Settings(output=Path("out"), device="cpu", **given), report or Silent())
        rows = [line.split("  ") for line in (found.path / "SHA256SUMS").read_text().splitlines()]
        assert {name for _, name in rows} | {"SHA256SUMS"} == {path.name for path in found.path.iterdir()}
        assert all(sha256((found.path / name).read_bytes()).hexdigest() == digest for digest, name in rows)
        assert not any(path.is_symlink() for path in found.path.iterdir())
        assert nothing_beside(project)
        return found

    return run


def nothing_beside(project):
    return not [path for path in project.iterdir() if path.name.startswith(".")]


def names(found):
    return {path.name for path in found.path.iterdir()}


def test_a_whole_model_is_copied_as_it_is(exported, tiny_folder):
    found = exported(tiny_folder)
    assert names(found) == {path.name for path in tiny_folder.iterdir()} | CARD
    for path in tiny_folder.iterdir():
        assert (found.path / path.name).read_bytes() == path.read_bytes()


def test_a_run_that_trained_all_keeps_its_chat_template(exported, project, tiny_folder):
    exports.whole_run(project / "runs" / "doctor", tiny_folder, template="{# its own #}")
    found = exported("doctor")
    assert (found.path / "chat_template.jinja").read_text() == "{# its own #}"
    assert (tiny_folder / "chat_template.jinja").read_text() != "{# its own #}"


def test_a_run_s_adapter_is_merged(exported, project, tiny_folder):
    run = exports.run(project / "runs" / "doctor", base=tiny_folder)
    small_runs.train(tiny_folder, run.path, small_runs.settings(learning_rate=0.1))
    run.template_file.write_text((tiny_folder / "chat_template.jinja").read_text("utf-8"), "utf-8")
    found = exported("doctor")
    assert names(found) == {path.name for path in tiny_folder.iterdir()} | CARD
    weights = "model.safetensors"
    assert (found.path / weights).read_bytes() != (tiny_folder / weights).read_bytes()
    assert "Stage 阶段 1: lora (doctor)" in (found.path / "README.md").read_text("utf-8")


def test_a_prefix_is_no_folder_and_its_adapter_is_offered(exported, project):
    run = exports.run(project / "runs" / "prefix", method="ptuning")
    run.adapter.mkdir()
    config = {"base_model_name_or_path": "med-tiny", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 8}
    (run.adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is a prefix of virtual tokens") as raised:
        exported("prefix")
    assert str(run.adapter) in raised.value.hint


@pytest.mark.parametrize("kind", ["gguf", "ollama", "bnb-4bit"])
def test_a_reward_model_is_for_safetensors_only(exported, tmp_path, kind):
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.json").write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    with pytest.raises(UsageError, match="is a reward model"):
        exported(tmp_path / "judge", format=kind)


@pytest.fixture
def model(tiny_folder, tmp_path):
    """The tiny model with files that no converter may see, and a licence."""
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "modeling_own.py").write_text("raise SystemExit('the code of the model was run')")
    (folder / "LICENSE").write_text("the licence of the model", "utf-8")
    return folder


def test_gguf_is_written_by_the_converter_from_a_folder_without_code(exported, model, tmp_path):
    found = exported(model, format="gguf", converter=exports.converter(tmp_path))
    assert names(found) == {"model.gguf", "LICENSE"} | CARD
    seen = (found.path / "model.gguf").read_bytes().removeprefix(b"GGUF").decode().split()
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(seen)
    assert "modeling_own.py" not in seen


@pytest.mark.parametrize("body", ["raise ValueError('unknown architecture')", "pass"])
def test_a_converter_that_fails_leaves_nothing(exported, project, model, tmp_path, body):
    with pytest.raises(ServiceError):
        exported(model, format="gguf", converter=exports.converter(tmp_path, body))
    assert not list(project.iterdir())


def test_without_a_converter_gguf_is_refused_before_any_work(exported, model, no_converter):
    with pytest.raises(UsageError, match="is not on PATH"):
        exported(model, format="gguf")


def test_ollama_takes_the_converted_file(exported, model, tmp_path):
    found = exported(
        model, format="ollama", converter=exports.converter(tmp_path), system="你是医生。", temperature=0.2
    )
    assert names(found) == {"model.gguf", "Modelfile", "LICENSE"} | CARD
    text = (found.path / "Modelfile").read_text("utf-8")
    assert text.startswith("FROM ./model.gguf\n")
    assert "<|user|>{{ .Content }}<|end|><|assistant|>" in text
    assert "PARAMETER temperature 0.2\n" in text
    assert 'PARAMETER stop "<|end|>"\n' in text
    assert 'SYSTEM """你是医生。"""' in text
    assert 'LICENSE """the licence of the model' in text


def test_ollama_takes_safetensors_where_no_converter_is(exported, model, no_converter):
    found = exported(model, format="ollama")
    assert names(found) == {path.name for path in model.iterdir() if path.suffix != ".py"} | {"Modelfile"} | CARD
    assert (found.path / "Modelfile").read_text("utf-8").startswith("FROM .\n")


def test_a_word_that_the_tokenizer_puts_first_is_not_said_twice(exported, model, no_converter):
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    tokenizer.save_pretrained(model)
    assert "<s><system>" in (exported(model, format="ollama").path / "Modelfile").read_text("utf-8")
    shutil.rmtree("out")
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(model)
    assert "<s>" not in (exported(model, format="ollama").path / "Modelfile").read_text("utf-8")


class Works(Silent):
    """Hears of long work, which must not begin."""

    def stage(self, name, total=None, unit=""):
        assert name in ("loading torch and transformers", "fetching")


@pytest.mark.parametrize(
    ("template", "said"),
    [("{{ messages[-1].content }}", "does not write every turn alike"), ("", "has no chat template")],
)
def test_a_template_that_ollama_cannot_say_is_told_before_any_work(
    exported, model, project, no_converter, template, said
):
    (model / "chat_template.jinja").write_text(template, "utf-8")
    with pytest.raises(ModelError, match=said):
        exported(model, format="ollama", report=Works())
    assert not list(project.iterdir())


def test_a_damaged_record_is_told_before_any_work(exported, project, tiny_folder):
    run = exports.whole_run(project / "runs" / "doctor", tiny_folder)
    (run.path / "eval").mkdir()
    (run.path / "eval" / "cmb.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="no outcome of an exam"):
        exported("doctor", report=Works())
    assert [path.name for path in project.iterdir()] == ["runs"]


@pytest.mark.parametrize("kind", ["bnb-4bit", "bnb-8bit"])
def test_few_bits_come_with_all_that_belongs_to_a_model(exported, model, kind):
    found = exported(model, format=kind)
    assert names(found) == {path.name for path in model.iterdir() if path.suffix != ".py"} | CARD
    config = json.loads((found.path / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "bitsandbytes"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"system": "你是医生"}, "--system is kept in a Modelfile only"),
        ({"public": True}, "--public says how a model is pushed"),
        ({"push": "noowner"}, "is not OWNER/NAME"),
        ({"format": "gguf", "converter": "/nowhere.py"}, "/nowhere.py is no file"),
    ],
)
def test_what_does_not_fit_together_is_refused(exported, project, tiny_folder, given, said):
    with pytest.raises(UsageError, match=said):
        exported(tiny_folder, **given)
    assert not list(project.iterdir())


def test_a_folder_is_not_overwritten(exported, project, tiny_folder):
    (project / "out").mkdir()
    with pytest.raises(UsageError, match="out exists"):
        exported(tiny_folder)
    assert not list((project / "out").iterdir())


class Quicker(Silent):
    """Another process that writes the same folder, and is done first."""

    def stage(self, name, total=None, unit=""):
        if name == "hashing":
            Path("out").mkdir()


def test_a_folder_that_came_to_be_meanwhile_is_kept(exported, project, tiny_folder):
    with pytest.raises(UsageError, match="out exists"):
        exported(tiny_folder, report=Quicker())
    assert [path.name for path in project.iterdir()] == ["out"]
    assert not list((project / "out").iterdir())


class Stops(Silent):
    """Somebody who presses Ctrl-C when the work is nearly done."""

    def stage(self, name, total=None, unit=""):
        if name == "hashing":
            raise KeyboardInterrupt


def test_nothing_is_left_of_an_interrupted_export(exported, project, tiny_folder):
    with pytest.raises(KeyboardInterrupt):
        exported(tiny_folder, report=Stops())
    assert not list(project.iterdir())


def test_what_a_killed_process_left_is_cleared_away(exported, project, tiny_folder):
    left = project / ".out.999999999.part" / "whole"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    exported(tiny_folder)
    assert [path.name for path in project.iterdir()] == ["out"]


def test_too_little_room_is_told_before_any_work(tmp_path):
    with pytest.raises(StorageError, match="are to be written"):
        export.check_room(tmp_path / "not" / "yet", 1 << 60)


def test_what_is_pushed_is_the_finished_folder(exported, tiny_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        found = exported(tiny_folder, push="clinic/tiny")
        assert found.pushed == f"{hub.address}/clinic/tiny"
        assert {name for name in hub.repos["clinic/tiny"] if name[0] != "."} == names(found)
        shutil.rmtree("out")
        hub.statuses["/api/repos/create"] = 403
        with pytest.raises(ServiceError) as raised:
            exported(tiny_folder, push="clinic/other")
        assert "the folder is whole" in raised.value.hint
        assert (Path("out") / "SHA256SUMS").is_file()
