"""Building: the account, the splits, registered data sets, and the same bytes every time."""

import json
import shutil
import zipfile
from hashlib import sha1

import pytest

from medcli.core.build_settings import BuildSettings
from medcli.core.dataset_folder import SPLITS
from medcli.core.errors import DataError, MedError, UsageError
from medcli.core.fingerprint import question_of
from medcli.core.manifest import MANIFEST
from medcli.steps import build_data
from tests.building import SOURCES, Notes, alpaca, check_account, made, rows
from tests.conftest import RAW, shared


@pytest.mark.parametrize("name", SOURCES)
def test_every_raw_format(project, name):
    dataset = made(RAW / name)
    check_account(dataset)
    assert dataset.manifest["counts"]["kept"] >= (2 if name == "huatuo/infer.json" else 6)


REAL = {
    "cepilepsyqa": {"read": 4900, "kept": 4587, "train": 3607, "valid": 490, "test": 490},
    "huatuo/llama_data.json": {"read": 8658, "kept": 8646},
    "huatuo26m": {"read": 6000, "kept": 5993},
    "toyhom": {"read": 3000, "kept": 2845},
    "medicalgpt/medical_sft_1K_format.jsonl": {"read": 1000, "kept": 999},
    "medicalgpt/dpo_zh_500.jsonl": {"read": 500, "kept": 500},
    "medicalgpt/reward_test.json": {"read": 100, "kept": 100},
    "medicalgpt/fever.txt": {"read": 985, "kept": 881},
    "medicalgpt/medical_corpus.txt": {"read": 87, "kept": 87},
    "chatmed": {"read": 450, "kept": 450},
    "disc_medllm/test_examples.jsonl": {"read": 163, "kept": 159},
    "meddialog": {"read": 1508},
    "smile": {"read": 1000},
    "ceval": {"read": 13948, "train": 0, "valid": 260, "test": 1346},
    "cmmlu": {"read": 1091, "train": 0, "valid": 20, "test": 1070},
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(project, name):
    dataset = made(shared(name))
    check_account(dataset)
    assert REAL[name].items() <= dataset.manifest["counts"].items()


def test_cmedqa_by_its_known_name(project):
    dataset = made("cmedqa2", raw=RAW / "cmedqa2")
    counts = dataset.manifest["counts"]
    assert counts == {"read": 13, "kept": 10, "refused": 3, "train": 7, "valid": 2, "test": 1}
    assert dataset.kind == "conversation"
    assert dataset.manifest["importer"] == "cmedqa"
    train = {row["id"].partition("-")[0] for row in rows(dataset, "train")}
    assert train.isdisjoint({"105", "106", "107"})  # the seed's builder put dev and test into train


def test_a_test_question_standing_in_train_is_refused(project, tmp_path):
    raw = shutil.copytree(RAW / "cmedqa2", tmp_path / "raw")
    with (raw / "question.csv").open("a", encoding="utf-8") as file:
        file.write("500,怀孕八周有点出血， 肚子不疼，怎么办？\n")  # question 107, of the test split
    with (raw / "answer.csv").open("a", encoding="utf-8") as file:
        file.write("500,500,去医院检查。\n")
    dataset = made("cmedqa2", raw=raw)
    check_account(dataset)
    assert dataset.manifest["refused"]["the same question is in test"] == 1


def test_train_and_test_files_share_no_question(project, tmp_path):
    alpaca(tmp_path / "train.json", 40)
    alpaca(tmp_path / "test.json", 5)
    dataset = made(tmp_path, name="two")
    check_account(dataset)
    counts = dataset.manifest["counts"]
    assert (counts["test"], counts["train"], counts["valid"]) == (5, 35, 0)


def test_infer_set_inside_train_is_found(project, tmp_path):
    for name in ("llama_data.json", "infer.json"):
        shutil.copy(RAW / "huatuo" / name, tmp_path)
    dataset = made(tmp_path, name="both")
    assert dataset.manifest["refused"]["exact duplicate"] == 2
    dataset = made(shared("huatuo"), importer="huatuo", name="real")
    assert dataset.manifest["refused"]["exact duplicate"] == 5
    check_account(dataset)


def test_two_files_are_extended_not_nested(project, tmp_path):
    """The seed's merge appended the second list as one element."""
    alpaca(tmp_path / "a.json", 10)
    alpaca(tmp_path / "b.json", 12, start=10)
    dataset = made(tmp_path, name="two")
    assert dataset.manifest["counts"]["kept"] == 22
    assert [(item["file"], item["rows"]) for item in dataset.manifest["inputs"]] == [
        ("a.json", 10),
        ("b.json", 12),
    ]


def test_empty_output_and_broken_line_are_refused_with_their_lines(project, tmp_path):
    path = alpaca(tmp_path / "a.jsonl", 30)
    lines = path.read_text("utf-8").splitlines()
    lines[4] = '{"instruction": "断掉的'
    lines[9] = '{"instruction": "没有回答", "input": "", "output": " "}'
    path.write_text("\n".join(lines), "utf-8")
    dataset = made(path)
    check_account(dataset)
    assert [(row["line"], row["file"], row["reason"].partition(": ")[0]) for row in rows(dataset, "refused")] == [
        (5, "a.jsonl", "broken JSON"),
        (10, "a.jsonl", "empty answer"),
    ]


def test_text_is_written_as_it_is_read(project):
    dataset = made(RAW / "pairs/neike.gbk.csv")
    text = dataset.file("train").read_text("utf-8")
    assert "心血管科" in text
    assert "\\u" not in text


def test_small_sets_have_every_split(project, tmp_path):
    for seed in range(5):
        dataset = made(alpaca(tmp_path / "a.json", 20), name=f"s{seed}", seed=seed, valid=0.001, test=0.001)
        check_account(dataset)
        assert dataset.count("valid") == dataset.count("test") == 1
    dataset = made(tmp_path / "a.json", name="none", valid=0, test=0)
    assert dataset.count("train") == 20


def test_split_depends_on_the_question_only(project, tmp_path):
    """More data does not move a question to another split."""
    small = made(alpaca(tmp_path / "a.json", 300), name="small", valid=0.1, test=0.1)
    large = made(alpaca(tmp_path / "b.json", 900), name="large", valid=0.1, test=0.1)
    where = {question_of(r): split for split in SPLITS for r in large.records(split)}
    assert all(where[question_of(r)] == split for split in SPLITS for r in small.records(split))
    assert 60 < large.count("valid") < 120
    assert made(tmp_path / "a.json", name="other", seed=7, valid=0.1, test=0.1).sha256("test") != small.sha256("test")


def test_answers_of_one_question_stay_together(project, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"question": f"问{n % 30}", "answer": f"答{n}"}) + "\n" for n in range(300)),
        "utf-8",
    )
    check_account(made(path, valid=0.2, test=0.2))


