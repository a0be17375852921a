"""`med predict` on the command line, with a model that is here, with one behind a service, and with neither."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcli.cli import predict
from medcli.core.errors import ServiceError, UnknownNameError, UsageError
from medcli.core.report import Silent
from medcli.core.speaker import Answer
from medcli.engine.speaker import LocalSpeaker
from medcli.steps import predict as step
from medcli.steps.predict import Settings
from tests import tiny_model
from tests.engine.chat_service import Fault, chat_service, filtered, last
from tests.predicting import Hasty, prompts_file

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ran(project, capsys):
    """`ran(speaker, as_json=…)` answers in.txt with a speaker that is no model, and returns what was printed."""
    prompts_file(project / "in.txt", 8)

    def run(speaker=None, *, as_json=False, **settings):
        asked = {"model": "med-tiny", "input": "in.txt", "output": Path("out.jsonl")} | settings
        predict.run(Settings(**asked), as_json=as_json, speaker=speaker or Hasty())
        return capsys.readouterr()

    return run


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("MED_API_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_end_says_what_came_of_it(ran):
    printed = ran()
    assert printed.out == (
        "out.jsonl: 7 of 8 prompts answered, 1 of them cut at 512 tokens\nrefused: 1\n  3: 问题2长 is too long\n"
    )
    assert "answering: 8 prompts" in printed.err
    assert re.search(r"63 tokens in \d\.\d s: [\d,]+ a second", printed.err)
    again = ran()
    assert again.out == printed.out
    assert "nothing to do: out.jsonl has all 8 answers" in again.err


def test_the_end_as_json(ran):
    told = json.loads(ran(as_json=True).out)
    assert told.pop("seconds") >= 0
    assert told.pop("tokens_per_second") > 0
    assert told == {
        "output": "out.jsonl",
        "rows": 8,
        "answered": 7,
        "cut": 1,
        "tokens": 63,
        "refused": [{"id": 3, "problem": "问题2长 is too long"}],
        "asked_now": 8,
    }


def test_without_a_model_it_is_med_tiny_and_says_so(ran):
    printed = ran(model="")
    assert "no MODEL is named: asking med-tiny" in printed.err
    assert "med-tiny is a demonstration model" in printed.err


def test_ctrl_c_says_that_the_same_command_goes_on(ran, capsys):
    with pytest.raises(KeyboardInterrupt):
        ran(Hasty(most=3))
    assert "the same command goes on from them" in capsys.readouterr().err
    assert "going on where it was stopped: 3 answers are there already" in ran().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--output", "o.jsonl"], 2, "neither --input nor --dataset is given"),
        (["--input", "in.txt"], 2, "--output is missing"),
        (["--input", "in.txt", "--output", "o", "--dataset", "x"], 2, "exclude each other"),
        (["--dataset", "x", "--output", "o"], 2, "no built data set is called 'x'"),
        (["--input", "in.tx", "--output", "o"], 3, "did you mean 'in.txt'?"),
        (["--input", "bad.jsonl", "--output", "o"], 3, "bad.jsonl:1: the question is empty"),
        (["--input", "in.txt", "--output", "o", "--format", "aray"], 2, "did you mean 'array'?"),
        (["--input", "in.txt", "--output", "o", "--top-p", "2"], 2, "--top-p"),
        (["--input", "in.txt", "--output", "."], 2, "is no file"),
        (["med-tinyy", "--input", "in.txt", "--output", "o"], 4, "did you mean 'med-tiny'?"),
        (["http://localhost:8000/v1", "--input", "in.txt", "--output", "o"], 2, "does not say which model"),
    ],
)
def test_the_command_line_refuses_what_it_must(med, project, words, code, said):
    prompts_file(project / "in.txt", 2)
    (project / "bad.jsonl").write_text('{"text": ""}\n')
    result = med("predict", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert sorted(path.name for path in project.iterdir()) == ["bad.jsonl", "in.txt"]


class Impatient(Silent):
    """Presses Ctrl-C when so many answers are there."""

    def __init__(self, most):
        self.most = most

    def advance(self, done):
        if done == self.most:
            raise KeyboardInterrupt


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_was_stopped_says_what_it_would_have_said(project, tiny_folder, monkeypatch, temperature):
    monkeypatch.setattr(step, "WINDOW", 5)
    asked = [{"question": "头痛" * (900 if number == 3 else number + 1)} for number in range(12)]
    (project / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    common = {"model": str(tiny_folder), "input": "in.jsonl", "temperature": temperature, "max_tokens": 8}
    step.predict(Settings(**common, output=Path("whole.jsonl")), Silent())
    speaker = LocalSpeaker(tiny_model.loaded(tiny_folder))
    for most in (2, 1, 6):
        with pytest.raises(KeyboardInterrupt):
            step.predict(Settings(**common, output=Path("out.jsonl")), Impatient(most), speaker=speaker)
    found = step.predict(Settings(**common, output=Path("out.jsonl")), Silent(), speaker=speaker)
    assert (project / "out.jsonl").read_bytes() == (project / "whole.jsonl").read_bytes()
    assert found.asked == 12 - 2 - 1 - 6
    told = rows(project / "out.jsonl")
    assert [row["finish"] for row in told if row["id"] == 4] == ["refused"]
    assert "reads at most 512" in told[3]["problem"]
    assert {row["finish"] for row in told} <= {"stop", "length", "refused"}
    assert all(row["tokens"] <= 8 for row in told)


def test_a_service_answers_in_any_order(med, project, no_proxy):
    prompts_file(project / "in.txt", 20)

    def script(body):
        time.sleep(0.1 if last(body) == "问题0" else 0.001)
        if last(body) == "问题7":
            return filtered()
        return Fault(400, "too long") if "长" in last(body) else f"答{last(body)}"

    with chat_service(script) as service:
        words = ["predict", f"{service.url}#m", "--input", "in.txt", "--output", "out.jsonl", "--stop", "。"]
        result = med(*words, "--repetition-penalty", "1.1", "--seed", "5")
        assert result.exit_code == 0, result.stderr
        assert med(*words, "--repetition-penalty", "1.1", "--seed", "5").exit_code == 0
    told = rows(project / "out.jsonl")
    assert [row["id"] for row in told] == list(range(1, 21))
    assert [row["answer"] for row in told if row["finish"] == "stop"][:2] == ["答问题0", "答问题1"]
    assert [(row["id"], row["problem"]) for row in told if row["finish"] == "refused"] == [
        (3, told[2]["problem"]),
        (8, "content_filter"),
    ]
    assert "too long" in told[2]["problem"]
    bodies = [body for body in service.bodies if last(body) != "你好"]
    assert len(bodies) == 20
    assert sorted(body["seed"] for body in bodies) == list(range(5, 25))
    assert {(body["stop"][0], body["repetition_penalty"]) for body in bodies} == {("。", 1.1)}


def test_what_a_service_answered_before_it_went_is_not_asked_again(med, project, no_proxy):
    prompts_file(project / "in.txt", 20)
    gone = []

    def script(body):
        if len(service.bodies) > 10 and not gone:
            return Fault(401)
        return f"答{last(body)}"

    with chat_service(script) as service:
        words = ["predict", f"{service.url}#m", "--input", "in.txt", "--output", "out.jsonl"]
        assert med(*words).exit_code == ServiceError.exit_code
        gone.append(True)
        before = len(service.bodies)
        result = med(*words, "--json")
        assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["asked_now"] == len(service.bodies) - before == 10
    assert [row["answer"] for row in rows(project / "out.jsonl")][:2] == ["答问题0", "答问题1"]


class Reading:
    """Cites the first passage, when it was given one."""

    def answers(self, prompts, sampling):
        for number, prompt in enumerate(prompts):
            said = "低盐饮食[1]" if "低盐" in prompt[-1].content else "不知道"
            yield number, Answer(text=said, finish="stop", tokens=5)


def test_answers_rest_on_a_knowledge_base(ran, med, project):
    pytest.importorskip("bm25s")
    (project / "guide.txt").write_text("高血压患者应低盐饮食，每日食盐不超过5克。\n", "utf-8")
    assert med("kb", "build", "guide.txt", "--name", "guide").exit_code == 0
    (project / "in.txt").write_text("高血压患者饮食要注意什么？\n火星上有几座城市？\n", "utf-8")
    ran(Reading(), kb="guide")
    first, second = rows(project / "out.jsonl")
    assert first["answer"].startswith("低盐饮食[1]")
    assert "每日食盐不超过5克" in first["answer"]
    assert "未找到依据" in second["answer"]
    assert first["messages"] == [{"role": "user", "content": "高血压患者饮食要注意什么？"}]
    assert first["settings"]["kb"] == "guide"
    with pytest.raises(UsageError, match="--kb was guide, now not given"):
        ran(Reading())
    with pytest.raises(UnknownNameError):
        ran(Reading(), kb="gide", output=Path("b.jsonl"))


def rows_so_far(path):
    return path.read_text("utf-8").count("\n") if path.exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_exit_code(project, no_proxy, number, code):
    prompts_file(project / "in.txt", 100)

    def script(body):
        time.sleep(0.05)
        return "好"

    with chat_service(script) as service, (project / "in.txt").open() as prompts:
        words = ["predict", f"{service.url}#m", "--input", "-", "--output", "out.jsonl"]
        child = subprocess.Popen(
            [sys.executable, "-m", "medcli", *words],
            cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=prompts, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        while not rows_so_far(project / "out.jsonl"):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(number)
        said = child.communicate(timeout=60)[1]
    assert child.returncode == code, said
    assert 0 < len(rows(project / "out.jsonl")) < 100
    assert "the same command goes on" in said
