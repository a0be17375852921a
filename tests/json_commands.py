"""Every command that takes --json, in a small project where each has something to tell.

`outputs(folder)` runs them, in order, in this process, and gives what each printed, by the name of its schema.
"""

import io
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from medcli.cli import app
from medcli.steps import full_tour, quickstart
from tests import tiny_model
from tests.makers.service import serving

RAW = Path(__file__).parent / "raw"
BRIEF = "--model TINY --batch 2 --max-steps 1 --valid-limit 2 --max-length 96 --precision fp32 --device cpu"
PROMPTED = f"{BRIEF} --dataset few --max-tokens 4"
DOCUMENT = "青云热由青云小体引起，多见于儿童，潜伏期3天，主要表现为发热与手心发青。" * 4
# (schema, command): TINY is a model's folder, RAW the folder of raw data, LLM a service's flags.
LINES = (
    ("data-build", "data build RAW/alpaca --name few --valid 0.2 --test 0.2"),
    ("data-build", "data build RAW/text --name plain --valid 0.2 --test 0"),
    ("data-build", "data build RAW/preference/dpo.jsonl --name pairs --valid 0.3 --test 0.3"),
    ("data-build", "data build RAW/cmb --name cmb --valid 0.3 --test 0.3"),
    ("settings-plan", "data build RAW/alpaca --plan"),
    ("data-list", "data list"),
    ("data-info", "data info few"),
    ("data-info", "data info cmedqa2"),
    ("data-check", "data check RAW/alpaca --against few --allow 1"),
    ("data-show", "data show few"),
    ("data-show", "data show plain"),
    ("data-show", "data show pairs"),
    ("data-show", "data show cmb"),
    ("data-stats", "data stats few"),
    ("data-stats", "data stats few --tokens TINY --max-length 64"),
    ("data-stats", "data stats pairs"),
    ("data-convert", "data convert few --to openai"),
    ("data-vocab", "data vocab plain --tokenizer TINY"),
    ("data-vocab-extend", "data vocab plain --tokenizer TINY --extend 2 --out larger --min-gain 0"),
    ("data-make", "data make kg RAW/graph/medical.json --name graph"),
    ("data-make", "data make identity --model-name 小医 --author 医科大学 --date 2026年"),
    ("data-make", "data make literature document.jsonl LLM"),
    ("data-make", "data make rewrite forum LLM"),
    ("data-make", "data make preference few --answers answers.jsonl --margin 0"),
    *(
        ("settings-plan", f"data make {words} --plan")
        for words in (
            "kg RAW/graph/medical.json",
            "identity --model-name 小医 --author 医科大学 --date 2026年",
            "literature document.jsonl LLM",
            "rewrite forum LLM",
            "preference few --answers answers.jsonl",
        )
    ),
    ("train", f"train lora {BRIEF} --dataset few --run lora --eval-every 1"),
    ("train", f"train lora {BRIEF} --dataset few --run other --rank 4"),
    ("train", f"train pt {BRIEF} --dataset plain"),
    ("train", f"train freeze {BRIEF} --dataset few --layers last:1"),
    ("train", f"train full {BRIEF} --dataset few"),
    ("train", f"train ptuning {BRIEF} --dataset few --prefix-length 8"),
    ("train", f"train rm {BRIEF} --dataset pairs --run judge --eval-every 1"),
    ("train", f"train dpo {BRIEF} --dataset pairs"),
    ("train", f"train ppo {PROMPTED} --rollouts 2 --reward judge --run policy"),
    ("train", f"train grpo {PROMPTED} --group 2 --reward length"),
    ("train-plan", f"train lora {BRIEF} --dataset few --plan"),
    ("train-plan", f"train ppo {PROMPTED} --rollouts 2 --reward judge --plan"),
    ("runs-list", "runs list"),
    ("runs-show", "runs show lora"),
    ("runs-show", "runs show judge"),
    ("runs-show", "runs show policy"),
    ("runs-compare", "runs compare lora other"),
    ("eval", "eval lora --dataset few --max-tokens 4 --device cpu --allow-leak"),
    ("eval", "eval lora --dataset cmb --split train --device cpu"),
    ("eval", "eval judge --dataset pairs --split test --device cpu"),
    ("eval-compare", "eval lora other --dataset few --compare --max-tokens 4 --device cpu"),
    ("eval-plan", "eval lora --dataset few --plan"),
    ("chat", "chat TINY 头痛怎么办？ --max-tokens 4"),
    ("predict", "predict TINY --dataset few --output out.jsonl --max-tokens 4"),
    ("kb", "kb build few --name guide"),
    ("kb-list", "kb list"),
    ("kb", "kb show guide"),
    ("kb-find", "kb find guide 糖尿病人可以吃水果吗"),
    ("merge", "merge lora"),
    ("merge", "merge other --no-check"),
    ("export", "export runs/lora/merged --output exported"),
    ("init", "init --yes"),
    ("doctor", "doctor --offline"),
    ("clean", "clean"),
)
SLOW_LINES = (("quickstart", "quickstart --limit 4"), ("quickstart-full", "quickstart --full --limit 4"))
# What the commands above do not show of a key, as it takes a network, a longer run or another machine: its other type.
SEEN_ELSEWHERE = {
    "data-info": {"downloaded": "object"},
    "eval-compare": {"exams[].preferred": "object"},
    "init": {"plan": "object"},
    "predict": {"tokens": "null", "tokens_per_second": "null"},
    "runs-compare": {"image": "null"},
    "runs-list": {"valid_accuracy": "number"},
    "runs-show": {"valid_loss": "number", "valid_accuracy": "number"},
    "train-plan": {"time.hours": "null"},
}
TERM = "reward_length"  # a key that is made of a reward's name, as its eval_… is


