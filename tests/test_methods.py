"""Every supervised method from the command line, on 2-layer models of several families: learns, resumes, speaks."""

import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny_model
from tests.conftest import RAW

STEPS = ["--batch", 2, "--valid-limit", 2, "--precision", "fp32", "--lr", "0.01", "--max-length", 128,
         "--save-every", 50, "--eval-every", 50]  # fmt: skip
METHODS = {
    "lora": ["lora", "--dataset", "few", "--dropout", 0.1],
    "freeze": ["freeze", "--dataset", "few", "--layers", "last:1"],
    "full": ["full", "--dataset", "few"],
    "ptuning": ["ptuning", "--dataset", "few", "--prefix-length", 8, "--lr", 0.5],
    "pt": ["pt", "--dataset", "plain", "--modules-to-save", "embed_tokens,lm_head"],
    "pt-freeze": ["pt", "--dataset", "plain", "--tuner", "freeze", "--layers", "first:1", "--parts", "mlp"],
    "pt-full": ["pt", "--dataset", "plain", "--tuner", "full"],
}
WAYS = [method for method in METHODS if method not in ("pt-freeze", "pt-full")]  # those learn from text as pt does
ON_MODELS = [(method, family) for family in tiny_model.FAMILIES for method in (METHODS if family == "llama" else WAYS)]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of a tiny model for each family."""
    home = tmp_path_factory.mktemp("families")
    return {family: tiny_model.write(home / family, family) for family in tiny_model.FAMILIES}


@pytest.fixture
def data(built):
    for layout, name in (("alpaca", "few"), ("text", "plain")):
        built(name, RAW / layout, "--valid", 0.2, "--test", 0)


@pytest.fixture
def train(med, data, models):
    """`train("lora", "--rank", 4, model="glm")` runs a method on the few rows."""

    def run(*words, model="llama"):
        return med("train", words[0], *STEPS, "--model", models.get(model, model), *words[1:])

    return run


def losses(project, run):
    lines = (project / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def steps(project, run):
    lines = (project / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def trained(project, run):
    """All tensors that a run saved."""
    files = sorted((project / "runs" / run).glob("adapter/*.safetensors"))
    files += sorted((project / "runs" / run).glob("model/*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


TWELVE = ["--max-steps", 12, "--save-every", 6, "--keep-checkpoints", 9]


@pytest.fixture
def straight(train, project, monkeypatch, tmp_path_factory):
    """`straight("lora", "glm")` puts the run "straight" of TWELVE steps into the project, made once for all tests.

    They share a cache, from which a resumed run reads the very bits that a frozen trunk gave.
    """
    kept = tmp_path_factory.getbasetemp() / "straight"
    monkeypatch.setenv("MED_CACHE", str(kept / "cache"))

    def put(method, family="llama"):
        made, run = kept / f"{method}-{family}", project / "runs" / "straight"
        if made.exists():
            shutil.copytree(made, run)
            return
        result = train(*METHODS[method], *TWELVE, "--run", "straight", model=family)
        assert result.exit_code == 0, result.stderr
        shutil.copytree(run, made)

    return put


@pytest.mark.parametrize(("method", "family"), ON_MODELS)
def test_every_method_learns_is_saved_and_speaks(straight, med, project, method, family):
    straight(method, family)
    found = losses(project, "straight")
    assert found[-1] < found[0] - 0.02, found
    spoken = med("chat", "straight", "头痛怎么办？", "--temperature", 0, "--max-tokens", 5, "--json")
    assert spoken.exit_code == 0, spoken.stderr
    assert "answer" in json.loads(spoken.stdout)


@pytest.mark.parametrize("method", METHODS)
def test_resume_is_bitwise(straight, train, project, method):
    """N steps = k, stop, resume, N - k: the same weights."""
    straight(method)
    shutil.copytree(project / "runs/straight", project / "runs/broken")
    for finished in ("adapter", "model", "checkpoints/checkpoint-12"):
        shutil.rmtree(project / "runs/broken" / finished, ignore_errors=True)
    table = project / "runs/broken/run.toml"
    table.write_text(table.read_text().replace('status = "finished"', 'status = "running"'))
    before = steps(project, "broken")
    result = train(*METHODS[method], *TWELVE, "--run", "broken", "--resume")
    assert result.exit_code == 0, result.stderr
    assert steps(project, "broken") == before  # no line twice, none missing
    straight, resumed = trained(project, "straight"), trained(project, "broken")
    assert straight
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


@pytest.mark.parametrize("method", [method for method in WAYS if method != "ptuning"])
def test_packed_and_padded_rows_learn_alike(train, project, method):
    """A batch of all documents, so that blocks of documents and documents one by one are the same."""
    for name, words in {"packed": [], "padded": ["--no-packing"]}.items():
        result = train(*METHODS[method], "--dropout" if method == "lora" else "--seed", 0, "--batch", 64, *words,
                       "--run", name, "--max-steps", 3)  # fmt: skip
        assert result.exit_code == 0, result.stderr
    assert losses(project, "packed") == pytest.approx(losses(project, "padded"), rel=1e-4)


@pytest.mark.parametrize("method", WAYS)
def test_accumulation_learns_as_one_batch(train, project, method):
    """Batch 4 x 1 = 2 x 2 = 1 x 4: the loss is a mean over all learnt tokens of a step."""
    for batch, accumulate in ((4, 1), (2, 2), (1, 4)) if method == "lora" else ((4, 1), (1, 4)):
        words = [*METHODS[method], "--batch", batch, "--accumulate", accumulate, "--run", f"by{batch}"]
        words += ["--dropout", 0] if method == "lora" else []
        assert train(*words, "--max-steps", 2).exit_code == 0
        assert losses(project, f"by{batch}") == pytest.approx(losses(project, "by4"), rel=1e-4)


def test_freeze_saves_what_it_trained_and_nothing_else_changes(train, med, project, models):
    result = train("freeze", "--dataset", "few", "--layers", "last:1", "--parts", "mlp", "--run", "f", "--max-steps", 3)
    assert result.exit_code == 0, result.stderr
    names = set(trained(project, "f"))
    assert names == {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    merged = med("merge", "f", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True
    before = load_file(models["llama"] / "model.safetensors")
    after = load_file(project / "runs/f/merged/model.safetensors")
    assert {name for name in before if not torch.equal(before[name], after[name])} == names


def test_a_base_model_without_a_chat_template_reads_and_goes_on(train, med, models, tmp_path):
    bare = shutil.copytree(models["llama"], tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    refused = train(*METHODS["lora"], "--run", "lora", "--max-steps", 1, model=bare)
    assert refused.exit_code == 4
    assert "choose one with --template" in refused.stderr
    result = train(*METHODS["pt"], "--run", "reads", "--max-steps", 1, model=bare)
    assert result.exit_code == 0, result.stderr
    assert train(*METHODS["pt"], "--plan", model=bare).exit_code == 0
    assert med("chat", "reads", "头痛", "--max-tokens", 3).exit_code == 0


def test_stages_chain_without_a_merge_by_hand(train, med, project):
    """pt, then lora on it, then freeze on that, then full: each names the run before it."""
    assert train(*METHODS["pt"], "--run", "read", "--max-steps", 2).exit_code == 0
    for method, before in (("lora", "read"), ("freeze", "lora"), ("full", "freeze"), ("lora", "full")):
        name = method if before != "full" else "last"
        result = train(*METHODS[method], "--run", name, "--max-steps", 2, model=before)
        assert result.exit_code == 0, result.stderr
    merged = med("merge", "last", "--json")
    assert merged.exit_code == 0, merged.stderr
    assert json.loads(merged.stdout)["equal"] is True
    judged = ("eval", "last", "--dataset", "few", "--split", "valid", "--max-tokens", 4)
    refused = med(*judged)
    assert refused.exit_code == 3, refused.stderr  # the first stage has read what is asked, three runs beneath
    assert "last was trained on" in refused.stderr
    assert med(*judged, "--allow-leak").exit_code == 0


def test_a_whole_model_needs_no_merge(train, med, project):
    result = train(*METHODS["full"], "--run", "whole", "--max-steps", 1)
    assert "med merge" not in result.stdout
    merged = med("merge", "whole")
    assert merged.exit_code == 4
    assert "plain model folder" in merged.stderr
    assert "library_name: transformers" in (project / "runs/whole/README.md").read_text()
    assert med("chat", project / "runs/whole/model", "你好", "--max-tokens", 3).exit_code == 0


def test_continue_goes_on_with_the_same_adapter(train, med, project):
    assert train("lora", "--dataset", "few", "--rank", 3, "--run", "one", "--max-steps", 3).exit_code == 0
    result = train("lora", "--dataset", "few", "--continue", "--run", "two", "--max-steps", 3, model="one")
    assert result.exit_code == 0, result.stderr
    one, two = trained(project, "one"), trained(project, "two")
    assert {name: tensor.shape for name, tensor in one.items()} == {name: tensor.shape for name, tensor in two.items()}
    assert not all(torch.equal(one[name], two[name]) for name in one)
    assert losses(project, "two")[0] < losses(project, "one")[0]  # it begins where the first one ended
    assert "adapters = []" in (project / "runs/two/run.toml").read_text()
    assert json.loads(med("merge", "two", "--json").stdout)["equal"] is True


def test_a_vocabulary_that_was_extended_is_trained(train, med, project, models, tmp_path):
    """The new words' rows are learnt, and the adapter brings them along."""
    words = ("幽门螺杆菌", "四联疗法", "质子泵抑制剂", "阿莫西林", "克拉霉素", "胃镜检查", "呼气试验", "萎缩性胃炎")
    lines = ["，".join(three) + "。" for three in itertools.permutations(words, 3)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(lines * 4), "utf-8")
    extended = med("data", "vocab", corpus, "--model", models["llama"], "--out", tmp_path / "wide", "--extend", 40)
    assert extended.exit_code == 0, extended.stderr
    result = train(*METHODS["pt"], "--run", "wide", "--max-steps", 3, model=tmp_path / "wide")
    assert result.exit_code == 0, result.stderr
    saved = trained(project, "wide")
    embedding = next(tensor for name, tensor in saved.items() if "embed_tokens" in name)
    assert not torch.equal(embedding, load_file(tmp_path / "wide/model.safetensors")["model.embed_tokens.weight"])
    assert med("chat", "wide", "你好", "--max-tokens", 3).exit_code == 0
    merged = med("merge", "wide", "--json")
    assert json.loads(merged.stdout)["equal"] is True, merged.stderr


