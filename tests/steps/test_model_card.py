"""The card says what is on record: stages, data with licences, settings, scores; and nothing of this machine."""

import json

import pytest
import tomlkit

from medcli.core import exam_file
from medcli.core.exam import Item, Marked
from medcli.core.exam_file import Examination
from medcli.core.model_ref import resolve
from medcli.core.score import Score
from medcli.core.speaker import DISCLAIMER
from medcli.steps import model_card
from medcli.steps.results import results_file
from tests import exports


def dataset(folder, name, *, known="", licence="unknown", refused=None, changed=None):
    """A built data set as its manifest tells of it; gives what a run's table says of it."""
    place = folder / "data" / name
    place.mkdir(parents=True)
    table = {
        "name": name, "kind": "conversation", "importer": "alpaca", "licence": licence,
        **({"known": known} if known else {}),
        "counts": {"read": 1200, "kept": 1000, "refused": 200, "train": 900, "valid": 50, "test": 50},
        "refused": refused or {}, "changed": changed or {}, "files": {"train": "abc", "valid": "", "test": ""},
        "settings": {"phi": "mask"}, "inputs": [{"file": f"raw/{name}.json", "sha256": "", "rows": 1200}],
    }  # fmt: skip
    (place / "manifest.toml").write_text(tomlkit.dumps(table), "utf-8")
    return {name: {"path": str(place), "sha256": "abc", "records": 900}}


@pytest.fixture
def written(project, tmp_path):
    """`written(model)` is the text of its card, its front matter as lines, and the card."""

    def write(model, kind="safetensors"):
        card = model_card.card_of(str(model), resolve(str(model)), kind)
        path = tmp_path / "README.md"
        model_card.write(card, path, "out")
        text = path.read_text("utf-8")
        assert str(tmp_path) not in text
        return text, text.split("---\n")[1].splitlines(), card

    return write


def adapter(run):
    run.adapter.mkdir(exist_ok=True)
    (run.adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "med-tiny", "peft_type": "LORA"})
    )
    return run


def test_data_and_settings_and_figures_are_told(project, written):
    refused, changed = {"empty answer": 150, "a|b": 50}, {"masked: phone": 3, "full width": 9}
    about = {"known": "knowledge", "licence": "Apache-2.0", "refused": refused, "changed": changed}
    data = dataset(project, "knowledge", **about)
    adapter(exports.run(project / "runs" / "doctor", data=data, settings={"lr": 0.001, "note": "a|b"}))
    text, front, card = written("doctor")
    assert DISCLAIMER in text
    assert model_card.ENGLISH_DISCLAIMER in text
    assert "- **knowledge**, 900 records." in text
    assert "1,200 rows read, 1,000 kept (train 900, valid 50, test 50), 200 refused: empty answer 150, a|b 50" in text
    assert "mask: masked: phone 3" in text
    assert "full width" not in text
    assert "| lr | 0.001 | flag |" in text
    assert "| note | a\\|b | flag |" in text
    assert "| epochs |" not in text
    assert "| training loss, last | 0.5 |" in text
    assert "nobody knows" in text
    assert front[:2] == ['license: "apache-2.0"', "language: [zh]"]
    assert not card.warnings


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"chatmed": {"known": "chatmed", "licence": "CC-BY-NC-SA-4.0"}}, "which forbids commercial use"),
        ({"mine": {}}, "is not known, ask its owners"),
        ({"mine": {"licence": "CC-BY-NC-4.0"}}, "which forbids commercial use"),
        ({"mine": {"licence": "MIT"}, "other": {}}, "the data set other is under 'unknown'"),
    ],
)
def test_what_forbids_commerce_or_says_nothing_stands_at_the_top(project, written, sets, said):
    data = {name: row for one, about in sets.items() for name, row in dataset(project, one, **about).items()}
    adapter(exports.run(project / "runs" / "doctor", data=data))
    text, front, card = written("doctor")
    assert front[0] == 'license: "other"'
    assert said in text[: text.index("## What it is")]
    assert len(card.warnings) == 1


def test_a_licence_that_allows_commerce_needs_no_warning(project, written):
    adapter(exports.run(project / "runs" / "doctor", data=dataset(project, "mine", licence="MIT")))
    assert written("doctor")[1][0] == 'license: "apache-2.0"'


