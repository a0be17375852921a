"""Every command of README and docs/ runs, as it is written there, one after the other in an empty folder.

Only names that stand for the reader's own are exchanged, and a med.toml keeps trainings and exams short. med-tiny is
replaced by a random model of its shape, so what is said is nonsense; that models learn is for other tests. What needs
another program, a network or a GPU is in `NOT_RUN`, with the reason.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import RAW
from tests.documents import PAGES, ROOT, Call, blocks, calls, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DISEASES = tomllib.loads((ROOT / "templates/knowledge/diseases.toml").read_text("utf-8"))["disease"]

STAND_INS = {"DIR": str(RAW / "cmedqa2"), "Qwen/Qwen2.5-0.5B": "med-tiny", "Qwen/Qwen2.5-0.5B-Instruct": "med-tiny"}
SHORT = """
[data.build]
limit = 40

[train]
max_steps = 2
batch = 2
accumulate = 1
valid_limit = 2

[train.ppo]
rollouts = 4
max_tokens = 8

[train.grpo]
group = 2
max_tokens = 8

[kb.build]
passage_length = 50

[eval]
limit = 2
max_tokens = 8

[predict]
max_tokens = 8

[chat]
max_tokens = 8
"""
NETWORK, SERVICE, LARGE, TALKS = "a download", "a service of the reader's", "several machines or GPUs", "asks a person"
LOCAL, CONVERTER = "http://localhost:8000/v1", "llama.cpp/convert_hf_to_gguf.py"
NOT_RUN = {
    "med quickstart": "test_lifecycle runs it, and what it reaches",
    "med init": f"{TALKS}: tests of init do that on a terminal",
    "med doctor": "it asks hubs whether they are there: tests of doctor do that with hubs of their own",
    "med clean": TALKS,
    "med data build toyhom": NETWORK,
    "HF_ENDPOINT=https://hf-mirror.com med data build shennong-tcm --hub huggingface": NETWORK,
    "med export runs/lora-cmedqa2 --output doctor-hub --push clinic/doctor": NETWORK,
    f"med data make preference clinic --model runs/lora-cmedqa2 --llm {LOCAL} --llm-model judge": SERVICE,
    f"med eval {LOCAL}#qwen2.5-7b --exam triage": SERVICE,
    f"med predict {LOCAL}#qwen2.5-7b --input prompts.csv --output service.jsonl --limit 100": SERVICE,
    "med train full --dataset clinic --devices 8 --strategy fsdp2": LARGE,
    "med train lora --dataset clinic --run pair --nodes 2 --node-rank 0 --main-address 10.0.0.1:29500": LARGE,
    f"med export runs/lora-cmedqa2 --output doctor-gguf --format gguf --converter {CONVERTER}": "of llama.cpp",
}  # fmt: skip
CODES = {  # of commands whose end says something
    "med eval runs/lora-cmedqa2 --exam triage --min escalation-recall=0.9 --max unsafe-advice=0.05": {7},
    "med doctor --offline --strict": {0, 5},  # as the machine is
    "med doctor --offline --json": {0, 5},
}
CLINIC = "data build consultations.csv --name clinic"
CMEDQA = "data build cmedqa2 --raw DIR"
# What a page takes for granted: what its reader has done on other pages.
BEFORE = {
    "README": ["data build knowledge", "train lora --dataset knowledge --run quickstart"],
    "data": [CMEDQA, "data build others.csv --name toyhom"],
    "training": [CLINIC, "data build textbooks.txt", "data build others.csv --name more"],
    "alignment": [CLINIC, "train lora --dataset clinic --run answers"],
    "many-gpus": [CLINIC],
    "evaluation": [CMEDQA, "train lora --dataset cmedqa2", "data build cmb --raw cmb"],
    "settings": [CLINIC],
    "project": [CLINIC, "train lora --dataset clinic"],
    "chat": [CMEDQA, "train lora --dataset cmedqa2"],
    "knowledge": [CMEDQA, "train lora --dataset cmedqa2"],
    "serving": [CMEDQA, "train lora --dataset cmedqa2", "kb build guides/ --name guides"],
    "merging": [
        CLINIC, CMEDQA, "train lora --dataset clinic --run answers", "train lora --dataset cmedqa2 --run better",
        "train lora --dataset cmedqa2",
    ],
}  # fmt: skip


def asked(call: Call) -> str:
    """The call as it stands in the page, its pipes left away."""
    return " ".join([*call.variables, "med", *call.words])


def serves(call: Call) -> bool:
    return call.words[:1] == ("serve",)


@pytest.fixture
def reader(project, cached_tiny):
    """The project of somebody who has the files that the pages speak of."""
    config = json.loads((cached_tiny / "config.json").read_text("utf-8"))
    config["max_position_embeddings"] = 4096  # room for passages
    (cached_tiny / "config.json").write_text(json.dumps(config), "utf-8")
    rows = [f"{one['name']}有哪些症状？,{'、'.join(one['symptoms'])}。" for one in DISEASES]
    for name, some in (("consultations", rows[:30]), ("followups", rows[30:50]), ("others", rows[50:])):
        (project / f"{name}.csv").write_text("\n".join(["question,answer", *some]) + "\n", "utf-8")
    shutil.copytree(RAW / "cmb", project / "cmb")
    shown = project / "cmb/CMB-val/CMB-val-merge.json"  # as many as are shown before each question
    first = json.loads(shown.read_text("utf-8"))[0]
    more = [first | {"question": f"{one['name']}患者测量血压前应休息至少"} for one in DISEASES[:8]]
    shown.write_text(json.dumps(more), "utf-8")
    texts = [f"{one['name']}的治疗：{'、'.join(one['treatment'])}。" for one in DISEASES]
    (project / "textbooks.txt").write_text("\n".join(texts) + "\n", "utf-8")
    (project / "guides").mkdir()
    (project / "guides" / "diet.md").write_text("\n".join(texts[:20]), "utf-8")
    questions = ["头痛怎么办？", "发热怎么办？", "咳嗽怎么办？"]
    for name in ("prompts.txt", "questions.txt"):
        (project / name).write_text("\n".join(questions) + "\n", "utf-8")
    prompts = [json.dumps({"prompt": question}, ensure_ascii=False) for question in questions]
    (project / "prompts.jsonl").write_text("\n".join(prompts) + "\n", "utf-8")
    shutil.copy(ROOT / "templates/knowledge/diseases.toml", project)
    shutil.copy(RAW / "graph/disease.csv", project)
    answers = json.loads((RAW / "cmb/CMB-test-choice-answer.json").read_text("utf-8"))
    gold = list({row["id"]: row for row in answers}.values())  # one of its ids stands there twice
    (project / "right.json").write_text(json.dumps(gold), "utf-8")
    said = [{"id": row["id"], "model_answer": f"答案是{row['answer']}"} for row in gold]
    (project / "output.json").write_text(json.dumps(said), "utf-8")
    (project / "key.txt").write_text("secret\n")
    (project / "key.txt").chmod(0o600)
    (project / "med.toml").write_text(SHORT)
    return project


@pytest.fixture
def perform(med, reader, monkeypatch):
    """Run a call, in a process of its own where it starts others; "", or how it ended otherwise than is told."""

    def run(call: Call) -> str:
        words = [STAND_INS.get(word, word) for word in call.words]
        if "--resume" in words:
            interrupt(reader / "runs" / words[-1] / "run.toml")
        stdin = (reader / call.reads).read_text("utf-8") if call.reads else "头痛怎么办？\n"
        with monkeypatch.context() as patch:
            for variable in call.variables:
                patch.setenv(*variable.split("=", 1))
            if {"--devices", "-"} & set(words):
                command = [sys.executable, "-m", "medcli", *words]
                done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
                code, said, error = done.returncode, done.stdout, done.stderr
            else:
                done = med(*words, stdin=stdin)
                code, said, error = done.exit_code, done.stdout, done.stderr
        if call.writes:
            (reader / call.writes).write_text(said, "utf-8")
        return "" if code in CODES.get(asked(call), {0}) else f"{asked(call)}: exit code {code}: {error}"

    return run


def interrupt(table: Path) -> None:
    """Let a run look as Ctrl-C leaves it, after its last checkpoint."""
    table.write_text(table.read_text("utf-8").replace('status = "finished"', 'status = "interrupted"'), "utf-8")


def prepare(page: str, perform) -> None:
    for line in BEFORE.get(page, []):
        assert perform(Call(line=line, variables=(), words=tuple(shlex.split(line)))) == ""


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_their_order(page, perform):
    """Servers are started by the next test."""
    made = [call for call in calls(text_of(PAGES[page][0])) if asked(call) not in NOT_RUN and not serves(call)]
    if made:
        prepare(page, perform)
    for call in made:
        assert perform(call) == ""


@pytest.mark.parametrize("page", ["README", "serving"])
def test_what_a_page_serves_answers_and_stops(page, perform, reader):
    prepare(page, perform)
    if page == "README":
        for line in (CLINIC, "train lora --dataset clinic"):
            assert perform(Call(line=line, variables=(), words=tuple(line.split()))) == ""
    for call in filter(serves, calls(text_of(PAGES[page][0]))):
        with serving(call.words) as port:
            models = httpx.get(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": "Bearer secret"})
            assert models.status_code == 200, call.line
            named = [model["id"] for model in models.json()["data"]]
            if page == "serving" and "doctor" in named:
                example = blocks(text_of(PAGES[page][0]), "python")[0].replace(":8000/", f":{port}/")
                exec(compile(example + "assert said.choices[0].message.content", "serving.md", "exec"), {})


@contextmanager
def serving(words: tuple[str, ...]) -> Iterator[int]:
    """The port of `med serve` in a process of its own, which SIGTERM ends without a fault."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medcli", *words, "--port", str(port)]
    server = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    try:
        until_ready(server, port)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=60)[1]
    assert server.returncode in (0, 128 + signal.SIGTERM), said


def until_ready(server: subprocess.Popen, port: int) -> None:
    for _ in range(600):
        assert server.poll() is None, server.stderr.read()
        with suppress(httpx.TransportError):  # nobody listens yet
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail("the server did not begin within a minute")


def test_what_is_not_run_stands_in_a_page():
    written = {asked(call) for english, _ in PAGES.values() for call in calls(text_of(english))}
    assert set(NOT_RUN) | set(CODES) <= written


def test_every_page_before_which_something_is_done_is_there():
    assert set(BEFORE) <= set(PAGES)
    assert all(Path(path).exists() for path in STAND_INS.values() if path.startswith("/"))
