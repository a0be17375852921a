"""`med runs`: what stands in run folders is listed, compared and drawn, and nothing is deleted that is still needed."""

import json
import os
import pty
import subprocess
import sys

import pytest

from medcli.cli import curve
from medcli.core.run_folder import RunFolder
from medcli.steps import run_card
from tests.conftest import RAW

RUN_TOML = """
[run]
method = "lora"
status = "{status}"
started = "{started}"
med = "0.1"

[settings]
dataset = ["few"]
run = "{name}"
lr = {lr}
rank = 8

[origins]
dataset = "flag"
run = "default"
lr = "flag"
rank = "recipe huatuo"

[model]
base = "{base}"
adapters = {adapters}
template = "qwen2.5"

[data.few]
path = "data/few"
sha256 = "{sha}"
records = 9

[plan]
steps = 4
"""


@pytest.fixture
def made(project):
    """`made("one")` writes a run folder by hand, of four steps with two validations."""

    def make(name, *, status="finished", started="2026-01-01T10:00:00+0000", lr=0.1, base="org/model", adapters=(),
             sha="abcdef0123456789", losses=(4.0, 3.0, 2.5, 2.25), figures=()):  # fmt: skip
        folder = project / "runs" / name
        (folder / "adapter").mkdir(parents=True)
        text = RUN_TOML.format(
            name=name, status=status, started=started, lr=lr, base=base, sha=sha, adapters=json.dumps(list(adapters))
        )
        text += "[result]\nsteps = 4\nseconds = 2.0\ntokens = 900\n" if status == "finished" else ""
        (folder / "run.toml").write_text(text)
        rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]
        rows += [{"step": step, "eval_loss": loss} for step, loss in ((2, 3.5), (4, 3.6)) if losses]
        rows = list(figures) or rows
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "adapter" / "adapter_model.safetensors").write_bytes(bytes(2**20))
        return RunFolder(folder)

    return make


FIGURES = ("loss", "valid_loss", "reward", "valid_reward", "valid_accuracy")


def listed(med):
    return {row["name"]: row for row in json.loads(med("runs", "list", "--json").stdout)}


def test_runs_are_listed_in_the_order_they_were_started(med, made, tmp_path):
    first = made("zebra", started="2026-01-01T10:00:00+0000", base=str(tmp_path / "qwen"))
    made("ant", started="2026-01-02T10:00:00+0000", adapters=[str(first.adapter)])
    rows = listed(med)
    assert list(rows) == ["zebra", "ant"]
    assert rows["zebra"] == {
        "name": "zebra", "method": "lora", "base": "qwen", "data": ["few"], "status": "finished", "steps": 4,
        "planned": 4, "loss": 2.25, "valid_loss": 3.5, "started": "2026-01-01T10:00:00+0000",
        "reward": None, "valid_reward": None, "valid_accuracy": None,
    }  # fmt: skip
    assert rows["ant"]["base"] == "org/model + zebra"
    table = med("runs", "list").stdout
    assert "4/4" in table
    assert "01-02 10:00" in table
    assert table.index("zebra") < table.index("ant")


def test_a_killed_run_is_told_from_a_running_one(med, made):
    made("killed", status="running")
    with made("busy", status="running").held():
        rows = listed(med)
    assert rows["busy"]["status"] == "running"
    assert rows["killed"]["status"] == "stopped"
    made("young", status="running", losses=())
    assert listed(med)["young"] | {"steps": 0, "loss": None, "valid_loss": None} == listed(med)["young"]


