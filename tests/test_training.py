"""`med train lora` from the command line on a tiny model: what it writes, refuses, resumes."""

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import RAW


def losses(project, run):
    lines = (project / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


STEPS = ["--batch", 2, "--valid-limit", 4, "--precision", "fp32", "--lr", "0.01", "--max-length", 128]


@pytest.fixture
def data(built):
    built("few", RAW / "alpaca", "--valid", 0.1, "--test", 0.1)
    return "few"


@pytest.fixture
def train(med, data, tiny_folder):
    """`train("--rank", 4)` trains LoRA on the few rows."""

    def run(*words, dataset=data, model=tiny_folder):
        return med("train", "lora", "--dataset", dataset, "--model", model, *STEPS, *words)

    return run


def weights(project, run, part="adapter"):
    return load_file(project / "runs" / run / part / "adapter_model.safetensors")


def test_a_run_leaves_all_its_parts(train, project):
    result = train("--run", "one", "--epochs", 15)
    assert result.exit_code == 0, result.stderr
    run = project / "runs" / "one"
    for part in ("run.toml", "metrics.jsonl", "loss.png", "README.md", "chat_template.jinja", "checkpoints"):
        assert (run / part).exists(), part
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses(project, "one")[-1] < losses(project, "one")[0] - 0.1
    assert {"learning_rate", "tokens_per_second", "memory_gib", "grad_norm"} <= set(lines[0])
    assert any("eval_loss" in line for line in lines)
    assert not list(run.rglob("training_args.bin"))  # a pickle of arguments, as the older tools needed
    card = (run / "README.md").read_text()
    assert "不能代替医生" in card
    assert "few" in card


def test_the_preflight_shows_what_is_learnt(train):
    result = train("--max-steps", 1)
    assert "⟦" in result.stderr
    assert "<|end|>⟧" in result.stderr  # the end of the answer is learnt too
    assert "learnt tokens" in result.stderr


def test_plan_writes_nothing_and_says_where_settings_come_from(train, project, monkeypatch):
    monkeypatch.setenv("MED_TRAIN_LORA_RANK", "4")
    (project / "med.toml").write_text("[train]\nepochs = 7\n[train.lora]\nalpha = 9\n")
    result = train("--plan", "--json")
    assert result.exit_code == 0, result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert settings["rank"] == {"value": 4, "origin": "MED_TRAIN_LORA_RANK"}
    assert settings["alpha"] == {"value": 9, "origin": "med.toml"}
    assert settings["epochs"] == {"value": 7.0, "origin": "med.toml"}
    assert settings["batch"]["origin"] == "flag"
    assert settings["seed"]["origin"] == "default"
    assert not (project / "runs").exists()


def test_resume_on_other_data_is_refused(train, med, project):
    assert train("--run", "one", "--max-steps", 2).exit_code == 0
    table = project / "runs" / "one" / "run.toml"
    table.write_text(table.read_text().replace('status = "finished"', 'status = "interrupted"'))
    med("data", "build", RAW / "alpaca", "--name", "few", "--valid", 0.1, "--test", 0.1, "--seed", 7)
    before = table.read_text()
    result = train("--run", "one", "--resume")
    assert result.exit_code == 3, result.stderr
    assert "not the one" in result.stderr
    assert table.read_text() == before


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(train, project, tiny_folder):
    """In a process of its own, as a person would press it."""
    command = [sys.executable, "-m", "medcli", "train", "lora", "--dataset", "few", "--model", str(tiny_folder)]
    command += [*map(str, STEPS), "--run", "stopped", "--max-steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=project)
    metrics = project / "runs" / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text().count("\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "med train lora --resume --run stopped" in out
    checkpoint = next((project / "runs" / "stopped" / "checkpoints").glob("checkpoint-*"))
    assert (checkpoint / "trainer_state.json").exists()
    steps = int(checkpoint.name.split("-")[1])
    result = train("--run", "stopped", "--resume", "--max-steps", steps + 2)
    assert result.exit_code == 0, result.stderr
    assert (project / "runs" / "stopped" / "adapter" / "adapter_model.safetensors").exists()


def test_a_second_process_on_the_same_run_is_refused(train, project):
    from medcli.core import run_folder

    with run_folder.RunFolder(project / "runs" / "held").held():
        result = train("--run", "held")
    assert result.exit_code == 2
    assert "another process" in result.stderr


def test_an_existing_run_is_not_overwritten(train):
    assert train("--run", "twice", "--max-steps", 1).exit_code == 0
    result = train("--run", "twice", "--max-steps", 1)
    assert result.exit_code == 2
    assert "exists" in result.stderr
    assert train("--run", "twice", "--resume").exit_code == 2  # it is finished


def test_from_repeats_a_run(train, project):
    assert train("--run", "first", "--max-steps", 2, "--rank", 3).exit_code == 0
    result = train("--run", "again", "--from", project / "runs" / "first" / "run.toml")
    assert result.exit_code == 0, result.stderr
    first, again = weights(project, "first"), weights(project, "again")
    assert all(torch.equal(first[name], again[name]) for name in first)


KINDS = ["--dora", "--rslora", "--init pissa", "--targets q_proj,v_proj", "--no-packing", "--precision bf16"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_and_answers_as_its_merged_model(train, med, kind):
    assert train("--run", "kind", "--max-steps", 3, *kind.split()).exit_code == 0
    merged = med("merge", "kind", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--targets", "q_porj"], 4, "did you mean 'q_proj'"),
        (["--rank", 0], 2, "smallest value is 1"),
        (["--precision", "fp16"], 4, "needs a GPU"),
        (["--precision", "fp61"], 2, "did you mean 'fp16'"),
        (["--template", "chatmll"], 2, "did you mean 'chatml'"),
        (["--template", "chatml"], 4, "does not fit"),
        (["--device", "cuda:7"], 5, "no device 'cuda:7'"),
        (["--dropout", 1.0], 2, "--dropout"),
        (["--max-length", 8], 3, "nothing would be learnt"),
        (["--targets", "lm_head"], 2, "--no-packing"),
    ],
)
def test_wrong_settings_get_one_message(train, project, words, code, said):
    result = train(*words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((project / "runs").glob("*/run.toml"))


def test_a_template_that_does_not_end_answers_is_refused(train, tiny_folder, tmp_path):
    """Without a stop word in what is learnt the tuned model would never stop."""
    import shutil

    model = shutil.copytree(tiny_folder, tmp_path / "endless")
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}Q:{{ m.content }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    result = train(model=model)
    assert result.exit_code == 4
    assert "no stop word" in result.stderr


def test_unknown_data_and_models_get_one_message(train, med, tiny_folder):
    assert "did you mean 'few'" in train(dataset="fee").stderr
    result = train(model="med-tinny")
    assert result.exit_code == 4
    assert "did you mean 'med-tiny'" in result.stderr
    med("data", "build", RAW / "preference", "--name", "pairs")
    result = train(dataset="pairs")
    assert result.exit_code == 3
    assert "preferences" in result.stderr


def test_a_template_of_another_model_is_an_error_at_chat(train, med, project):
    assert train("--run", "mine", "--max-steps", 1).exit_code == 0
    (project / "runs" / "mine" / "chat_template.jinja").write_text(
        "{#-\n stop: <|im_end|>\n-#}\n{{ messages[0].content }}"
    )
    result = med("chat", "mine", "你好")
    assert result.exit_code == 4
    assert "does not fit" in result.stderr