def test_the_same_input_gives_the_same_bytes(project, tmp_path, monkeypatch):
    first = made("cmedqa2", raw=RAW / "cmedqa2").path
    elsewhere = shutil.copytree(RAW / "cmedqa2", tmp_path / "elsewhere")
    monkeypatch.setenv("MED_DATA", str(tmp_path / "data"))
    second = made("cmedqa2", raw=elsewhere).path
    assert first != second
    names = sorted(path.name for path in first.iterdir())
    assert names == [MANIFEST, "refused.jsonl", "report.html", "test.jsonl", "train.jsonl", "valid.jsonl"]
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_an_unchanged_rebuild_does_nothing(project, tmp_path):
    path = alpaca(tmp_path / "a.json", 30)
    dataset = made(path)
    before = (dataset.path / MANIFEST).stat().st_mtime_ns, dataset.path.stat().st_ino
    report = Notes()
    made(path, report=report)
    assert ((dataset.path / MANIFEST).stat().st_mtime_ns, dataset.path.stat().st_ino) == before
    assert "nothing to do" in report.notes[0]


def test_a_rebuild_follows_changes(project, tmp_path):
    path = alpaca(tmp_path / "a.json", 30)
    made(path)
    alpaca(path, 31)
    assert made(path).manifest["counts"]["read"] == 31
    assert made(path, limit=10).manifest["counts"]["read"] == 10
    dataset = made(path, limit=10)
    dataset.file("train").write_text("spoilt\n", "utf-8")
    assert rows(made(path, limit=10), "train")[0]["id"].startswith("a-")


def test_limit_holds_for_each_split_of_the_source(project):
    counts = made("cmedqa2", raw=RAW / "cmedqa2", limit=1).manifest["counts"]
    assert (counts["train"], counts["valid"], counts["test"]) == (1, 1, 1)