def outputs(folder: Path, lines: Sequence[tuple[str, str]] = LINES) -> dict[str, list[Any]]:
    """What each command of `lines` printed in the empty `folder`, by schema."""
    told: dict[str, list[Any]] = {}
    with _project(folder) as places:
        for schema, line in lines:
            printed = _run(re.sub("RAW|TINY|LLM", lambda found: places[found[0]], line))
            told.setdefault(schema, []).append(json.loads(printed))
    return told


@contextmanager
def _project(folder: Path) -> Iterator[dict[str, str]]:
    """Within the block `folder` is a project with raw files and a cached model; gives what LINES leave open."""
    from medcli.engine import tiny

    tiny_model.write(folder / "cache" / tiny.folder_name())
    rows = [("document", {"text": DOCUMENT}), ("forum", {"instruction": "肚子疼怎么办？", "output": "去消化科看看"})]
    for name, row in rows:
        (folder / f"{name}.jsonl").write_text(json.dumps(row, ensure_ascii=False), "utf-8")
    with pytest.MonkeyPatch.context() as patch, serving(_answer) as service:
        patch.chdir(folder)
        for name in ("MED_DATA", "MED_RUNS"):
            patch.delenv(name, raising=False)
        patch.setenv("MED_CACHE", str(folder / "cache"))
        patch.setenv("MED_LANG", "en")
        patch.setitem(quickstart.LORA, "max_steps", 2)
        patch.setitem(full_tour.STAGES, "ppo", {**full_tour.STAGES["ppo"], "rollouts": 32, "valid_limit": 8})
        _run("data build forum.jsonl --name forum --valid 0 --test 0")
        yield {"RAW": str(RAW), "TINY": str(tiny_model.write(folder / "tiny")),
               "LLM": f"--llm {service.url} --llm-model m"}  # fmt: skip


def _answer(prompt: str, times: int) -> str:
    """What the model behind --llm says: two questions about a document, or a dialogue in clean words."""
    if "青云热" in prompt:
        pairs = (("青云热是什么引起的？", "青云热由青云小体引起，多见于儿童。"), ("它的潜伏期多长？", "潜伏期3天。"))
        return json.dumps([{"question": question, "answer": answer} for question, answer in pairs])
    turns = (("user", "肚子疼，应该怎么办？"), ("assistant", "建议您去消化科就诊看看。"))
    return json.dumps([{"role": role, "content": content} for role, content in turns])


def _run(line: str) -> str:
    """What `med … --json` prints in this process."""
    if "answers.jsonl" in line:
        _write_answers()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        app.main([*shlex.split(line), "--json"])
    # What a doctor finds of the machine that runs this says nothing of its shape.
    assert stop.value.code == 0 or line.startswith("doctor"), f"med {line}: {err.getvalue()}"
    return out.getvalue()


def _write_answers() -> None:
    """Answers to the data set "few" that are worse than its own."""
    rows = map(json.loads, Path("data/few/train.jsonl").read_text("utf-8").splitlines())
    Path("answers.jsonl").write_text("".join(json.dumps({"id": row["id"], "answer": "无"}) + "\n" for row in rows))
