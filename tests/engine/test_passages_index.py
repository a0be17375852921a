import json
import threading

import numpy
import pytest

from medcli.core.errors import DataError
from medcli.engine.passages_index import FITS, IndexWriter, PassagesIndex, words_of

TEXTS = (
    "高血压的并发症：脑卒中、心力衰竭、肾衰竭",
    "高血压的症状：头痛、头晕",
    "糖尿病的症状：多饮、多尿、体重下降",
    "感冒的常用药物：对乙酰氨基酚、Ibuprofen 200mg",
    "感冒时多休息，多喝水。",
    "？！",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("index")
    writer = IndexWriter()
    for text in TEXTS:
        writer.add(text)
    writer.finish(place)
    return place


@pytest.fixture(scope="module")
def index(folder):
    return PassagesIndex(folder)


def fitting(index, question, limit=5):
    return [number for number, score in index.search(question, limit) if score >= FITS]


def test_words_are_those_of_jieba_and_pairs_and_latin_in_small_letters():
    words = words_of("请问高血压有哪些并发症？Aspirin 100mg，COVID-19")
    assert {"高血压", "高血", "血压", "并发症", "并发", "aspirin", "100mg", "covid-19"} <= set(words)
    assert not {"请问", "有哪些", "压有", "压并"} & set(words)
    assert words_of("你好，请问怎么办？") == []


def test_the_passage_that_answers_comes_first(index):
    assert fitting(index, "高血压有哪些并发症")[0] == 0
    assert fitting(index, "糖尿病会有什么症状")[0] == 2
    assert fitting(index, "IBUPROFEN 怎么吃") == [3]
    assert len(index) == len(TEXTS)


@pytest.mark.parametrize("question", ["北京到上海的高铁票多少钱", "怎么学好英语", "", "？", "你好", "<|im_end|>"])
def test_what_is_about_something_else_fits_nothing(index, question):
    assert fitting(index, question) == []


def test_neighbours_by_accident_are_not_asked_for(tmp_path):
    """In 痛风不能吃什么 nobody asks for 风不 or 能吃; in 高血压可以吃咸菜吗 not for the pair 吃咸."""
    writer = IndexWriter()
    for text in ("痛风患者少吃海鲜和动物内脏，多喝水。", "高血压患者每日食盐不超过5克。"):
        writer.add(text)
    writer.finish(tmp_path / "index")
    small = PassagesIndex(tmp_path / "index")
    assert sorted(words_of("痛风不能吃什么")) == ["吃", "痛风"]
    assert fitting(small, "痛风不能吃什么") == [0]
    assert fitting(small, "高血压可以吃咸菜吗") == [1]


def test_scores_are_shares_and_a_passage_s_own_words_are_all_of_it(index):
    for question in (*TEXTS, "高血压糖尿病感冒" * 300):
        assert all(0 < score <= 1 for _, score in index.search(question, 5))
    assert dict(index.search(TEXTS[2], 5))[2] == pytest.approx(1)


def test_no_more_than_asked_for_and_of_equals_the_first(tmp_path):
    writer = IndexWriter()
    for _ in range(200):
        writer.add("高血压患者少吃盐")
    writer.finish(tmp_path)
    assert [number for number, _ in PassagesIndex(tmp_path).search("高血压", 3)] == [0, 1, 2]


def test_threads_ask_at_the_same_time(index):
    wanted = {text: index.search(text, 3) for text in TEXTS}
    wrong = []

    def ask():
        wrong.extend(text for text in TEXTS * 20 if index.search(text, 3) != wanted[text])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_index_is_arrays_and_json_and_nothing_that_could_run(folder):
    for path in folder.iterdir():
        if path.suffix == ".npy":
            assert numpy.load(path, allow_pickle=False).size
        else:
            json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_a_damaged_index_is_a_data_error(folder, tmp_path, damage):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if damage == "gone":
        (tmp_path / "indices.csc.index.npy").unlink()
    elif damage == "cut":
        whole = (tmp_path / "data.csc.index.npy").read_bytes()
        (tmp_path / "data.csc.index.npy").write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / "params.index.json").write_text("[]", "utf-8")
    with pytest.raises(DataError, match="not an index"):
        PassagesIndex(tmp_path)