def register(folder, **entries):
    folder.mkdir(exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps(entries), "utf-8")


def test_dataset_info_with_partial_columns(project):
    register(
        project / "data",
        mine={"file_name": "rows.json", "columns": {"prompt": "q", "response": "a", "query": ""}},
    )
    data = [{"q": f"问题{n}", "a": f"答{n}", "history": "unused"} for n in range(5)]
    (project / "data/rows.json").write_text(json.dumps(data), "utf-8")
    dataset = made("mine")
    assert (dataset.manifest["importer"], dataset.manifest["counts"]["kept"]) == ("alpaca", 5)


def test_dataset_info_names_a_folder_and_sharegpt(project):
    shutil.copytree(RAW / "sharegpt", project / "talks")
    register(
        project,
        talks={"file_name": "talks", "formatting": "sharegpt", "columns": {"messages": "conversations"}},
    )
    assert made("talks").manifest["importer"] == "sharegpt"


def test_dataset_info_wrong_column(project):
    register(project, mine={"file_name": "a.json", "columns": {"prompt": "instruktion", "response": "output"}})
    alpaca(project / "a.json", 3)
    with pytest.raises(DataError, match="names the column 'instruktion'") as error:
        made("mine")
    assert "did you mean 'instruction'?" in error.value.hint


def test_dataset_info_sha1_is_enforced(project):
    path = alpaca(project / "a.json", 5)
    register(project, good={"file_name": "a.json", "file_sha1": sha1(path.read_bytes()).hexdigest()})
    assert made("good").manifest["counts"]["kept"] == 5
    register(project, bad={"file_name": "a.json", "file_sha1": "0" * 40})
    with pytest.raises(DataError, match="its SHA-1 is") as error:
        made("bad")
    assert "--no-verify" in error.value.hint
    assert made("bad", verify=False).manifest["counts"]["kept"] == 5


def test_dataset_info_precedence(project):
    alpaca(project / "a.json", 5)
    register(
        project,
        hub={"hf_hub_url": "x/y", "script_url": "s", "file_name": "a.json"},
        script={"script_url": "s", "file_name": "a.json"},
    )
    plan = build_data.plan("hub", BuildSettings())  # what a hub has goes before the file; test_fetch_data downloads
    assert plan.found.remote is not None
    assert plan.found.remote.hub == "x/y"
    assert made("hub", raw=project / "a.json").manifest["counts"]["kept"] == 5
    with pytest.raises(UsageError, match="runs no code"):
        made("script")


@pytest.mark.parametrize("text", ["{", "[]", '{"x": 3}', '{"x": {}}', '{"x": {"file_name": "a", "columns": 3}}'])
def test_dataset_info_broken(project, text):
    (project / "dataset_info.json").write_text(text, "utf-8")
    with pytest.raises(MedError):
        made("x")


def test_archives_are_inputs_by_their_own_name(project, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(RAW / "alpaca/alpaca.json", "inside/alpaca.json")
    dataset = made(tmp_path / "a.zip")
    check_account(dataset)
    assert [item["file"] for item in dataset.manifest["inputs"]] == ["a.zip"]
    assert rows(dataset, "refused")[0]["file"] == "a.zip/inside/alpaca.json"


def test_chosen_files_of_a_known_set_keep_their_splits(project, tmp_path):
    raw = tmp_path / "reward"
    raw.mkdir()
    for split, start in (("train", 0), ("valid", 40), ("test", 50)):
        words = ("".join(chr(0x4E00 + (start + n) * 41 + k * 997) for k in range(12)) for n in range(10))
        pairs = ({"question": f"{w}怎么办", "response_chosen": w[::-1], "response_rejected": w} for w in words)
        lines = (json.dumps(pair, ensure_ascii=False) for pair in pairs)
        (raw / f"{split}.json").write_text("\n".join(lines) + "\n", "utf-8")
    (raw / "notes.txt").write_text("不是数据\n", "utf-8")
    dataset = made("medicalgpt-reward", raw=raw)
    assert {split: dataset.manifest["counts"][split] for split in SPLITS} == {"train": 10, "valid": 10, "test": 10}
    assert [item["file"] for item in dataset.manifest["inputs"]] == ["test.json", "valid.json", "train.json"]
    assert dataset.manifest["known"] == "medicalgpt-reward"
