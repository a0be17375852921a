"""`med init`: by flags, on a real terminal, and again over what is there."""

import json
import os
import signal
import sys
import tomllib

import pytest

from tests.conftest import RAW


def toml(project):
    return tomllib.loads((project / "med.toml").read_text("utf-8"))


def test_flags_answer_every_question(med, project):
    result = med(
        "init", "--yes", "--purpose", "train", "--language", "zh", "--model", "Qwen/Qwen3-0.6B", "--dataset",
        RAW / "alpaca", "--name", "clinic", "--method", "lora", "--recipe", "carellama", "--track", "tensorboard",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert toml(project) == {
        "language": "zh",
        "train": {
            "model": "Qwen/Qwen3-0.6B",
            "dataset": ["clinic"],
            "track": ["tensorboard"],
            "lora": {"recipe": "carellama"},
        },
    }
    assert "对话，按 alpaca 读取" in result.stderr
    assert "1 user: 最近一周早上起床总是头晕" in result.stderr
    assert "alpaca.json:" in result.stderr, "rows that hold no record are named"
    following = [line.strip() for line in result.stdout.splitlines()[1:]]
    assert following == [f"med data build {RAW / 'alpaca'} --name clinic", "med train lora", "med chat lora-clinic"]


def test_what_it_writes_is_what_training_reads(med, project, cached_tiny):
    assert med("init", "--yes", "--dataset", RAW / "alpaca", "--name", "few", "--model", "med-tiny").exit_code == 0
    assert med("data", "build", RAW / "alpaca", "--name", "few").exit_code == 0
    planned = med("train", "lora", "--max-steps", 2, "--plan", "--json")
    assert planned.exit_code == 0, planned.stderr
    settings = json.loads(planned.stdout)["settings"]
    assert settings["dataset"] == {"value": ["few"], "origin": "med.toml"}
    assert settings["model"] == {"value": "med-tiny", "origin": "med.toml"}


def test_a_recipe_in_med_toml_lies_below_what_stands_beside_it(med, project, built, cached_tiny):
    built("few", RAW / "alpaca")
    (project / "med.toml").write_text('[train.lora]\nrecipe = "huatuo"\nrank = 4\nquant = "none"\n', "utf-8")
    rows = json.loads(med("train", "lora", "--dataset", "few", "--plan", "--json").stdout)["settings"]
    assert rows["rank"] == {"value": 4, "origin": "med.toml"}
    assert rows["warmup"] == {"value": 0.1, "origin": "recipe huatuo"}
    assert med("train", "lora", "--dataset", "few", "--recipe", "carellama", "--plan", "--json").stdout != ""
    (project / "med.toml").write_text('[train.lora]\nrecipe = "hautuo"\n', "utf-8")
    refused = med("train", "lora", "--dataset", "few", "--plan")
    assert (refused.exit_code, "did you mean 'huatuo'?" in refused.stderr) == (2, True)


def test_without_answers_it_is_for_trying(med, project):
    result = med("init", "--yes", "--json")
    assert toml(project) == {"language": "en"}
    assert json.loads(result.stdout) == {
        "file": str(project / "med.toml"),
        "written": True,
        "commands": ["med quickstart", "med chat quickstart", "med runs show quickstart"],
        "plan": None,
    }


def test_evaluating(med, project):
    result = med("init", "--yes", "--purpose", "eval", "--model", "med-tiny", "--exam", "triage")
    assert toml(project) == {"language": "en", "eval": {"exam": ["triage"]}, "chat": {"model": "med-tiny"}}
    assert "med eval med-tiny" in result.stdout


def test_the_plan_is_told_by_rule_of_thumb(med, project):
    result = med("init", "--yes", "--json", "--dataset", RAW / "alpaca", "--model", "Qwen/Qwen3-0.6B")
    plan = json.loads(result.stdout)["plan"]
    assert plan["memory"] == pytest.approx(0.6 * 2.35e9 / 2**30 + 1.5)
    assert plan["download"] == pytest.approx(1.2e9 / 2**30)
    assert 0 < plan["hours"][0] < plan["hours"][1]


def test_again_it_changes_what_is_there_and_keeps_the_rest(med, project):
    (project / "med.toml").write_text('# mine\n[train]\nmodel = "med-tiny"  # small\nepochs = 2\n', "utf-8")
    result = med("init", "--yes", "--dataset", RAW / "alpaca", "--name", "few", "--track", "none")
    assert result.exit_code == 0, result.stderr
    text = (project / "med.toml").read_text("utf-8")
    assert text.startswith("# mine\n")
    assert 'model = "med-tiny"  # small\n' in text
    assert toml(project)["train"] == {"model": "med-tiny", "epochs": 2, "dataset": ["few"], "lora": {}}
    assert '+dataset = ["few"]' in result.stderr
    assert "-model" not in result.stderr
    again = med("init", "--yes")
    assert again.exit_code == 0, again.stderr
    assert "stays as it is" in again.stderr
    assert (project / "med.toml").read_text("utf-8") == text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "nobody is here to answer"),
        (("--yes", "--purpose", "train"), "--dataset is missing"),
        (("--yes", "--dataset", "nowhere.json"), "nowhere.json"),
        (("--yes", "--dataset", RAW / "alpaca", "--method", "rm"), "rm does not learn from conversations"),
        (("--yes", "--dataset", RAW / "alpaca", "--recipe", "huatou"), "did you mean 'huatuo'?"),
        (("--yes", "--dataset", RAW / "alpaca", "--track", "wandbb"), "did you mean 'wandb'?"),
        (("--yes", "--dataset", RAW / "cmexam"), "which no method learns from"),
        (("--yes", "--purpose", "play"), "'play' is not a choice"),
        (("--yes", "--language", "fr"), "no language is called 'fr'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(med, project, flags, said):
    result = med("init", *flags)
    assert result.exit_code in (2, 3)
    assert said in result.stderr
    assert list(project.iterdir()) == []


@pytest.fixture
def terminal(project):
    """`med init` on a pseudo-terminal of its own."""
    import pexpect

    started = []

    def start(*words):
        environment = os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "PYTHONUTF8": "1"}
        environment.pop("MED_LANG")
        started.append(
            pexpect.spawn(
                sys.executable,
                ["-m", "medcli", "init", *map(str, words)],
                env=environment,
                encoding="utf-8",
                timeout=30,
                dimensions=(50, 100),
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip
        )
        return started[-1]

    yield start
    for one in started:
        one.close(force=True)


# Python 3.12 warns of a fork in a process with threads; the child starts another program at once.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
UP, DOWN, ENTER = "\x1b[A", "\x1b[B", "\r"


def end_of(child):
    import pexpect

    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


@forks
def test_a_whole_talk(terminal, project):
    (project / "mine.json").write_text((RAW / "alpaca" / "alpaca.json").read_text("utf-8"), "utf-8")
    child = terminal("--model", "med-tiny")
    child.expect_exact("Language / 语言")
    child.send(DOWN + ENTER)  # English is proposed
    child.expect_exact("处理器：")
    child.expect_exact("这个项目用来做什么？")
    child.send(DOWN + ENTER)
    child.expect_exact("用什么数据训练？")
    child.send(ENTER)
    child.expect_exact("文件或文件夹：")
    child.send("nothing.json" + ENTER)
    child.expect_exact("nothing.json：没有这个文件或文件夹")
    child.expect_exact("文件或文件夹：")
    child.send("mine.json" + ENTER)
    child.expect_exact("1 user: 最近一周早上起床总是头晕")
    child.expect_exact("数据集的名字：")
    child.send("\x15clinic" + ENTER)  # Ctrl-U: what is proposed goes
    child.expect_exact("用哪种方法训练？")
    child.send(ENTER)
    child.expect_exact("采用某个已发表系统的设置吗？")
    child.send(ENTER)
    child.expect_exact("还要在别处跟踪训练吗？")
    child.send(ENTER)
    child.expect_exact("+language")
    child.expect_exact("写入")
    child.send("y")
    child.expect_exact("med data build mine.json --name clinic")
    child.expect_exact("现在运行")
    child.send("y")
    child.expect_exact("clinic")  # the first command runs, in the language that was chosen
    assert end_of(child) == 0
    assert toml(project)["train"] == {"model": "med-tiny", "dataset": ["clinic"], "lora": {}}
    assert (project / "data" / "clinic" / "manifest.toml").is_file()


@forks
def test_ctrl_c_leaves_nothing_behind(terminal, project):
    child = terminal()
    child.expect_exact("Language / 语言")
    child.send(ENTER)
    child.expect_exact("What is this project for?")
    child.sendintr()
    assert end_of(child) == 130
    assert list(project.iterdir()) == []


@forks
def test_who_says_no_keeps_what_there_was(terminal, project):
    (project / "med.toml").write_text("# mine\n", "utf-8")
    child = terminal("--language", "en", "--purpose", "eval", "--model", "med-tiny", "--exam", "triage")
    child.expect_exact("Change")
    child.send("n")
    child.expect_exact("nothing is written")
    assert end_of(child) == 0
    assert (project / "med.toml").read_text("utf-8") == "# mine\n"