def test_data_that_is_gone_or_built_anew_is_told(project, written):
    data = {"lost": {"path": "/nowhere/lost", "sha256": "", "records": 5}}
    data |= {name: row | {"sha256": "other"} for name, row in dataset(project, "mine", licence="MIT").items()}
    adapter(exports.run(project / "runs" / "doctor", data=data))
    text, front, _ = written("doctor")
    assert "- **lost**, 5 records." in text
    assert "its folder is gone" in text
    assert "**mine (built anew since it was trained on)**" in text
    assert front[0] == 'license: "other"'


def test_every_stage_is_told_from_the_first_on(project, written):
    runs = project / "runs"
    first = adapter(exports.run(runs / "first", method="pt"))
    second = adapter(exports.run(runs / "second", adapters=[first.adapter]))
    merged = second.path / "merged"
    merged.mkdir()
    third = exports.run(runs / "third", base=merged, method="full")
    third.model.mkdir()
    (third.model / "config.json").write_text("{}")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    parts = {"base": str(third.model), "adapters": []}
    (elsewhere / "merge.json").write_text(json.dumps({"merged_from": parts}))
    adapter(exports.run(runs / "last", base=elsewhere, method="dpo"))
    text, front, card = written("last", "gguf")
    assert [stage.name for stage in card.stages] == ["first", "second", "third", "last"]
    assert card.base.name == "med-tiny"
    assert front[2:5] == [
        "library_name: gguf",
        "pipeline_tag: text-generation",
        "tags: [medical, chinese, med, pt, lora, full, dpo]",
    ]
    assert "before it was converted" in text


def test_paths_of_this_machine_are_cut_to_their_last_part(project, tmp_path, written):
    base = tmp_path / "models--Qwen--Qwen3-4B" / "snapshots" / "abc"
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n", "utf-8")
    adapter(exports.run(project / "runs" / "doctor", base=base, settings={"model": str(base), "data": [str(base)]}))
    text, front, card = written("doctor")
    assert (card.base.hub, card.licence) == ("Qwen/Qwen3-4B", "apache-2.0")
    assert 'base_model: "Qwen/Qwen3-4B"' in front
    assert "| model | abc | flag |" in text


def test_a_base_of_unknown_licence_is_warned_of(project, tmp_path, written):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text("{}")
    text, front, card = written(tmp_path / "llama")
    assert "It is llama (licence: unknown) as it was, not trained further." in text
    assert front[0] == 'license: "other"'
    assert card.warnings[0].startswith("the base model llama is under 'unknown'")
    assert not [line for line in front if line.startswith("base_model")]


def test_scores_stand_with_their_intervals_and_leaks(project, written):
    adapter(exports.run(project / "runs" / "doctor"))
    marked = [Marked(item=Item(id=str(n), prompt=(), reference="A"), answer="A", values={"accuracy": 1.0},
                     outcome="answered", detail={"leaked": "train"} if n else {}) for n in range(2)]  # fmt: skip
    scores = (
        Score(metric="accuracy", value=0.5, count=2, low=0.25, high=0.75),
        Score(metric="perplexity", value=12.5, count=99, low=11, high=14),
    )
    exam_file.write(
        Examination(
            model="doctor",
            exam="cmb-test",
            kind="choice",
            primary="accuracy",
            dataset={},
            settings={},
            versions={},
            scores=scores,
            groups=(),
            marked=tuple(marked),
            file=results_file("doctor", "cmb-test"),
        )  # fmt: skip
    )
    text = written("doctor", "bnb-4bit")[0]
    name = "cmb-test (1 of 2 questions were trained on)"
    assert f"| {name} | accuracy | 50.00 % | 25.00 % – 75.00 % | 2 |" in text
    assert f"| {name} | perplexity | 12.50 | 11.00 – 14.00 | 99 |" in text
    assert "rounded to few bits" in text


def test_a_reward_model_is_said_to_judge(project, written):
    run = adapter(exports.run(project / "runs" / "judge", method="rm"))
    config = {"base_model_name_or_path": "med-tiny", "peft_type": "LORA", "task_type": "SEQ_CLS"}
    (run.adapter / "adapter_config.json").write_text(json.dumps(config))
    text, front, _ = written("judge")
    assert "A reward model" in text
    assert "pipeline_tag: text-classification" in front
