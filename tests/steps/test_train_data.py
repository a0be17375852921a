"""The data of a run: mixtures, files built on the way, and leaks refused."""

import json
import random
from collections import Counter

import pytest

from medcli.core.errors import DataError, UsageError
from medcli.core.reading import DIALOGUES, PAIRS
from medcli.core.report import Silent
from medcli.core.train_settings import TrainSettings
from medcli.steps.train_data import sources_of, training_records
from tests.building import Notes, made

ASKED = "患者反复上腹部疼痛三年，近来加重，夜间明显，进食后缓解，最可能的诊断是哪一种疾病？"


def pairs(path, name, count, extra=()):
    generator = random.Random(name)
    words = [
        "".join(generator.choices("头胸腹背腰腿疼痛酸麻胀热冷咳喘晕吐泻痒肿天月年岁老幼男女", k=14))
        for _ in range(count)
    ]
    rows = [{"question": f"{word}怎么办", "answer": f"{word[::-1]}，请复诊"} for word in words]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, *extra]), "utf-8")
    return path


def built(tmp_path, name, count, extra=(), **settings):
    return made(pairs(tmp_path / f"{name}.jsonl", name, count, extra), near=1.0, valid=0, test=0, **settings)


def sources(*dataset, report=None, **settings):
    return sources_of(TrainSettings(dataset=dataset, **settings), DIALOGUES, report or Silent())


def trained(*dataset, **settings):
    settings = TrainSettings(dataset=dataset, **settings)
    found = sources_of(settings, DIALOGUES, Silent())
    return [record.source for record in training_records(found, settings)], found


def test_weights_caps_and_replay(project, tmp_path):
    for name, count in (("甲", 40), ("乙", 30), ("丙", 50)):
        built(tmp_path, name, count)
    names, found = trained("甲", "乙:0.5", replay=("丙:0.25",), allow_leak=True)
    assert Counter(names) == {"甲": 40, "乙": 15, "丙": 18}  # 18 of 73
    assert [source.count for source in found] == [40, 15, 18]
    names, _ = trained("甲:5", "乙:2.0", allow_leak=True)
    assert Counter(names) == {"甲": 5, "乙": 60}


def test_one_set_after_the_other_each_shuffled(project, tmp_path):
    built(tmp_path, "甲", 40)
    built(tmp_path, "乙", 30)
    names, found = trained("乙", "甲", mix="concatenate", allow_leak=True)
    assert names == ["乙"] * 30 + ["甲"] * 40
    settings = TrainSettings(dataset=("乙", "甲"), mix="concatenate", seed=1)
    ids = [record.id for record in training_records(found, settings)]
    assert ids[:30] != sorted(ids[:30])
    assert ids == [record.id for record in training_records(found, settings)]


def test_a_file_is_built_on_the_way_and_used_again(project, tmp_path):
    path = pairs(tmp_path / "own.jsonl", "甲", 30)
    notes = Notes()
    (source,) = sources(str(path), report=notes)
    assert source.dataset.name == "own"
    assert any("building data/own" in note for note in notes.notes)
    assert sources("own")[0].dataset.sha256("train") == source.dataset.sha256("train")
    assert sources(f"{path}:0.5")[0].count == round(source.count / 2)
    (tmp_path / "other").mkdir()
    other = pairs(tmp_path / "other" / "own.txt.jsonl", "乙", 30).rename(tmp_path / "other" / "own.json")
    with pytest.raises(UsageError, match="built from other files"):
        sources(str(other))


def test_a_set_that_asks_what_an_exam_asks_is_refused(project, tmp_path):
    exam = {
        "question": ASKED,
        "options": {"A": "十二指肠溃疡", "B": "胃癌", "C": "胆囊炎", "D": "胰腺炎"},
        "answer": "A",
    }
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "test.csv").write_text(
        "id,question,A,B,C,D,answer\n0," + ",".join([exam["question"], *exam["options"].values(), "A"]) + "\n", "utf-8"
    )
    assert made(tmp_path / "exam").kind == "question"
    asked = ASKED.replace("，", " ") + " D胰腺炎 C胆囊炎 B胃癌 A十二指肠溃疡"
    built(tmp_path, "甲", 30, [{"question": asked, "answer": "考虑十二指肠溃疡"}])
    with pytest.raises(DataError, match="held out") as refusal:
        sources("甲")
    assert "--without exam" in refusal.value.hint
    with pytest.raises(DataError, match="held out"):  # from memory, this time
        sources("甲")
    assert len(list((project / "data" / ".checks").iterdir())) == 1
    assert sources("甲", allow_leak=True)
    clean = built(tmp_path, "甲", 30, [{"question": asked, "answer": "考虑十二指肠溃疡"}], without=("exam",))
    assert clean.manifest["refused"] == {"nearly the same question is held out in exam": 1}
    assert sources("甲")


def test_a_set_that_asks_what_another_holds_out_is_refused(project, tmp_path):
    held = made(pairs(tmp_path / "held.jsonl", "甲", 60), near=1.0)
    question = next(held.records("test")).messages[0].content
    built(tmp_path, "乙", 30, [{"question": question, "answer": "请来门诊"}])
    with pytest.raises(DataError, match="held: "):
        sources("乙", "held")
    assert sources("乙")


def test_a_set_of_another_kind_is_refused(project, tmp_path):
    built(tmp_path, "甲", 30)
    with pytest.raises(DataError, match="learns from preferences"):
        sources_of(TrainSettings(dataset=("甲",)), PAIRS, Silent())


def test_a_pattern_is_called_after_its_folder(project, tmp_path):
    (tmp_path / "ward").mkdir()
    pairs(tmp_path / "ward" / "a.jsonl", "甲", 30)
    pairs(tmp_path / "ward" / "b.jsonl", "乙", 30)
    (source,) = sources(f"{tmp_path}/ward/*.jsonl")
    assert source.dataset.name == "ward"
    assert len(source.dataset.manifest["inputs"]) == 2


def test_a_file_is_built_as_med_toml_says(project, tmp_path):
    (project / "med.toml").write_text('[data.build]\nphi = "drop"\ntest = 0.2\n', "utf-8")
    path = pairs(tmp_path / "own.jsonl", "甲", 30, [{"question": "我叫王小明，头疼", "answer": "请打13812345678"}])
    (source,) = sources(str(path))
    assert source.dataset.manifest["settings"]["test"] == 0.2
    assert source.dataset.manifest["refused"]["patient identifier"] == 1