def test_without_runs_it_says_how_to_make_one(med):
    result = med("runs", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "med train lora" in result.stderr
    assert json.loads(med("runs", "list", "--json").stdout) == []


def test_a_run_is_shown_with_origins_curve_and_room(med, made):
    made("one")
    shown = med("runs", "show", "one").stdout
    for part in ("recipe huatuo", "abcdef012345", "best valid loss", "disk MiB", "loss per token", "* training"):
        assert part in shown
    data = json.loads(med("runs", "show", "one", "--json").stdout)
    assert data["settings"]["rank"] == {"value": 8, "origin": "recipe huatuo"}
    assert data["results"]["disk MiB"] == pytest.approx(1.0, abs=0.05)
    assert data["curves"][1] == {"figure": "loss", "label": "validation", "points": [[2, 3.5], [4, 3.6]]}
    made("young", status="running", losses=())
    assert "nothing is measured yet" in med("runs", "show", "young").stdout
    unknown = med("runs", "show", "onee")
    assert unknown.exit_code == 2
    assert "did you mean 'one'" in unknown.stderr


def test_only_what_differs_is_compared(med, made, project):
    made("one")
    made("two", lr=0.2, sha="9999999999999999", losses=(5.0, 4.0))
    result = med("runs", "compare", "one", "two", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["settings"] == {
        "lr": {"one": 0.1, "two": 0.2},
        "data few": {"one": "9 records abcdef012345", "two": "9 records 999999999999"},
    }
    assert found["results"]["loss"] == {"one": 2.25, "two": 4.0}
    assert (project / "runs" / "compare.png").read_bytes().startswith(b"\x89PNG")
    shown = med("runs", "compare", "one", "two", "--output", "both.png").stdout
    assert "rank" not in shown
    assert "drawn to both.png" in shown
    assert "o two" in shown
    assert (project / "both.png").is_file()


def test_pairs_are_told_by_their_share_and_policies_by_their_reward(med, made, project):
    made("judge", figures=[
        {"step": 1, "loss": 0.7, "accuracy": 0.5, "reward": 0.1},
        {"step": 2, "loss": 0.4, "accuracy": 0.75, "reward": 0.2, "eval_loss": 0.5, "eval_accuracy": 0.9},
    ])  # fmt: skip
    ends = {"eval_reward_low": 1.0, "eval_reward_high": 2.0}
    made("policy", figures=[
        {"step": 0, "eval_reward": 0.5, "eval_kl": 0.0},
        {"step": 1, "loss": 0.0, "reward": 0.25, "kl": 0.01},
        {"step": 2, "loss": 0.0, "reward": 1.25, "kl": 0.03, "eval_reward": 1.5, **ends},
    ])  # fmt: skip
    made("young", losses=())
    rows = listed(med)
    judge, policy = ({key: rows[name][key] for key in FIGURES} for name in ("judge", "policy"))
    assert list(judge.values()) == [0.4, 0.5, None, None, 0.9]
    assert list(policy.values()) == [None, None, 1.25, 1.5, None]
    shown = " ".join(med("runs", "list").stdout.split())
    assert "(90%)" in shown
    shown = med("runs", "show", "judge").stdout
    assert "loss per pair" in shown
    assert "pairs right (share)" in shown
    assert "per token" not in shown
    shown = med("runs", "show", "policy").stdout
    assert "KL to the reference" in shown
    assert "loss per" not in shown
    compared = med("runs", "compare", "judge", "policy", "young")
    assert compared.exit_code == 0, compared.stderr
    assert "loss per pair" in compared.stdout
    assert high(project / "runs/compare.png") == 900  # a panel for the loss, and one for the reward


def test_a_run_is_drawn_by_what_it_is_judged_by(made):
    plain = made("plain")
    alone = made("alone", figures=[{"step": 1, "loss": 0.0, "reward": 1.0}])
    both = made("both", figures=[{"step": step, "reward": 1.0, "kl": 0.1} for step in (1, 2)])
    for run, height in ((plain, 540), (alone, 540), (both, 900)):
        run_card.draw_losses(run)
        assert high(run.path / "loss.png") == height


def high(picture):
    """The picture's height in pixels, as its header has it."""
    return int.from_bytes(picture.read_bytes()[20:24], "big")


def test_comparisons_that_say_nothing_are_refused(med, made):
    made("one")
    made("same")
    assert med("runs", "compare", "one", "one").exit_code == 2
    assert "no setting differs" in med("runs", "compare", "one", "same").stdout
    result = med("runs", "compare", "one", "same", "--output", "absent/both.png")
    assert result.exit_code == 5
    assert "absent/both.png" in result.stderr


def test_runs_are_deleted_only_on_a_word(med, made, project):
    made("one")
    result = med("runs", "rm", "one")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert (project / "runs" / "one").is_dir()
    result = med("runs", "rm", "one", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "deleted one; 1.0 MiB are free" in result.stdout
    assert not (project / "runs" / "one").exists()


@pytest.mark.parametrize(("answer", "left"), [("n\n", True), ("y\n", False)])
def test_on_a_terminal_it_asks(made, project, answer, left):
    made("one")
    master, terminal = pty.openpty()
    os.write(master, answer.encode())
    command = [sys.executable, "-m", "medcli", "runs", "rm", "one"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, cwd=project, check=True)
    os.close(terminal)
    os.close(master)
    assert "Delete one (1.0 MiB) for ever?" in done.stderr
    assert (project / "runs" / "one").is_dir() is left


def test_what_is_needed_is_not_deleted(med, made, project):
    below = made("below")
    made("above", adapters=[str(below.adapter)])
    made("merged", base=str(below.path / "merged"))
    result = med("runs", "rm", "below", "--yes")
    assert result.exit_code == 2
    assert "above, merged was trained on top of" in result.stderr.replace("\n", " ")
    with made("busy").held():
        assert "a process is working" in med("runs", "rm", "busy", "--yes").stderr
    assert len(listed(med)) == 4
    assert med("runs", "rm", "below", "above", "merged", "--yes").exit_code == 0
    assert list(listed(med)) == ["busy"]


def test_deleting_never_leaves_the_runs_folder(med, made, project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights").write_bytes(bytes(2**20))
    inside = made("one")
    (inside.path / "link").symlink_to(outside)
    made("elsewhere").path.rename(outside / "run")
    (project / "runs" / "linked").symlink_to(outside / "run")
    for name in ("linked", outside / "run"):
        result = med("runs", "rm", name, "--yes")
        assert result.exit_code == 2
        assert "by hand" in result.stderr
    assert "1.0 MiB" in med("runs", "rm", "one", "--yes").stdout  # the link's target is not counted
    assert (outside / "weights").is_file()
    assert (outside / "run" / "run.toml").is_file()


def test_a_run_whose_settings_are_broken_can_still_go(med, made):
    made("good")
    (made("broken").settings_file).write_text("[run\n")
    assert "broken" in med("runs", "list").stderr
    assert med("runs", "rm", "broken", "--yes").exit_code == 0
    assert list(listed(med)) == ["good"]


def test_a_real_run_is_listed_and_shown(med, built, tiny_folder):
    built("few", RAW / "alpaca", "--valid", 0.2, "--test", 0)
    words = ("--model", tiny_folder, "--max-length", 128, "--batch", 2, "--max-steps", 3, "--eval-every", 1)
    result = med("train", "lora", "--dataset", "few", "--run", "real", *words)
    assert result.exit_code == 0, result.stderr
    row = listed(med)["real"]
    assert (row["status"], row["steps"], row["planned"], row["data"]) == ("finished", 3, 3, ["few"])
    assert row["valid_loss"] > 0
    shown = med("runs", "show", "real").stdout
    assert "o validation" in shown
    assert "max_steps" in shown


def test_a_curve_falls_from_its_first_to_its_last_column():
    rows = curve.rows_of([[(step, 100 - step) for step in range(1, 101)]], width=60)
    assert all(len(row) <= 60 for row in rows)
    assert rows[0].strip().startswith("99 ┤*")
    assert rows[curve.HEIGHT - 1].strip().startswith("0 ┤")
    assert rows[curve.HEIGHT - 1].endswith("*")
    columns = [row.index("*") for row in rows[: curve.HEIGHT]]
    assert columns == sorted(columns)
    assert rows[-1].split() == ["1", "step", "100"]


def test_curves_of_few_points_are_drawn_too():
    one = curve.rows_of([[(5, 2.0)]], width=40)
    assert sum(row.count("*") for row in one) == 1
    two = curve.rows_of([[(1, 1.0), (9, 1.0)], [(1, 0.0), (9, 2.0)]], width=40)
    assert "*" in "".join(two)
    assert "o" in "".join(two)
    noisy = curve.rows_of([[(step, step % 2) for step in range(1000)]], width=40)
    assert len({index for index, row in enumerate(noisy) if "*" in row}) <= 4  # a column shows the mean of its points
