"""`med merge` from the command line: what it writes, says and refuses."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medcli.core.atomic import sha256_of
from tests import families
from tests.engine import small_adapters

UP, DOWN = {"target_modules": ["up_proj"]}, {"target_modules": ["down_proj"]}


@pytest.fixture
def run(project, tiny_folder):
    """`run("one")` makes a run of LoRA on the tiny model."""

    def make(name, base=tiny_folder, **given):
        return small_adapters.write_run(name, base, **given)

    return make


def marked(folder):
    return json.loads((folder / "merge.json").read_text("utf-8"))


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_is_merged_with_a_proof(run, med, project, tiny_folder):
    run("one")
    result = med("merge", "one", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    folder = project / "runs" / "one" / "merged"
    assert Path(said["path"]).resolve() == folder
    assert (said["dtype"], said["compared"], said["equal"], said["different"]) == ("float32", 4, True, 0)
    assert said["streamed"]
    assert 0 < said["log_probabilities"] < 1e-3
    assert 0 < said["logits"] < 1e-3
    table = marked(folder)
    adapter = str(project / "runs" / "one" / "adapter")
    assert table["merged_from"] == {
        "base": str(tiny_folder),
        "adapters": [adapter],
        "runs": [{"name": "one", "weight": 1.0, "adapters": [adapter]}],
    }
    assert table["proof"]["made"]
    assert len(table["proof"]["answers"]) == len(table["proof"]["prompts"]) == 4
    assert table["proof"]["logits"] == said["logits"]
    files = {path.name for path in folder.iterdir()} - {"merge.json"}
    assert table["sha256"] == {name: sha256_of(folder / name) for name in files}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= files
    assert "头痛" not in result.stdout


def test_without_a_check_no_proof_is_claimed(run, med, project):
    run("one")
    result = med("merge", "one", "--no-check", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    assert "no proof was made" in result.stdout
    assert "equal" not in result.stdout
    folder = project / "runs" / "one" / "merged"
    assert marked(folder)["proof"] == {"made": False}
    assert {value.dtype for value in weights(folder).values()} == {torch.bfloat16}
    assert json.loads(med("merge", "one", "--no-check", "--output", "again", "--json").stdout)["equal"] is None


def test_a_precision_that_was_asked_for_is_kept_and_the_difference_said(run, med):
    run("one")
    result = med("merge", "one", "--dtype", "bfloat16")
    assert result.exit_code == 0, result.stderr
    assert "bfloat16" in result.stdout
    assert "largest difference: 0.0" in result.stdout


def test_runs_on_one_base_are_added_up(run, med, project, tiny_folder):
    run("one", seed=1, **UP)
    run("two", seed=2, **DOWN)
    result = med("merge", "one", "two", "--weights", "0.5,2", "--output", "both", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["equal"] is True
    before, after = weights(tiny_folder), weights(project / "both")
    assert {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])} == {
        "up_proj",
        "down_proj",
    }
    runs = marked(project / "both")["merged_from"]["runs"]
    assert [(part["name"], part["weight"]) for part in runs] == [("one", 0.5), ("two", 2.0)]
    for name, part, weight in (("one", "up_proj", 0.5), ("two", "down_proj", 2)):
        assert med("merge", name, "--no-check").exit_code == 0
        key = f"model.layers.0.mlp.{part}.weight"
        alone = weights(project / "runs" / name / "merged")[key]
        torch.testing.assert_close(after[key] - before[key], weight * (alone - before[key]), rtol=1e-4, atol=1e-6)


def test_without_weights_each_run_counts_whole(run, med, project):
    run("one", seed=1, **UP)
    (run("two", seed=2, **UP) / "chat_template.jinja").write_text("another")
    merged = med("merge", "one", "two", "--output", "both", "--no-check")
    assert merged.exit_code == 0, merged.stderr
    assert "two was trained with another chat template than one" in merged.stderr
    assert med("merge", "one", "two", "--weights", "1,1", "--output", "same", "--no-check").exit_code == 0
    both, same = weights(project / "both"), weights(project / "same")
    assert all(torch.equal(both[name], same[name]) for name in both)


def test_one_run_by_half(run, med, project, tiny_folder):
    run("one", **UP)
    assert med("merge", "one", "--weights", "0.5", "--output", "half", "--no-check").exit_code == 0
    assert med("merge", "one", "--no-check").exit_code == 0
    key = "model.layers.1.mlp.up_proj.weight"
    before, half, whole = (
        weights(folder)[key] for folder in (tiny_folder, project / "half", project / "runs/one/merged")
    )
    torch.testing.assert_close(half - before, (whole - before) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["one", "two"], 2, "--output"),
        (["one", "two", "--weights", "1", "--output", "x"], 2, "1 weight for 2 runs"),
        (["one", "two", "--weights", "0.7,0,3", "--output", "x"], 2, "3 weights for 2 runs"),
        (["one", "two", "--weights", "0.7,much", "--output", "x"], 2, "'much' is not a number"),
        (["one", "two", "--weights", "nan,1", "--output", "x"], 2, "nan is no weight"),
        (["one", "other", "--output", "x"], 4, "cannot be added up"),
        (["one", "frozen", "--output", "x"], 4, "frozen is no LoRA run"),
        (["one", "after", "--output", "x"], 2, "would count twice"),
        (["one", "one", "--output", "x"], 2, "would count twice"),
        (["one", "--dtype", "bf16"], 2, "did you mean"),
        (["one", "--output", "data.txt"], 2, "exists"),
        (["noe"], 4, "did you mean 'one'"),
        ([], 2, "RUN"),
    ],
)
def test_what_cannot_be_added_up_is_said(run, med, project, tmp_path, words, code, said):
    run("one", **UP)
    run("two", seed=2, **UP)
    run("frozen", tensors=["model.norm.weight"])
    run("after", before=["one"], **UP)
    (project / "data.txt").write_text("")
    if "other" in words:
        run("other", base=families.write("llama", tmp_path / "other"))
    result = med("merge", *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert not (project / "x").exists()
    assert not list(project.glob(".*part"))


def test_a_run_that_went_on_may_be_weighed_against_the_one_before(run, med):
    run("one", **UP)
    run("after", before=["one"], **DOWN)
    result = med("merge", "one", "after", "--weights", "0.5,0.5", "--output", "x", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["equal"] is True


def test_an_adapter_folder_beside_a_run(run, med, project):
    """Paths are kept as they are everywhere, so that the folder can be read from elsewhere."""
    run("one")
    shutil.move(project / "runs" / "one" / "adapter", project / "moved")
    shutil.copy(project / "runs" / "one" / "chat_template.jinja", project / "moved")
    result = med("merge", "moved", "--output", "out", "--no-check")
    assert result.exit_code == 0, result.stderr
    assert marked(project / "out")["merged_from"]["adapters"] == [str(project / "moved")]
    assert (project / "out" / "chat_template.jinja").read_text() == (project / "moved/chat_template.jinja").read_text()


def test_a_disk_that_is_too_small_leaves_nothing(run, med, project):
    run("one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        result = med("merge", "one", "--no-check")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 5, result.stderr
    assert "a file would be larger than is allowed here" in result.stderr
    assert not list((project / "runs" / "one").glob("*merged*"))
