"""What a project is told to do next."""

import json

import pytest

from medcli.cli import status as page
from medcli.core.run_folder import RunFolder
from medcli.steps.status import DataSet, is_project, scores_of, status
from tests.conftest import RAW

STARTED = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def run(project):
    """`run("lora-few", "finished")` puts a run's folder into the project."""

    def put(name, state, method="lora", score=None):
        folder = RunFolder(project / "runs" / name)
        folder.write_table(
            {
                "run": {"method": method, "status": state, "started": STARTED},
                "model": {"base": "med-tiny"},
                "data": {"few": {"records": 3, "sha256": "0" * 64}},
                "settings": {},
                "origins": {},
                "plan": {"steps": 10},
            }
        )
        folder.log(4, {"loss": 2.0})
        if score is not None:
            (folder.path / "eval").mkdir()
            table = {"exam": "few-test", "primary": "rouge-l", "scores": [{"metric": "rouge-l", "value": score}]}
            (folder.path / "eval" / "few-test.json").write_text(json.dumps(table), "utf-8")
        return folder

    return put


def test_a_fresh_folder_says_in_five_lines_what_to_do(med, project):
    assert not is_project(project)
    result = med()
    lines = result.stdout.splitlines()
    assert (result.exit_code, len(lines)) == (0, 5)
    assert [line.split()[1] for line in lines[1:]] == ["quickstart", "init", "doctor", "--help"]


def test_the_panel_shows_data_runs_scores_and_the_next_step(med, built, run):
    built("few", RAW / "alpaca")
    run("lora-few", "finished", score=0.5)
    shown = med().stdout
    assert "few-test rouge-l 0.5" in shown
    assert "next: med merge lora-few" in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("few")] == [["few", "conversation"]]


def test_the_panel_speaks_chinese_too(med, built, run, monkeypatch):
    built("few", RAW / "alpaca")
    run("lora-few", "interrupted")
    monkeypatch.setenv("MED_LANG", "zh")
    shown = med().stdout
    assert "数据集" in shown
    assert "已中断 4/10" in shown
    assert "下一步：med train lora --resume --run lora-few" in shown


@pytest.mark.parametrize(
    ("toml", "data", "runs", "expected"),
    [
        ("", (), (), "med init"),
        ('[train]\ndataset = ["clinic"]\n', (), (), "med data build FILE --name clinic"),
        ('[train]\ndataset = ["toyhom:0.5"]\n', (), (), "med data build toyhom"),
        ("", ("alpaca",), (), "med train lora --dataset few"),
        ('[train]\ndataset = ["few"]\n[train.freeze]\n', ("alpaca",), (), "med train freeze"),
        ("", ("preference",), (), "med train rm --dataset few"),
        ("", ("text",), (), "med train pt --dataset few"),
        ("", ("cmexam",), (), "med eval med-tiny --dataset few"),
        ("", ("alpaca",), (("a", "interrupted", "lora", None),), "med train lora --resume --run a"),
        ("", ("alpaca",), (("a", "running", "dpo", None),), "med train dpo --resume --run a"),  # killed
        ("", ("alpaca",), (("a", "finished", "lora", None),), "med eval a --dataset few"),
        ("", ("alpaca",), (("a", "finished", "full", 0.5),), "med chat a"),
        ("", ("alpaca",), (("a", "finished", "rm", 0.5),), "med train ppo --reward a"),
    ],
)
def test_each_state_has_its_next_step(project, built, run, toml, data, runs, expected):
    (project / "med.toml").write_text(toml, "utf-8")
    for name in data:
        built("few", RAW / name)
    for one in runs:
        run(*one)
    assert status().suggestion == expected


def test_a_merged_run_is_talked_with(built, run):
    built("few", RAW / "alpaca")
    (run("lora-few", "finished", score=0.5).path / "merged").mkdir()
    assert status().suggestion == "med chat lora-few"


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(med, project, run):
    run("good", "finished", score=0.5)
    run("bad", "finished").settings_file.write_text("[run", "utf-8")
    half = run("half", "finished", score=0.5)
    (half.path / "eval" / "few-test.json").write_text('{"exam"', "utf-8")
    found = status()
    assert [one.summary.name for one in found.runs] == ["good"]
    assert len(found.broken) == 2
    result = med()
    assert result.exit_code == 0
    assert "runs/bad" in result.stderr
    assert "see `med doctor`" in result.stderr


def test_an_outcome_without_its_main_figure_is_no_score(run):
    folder = run("a", "finished", score=0.5)
    (folder.path / "eval" / "other.json").write_text('{"exam": "x", "primary": "bleu", "scores": []}', "utf-8")
    assert scores_of(folder) == (("few-test", "rouge-l", 0.5),)


def test_the_first_page_is_the_same_in_both_languages_but_for_words(monkeypatch):
    english = page.first_page().splitlines()
    monkeypatch.setenv("MED_LANG", "zh")
    chinese = page.first_page().splitlines()
    assert len(english) == len(chinese) == 5
    assert [line[:16] for line in english[1:]] == [line[:16] for line in chinese[1:]]
    assert all(one != other for one, other in zip(english, chinese, strict=True))


def test_counts_are_those_of_the_manifest(built):
    built("few", RAW / "alpaca")
    (dataset,) = status().datasets
    assert isinstance(dataset, DataSet)
    assert dataset.records == sum(1 for split in ("train", "valid", "test") for _ in open_split(split))


def open_split(split):
    from medcli.core.dataset_folder import open_dataset

    return open_dataset("few").records(split)