@pytest.mark.parametrize("method", ["freeze", "full"])
def test_killed_at_any_step_the_last_checkpoint_is_whole(train, project, models, method):
    command = [sys.executable, "-m", "medcli", "train", *map(str, METHODS[method]), "--model", str(models["llama"])]
    command += [*map(str, STEPS), "--run", "killed", "--max-steps", "5000", "--save-every", "5"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=project)
    checkpoints, deadline = project / "runs/killed/checkpoints", time.monotonic() + 90
    while len(list(checkpoints.glob("checkpoint-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    lines = (project / "runs/killed/metrics.jsonl").read_text().splitlines()
    reached = json.loads(lines[-1])["step"] if lines[-1].endswith("}") else json.loads(lines[-2])["step"]
    newest = max(int(path.name.split("-")[1]) for path in checkpoints.glob("checkpoint-*"))
    assert reached - newest <= 10  # at most the steps since the last checkpoint, and the one being written
    result = train(*METHODS[method], "--run", "killed", "--resume", "--max-steps", newest + 3, "--save-every", 5)
    assert result.exit_code == 0, result.stderr
    assert trained(project, "killed")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_on_a_full_disk_the_older_checkpoint_stays_and_is_named(train, project, method):
    """No file may grow past 20 kB, as on a full disk, once the first checkpoint is written."""
    words = [*METHODS[method], "--run", "full", "--save-every", 2]
    assert train(*words, "--max-steps", 2).exit_code == 0
    table = project / "runs/full/run.toml"
    table.write_text(table.read_text().replace('status = "finished"', 'status = "running"'))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        result = train(*words, "--max-steps", 6, "--resume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 5, result.stderr
    assert "checkpoint-2 is whole" in result.stderr
    assert f"med train {method} --resume --run full" in result.stderr
    assert [path.name for path in (project / "runs/full/checkpoints").iterdir()] == ["checkpoint-2"]
    assert train(*words, "--max-steps", 6, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["freeze", "--dataset", "few", "--layers", "last:9"], 2, "the model has 2 layers"),
        (["freeze", "--dataset", "few", "--layers", "lats:1"], 2, "names no layers"),
        (["freeze", "--dataset", "few", "--layers", "every:3"], 2, "the model has 2 layers"),
        (["full", "--dataset", "few", "--precision", "fp16"], 4, "needs a GPU"),
        (["full", "--dataset", "plain"], 3, "holds documents"),
        (["pt", "--dataset", "few"], 3, "holds conversations"),
        (["pt", "--dataset", "plain", "--tuner", "freeze", "--rank", 3], 2, "--rank is without effect"),
        (["lora", "--dataset", "few", "--continue"], 2, "has no adapter to go on with"),
        (["lora", "--dataset", "few", "--quant", "4bit", "--init", "pissa"], 2, "--init pissa needs"),
        (["lora", "--dataset", "few", "--modules-to-save", "embed_token"], 4, "did you mean 'embed_tokens'"),
        (["ptuning", "--dataset", "few", "--packing"], 2, "--no-packing"),
        (["ptuning", "--dataset", "few", "--checkpointing"], 2, "--checkpointing"),
    ],
)
def test_wrong_settings_get_one_message(train, project, words, code, said):
    result = train(*words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((project / "runs").glob("*/run.toml"))
