"""ROUGE against rouge_chinese, and the cutting of words against jieba."""

import importlib.util
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_chinese import Rouge

from medcli.core.score import Answer
from medcli.metrics.rouge import common_subsequence, likeliest_states, rouge, scores, segment
from tests.metrics import pairs

PAIRS = [
    ("。", "。"),
    ("。，！", "？"),
    ("痛", "痛"),
    ("痛", "热"),
    ("the cat sat on the mat.", "on the mat sat a cat"),
    ("多喝水，注意休息。不要熬夜！", "注意休息，多喝水。不要熬夜。"),
    ("他说：“没事。”然后走了。", "他说：“没事。”走了？"),
    ("建议您到医院做血常规检查", "建议到医院检查血常规"),
    ("头痛……发热", "头痛......发热"),
    ("a......b 1.5mg", "a......b 1.5 mg"),
    ("一、多喝水\n\n二、休息\n", "一、多喝水\n二、休息"),
    ("高血压\u3000糖尿病\t肥胖", "高血压 糖尿病"),
    ("体温38.5℃，血压120/80mmHg", "体温38℃，血压120/80 mmHg"),
    ("头痛头痛头痛头痛", "头痛"),
]
# Joined by spaces as words, these meet every rule by which rouge_chinese cuts sentences.
ODD_WORDS = [
    "头痛",
    "发热",
    "。",
    "！",
    "?",
    "”",
    "’",
    "，",
    "......",
    "…",
    "……",
    "......x",
    "\n",
    "\n\n",
    "\t",
    "。”好",
]


def oracle(text, reference):
    return {name: row["f"] for name, row in Rouge().get_scores(text, reference)[0].items()}


@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_equals_rouge_chinese_on_odd_pairs(text, reference):
    text, reference = segment(text), segment(reference)
    assert rouge(text, reference) == pytest.approx(oracle(text, reference), abs=1e-9)


@pytest.mark.parametrize("between", ["", " "])
def test_equals_rouge_chinese_on_random_pairs(between):
    draw = random.Random(2)
    for _ in range(300):
        text, reference = (between.join(draw.choices(ODD_WORDS, k=draw.randrange(1, 25))) for _ in range(2))
        if text.strip() and reference.strip():
            assert rouge(text, reference) == pytest.approx(oracle(text, reference), abs=1e-9)


@pytest.mark.parametrize(("text", "reference"), [("", ""), ("", "头痛"), ("头痛", ""), (" \n", "头痛"), ("\n", "\t")])
def test_empty_text_scores_0(text, reference):
    assert set(rouge(text, reference).values()) == {0.0}


def test_a_long_pair_takes_little_time_and_memory():
    draw = random.Random(3)
    text, reference = (" ".join(draw.choices("甲乙丙丁戊己庚辛", k=2000)) for _ in range(2))
    started = time.perf_counter()
    rouge(text, reference)
    assert time.perf_counter() - started < 1  # rouge_chinese: 4.3 s
    tracemalloc.start()
    rouge(text, reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20  # rouge_chinese: 628 MB


def test_a_long_text_of_different_words_takes_memory_in_proportion():
    words = range(20_000)
    tracemalloc.start()
    assert common_subsequence(words, words) == len(words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20  # a bit for each pair of words: 25 MB in all


def test_a_pair_of_some_hundred_words_equals_rouge_chinese():
    draw = random.Random(4)
    text, reference = (" ".join(draw.choices("甲乙丙丁戊己庚辛。", k=400)) for _ in range(2))
    assert rouge(text, reference) == pytest.approx(oracle(text, reference), abs=1e-9)


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40), st.integers(1, 50))
def test_common_subsequence_equals_the_textbook(one, other, block):
    row = [0] * (len(other) + 1)
    for item in one:
        before = row[:]
        for index, wanted in enumerate(other, 1):
            row[index] = before[index - 1] + 1 if item == wanted else max(row[index - 1], before[index])
    assert common_subsequence(one, other) == common_subsequence(one, other, block) == row[-1]


def test_odd_pairs_equal_rouge_chinese_or_are_empty():
    for text, reference in pairs.ODD:
        text, reference = segment(text), segment(reference)
        if text.strip() and reference.strip():
            assert rouge(text, reference) == pytest.approx(oracle(text, reference), abs=1e-9)
        else:
            assert set(rouge(text, reference).values()) == {0.0}


@given(st.text("头痛发热咳嗽，。 \nab1.", max_size=60), st.text("头痛发热咳嗽，。 \nab1.", max_size=60))
def test_lies_between_0_and_1(text, reference):
    columns = scores([Answer(text=text, reference=reference)])
    assert all(0 <= value <= 1 for column in columns.values() for value in column)


@given(st.text("头痛发热咳嗽，。 ab1.", min_size=4, max_size=60).filter(str.strip))
def test_a_perfect_answer_scores_1(text):
    columns = scores([Answer(text=text, reference=text)])
    assert columns["rouge-1"][0] == columns["rouge-l"][0] == pytest.approx(1)
    assert columns["rouge-2"][0] == pytest.approx(1 if len(segment(text).split()) > 1 else 0)


def test_jieba_keeps_its_cache_in_our_folder_and_says_nothing(tmp_path, monkeypatch, capfd):
    from medcli.metrics.rouge import _jieba

    monkeypatch.setenv("MED_CACHE", str(tmp_path / "cache"))
    _jieba.cache_clear()
    assert segment("头痛发热") == "头痛 发热"
    assert (tmp_path / "cache" / "jieba.cache").is_file()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def jieba_itself():
    """jieba's `finalseg` as it is published: a second copy of the module, which nobody has changed."""
    found = importlib.util.find_spec("jieba.finalseg")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_words_jieba_does_not_know_are_cut_as_it_cuts_them(jieba_itself):
    draw = random.Random(7)
    model = (jieba_itself.start_P, jieba_itself.trans_P, jieba_itself.emit_P)
    for text in ["龘", "龘" * 50, "\u9fa5", *("".join(draw.choices("头痛李小明龘颻丨的在", k=30)) for _ in range(100))]:
        assert likeliest_states(text, "BMES", *model) == jieba_itself.viterbi(text, "BMES", *model)
    for _ in range(300):
        text = "".join(chr(draw.randrange(0x4E00, 0x9FA6)) for _ in range(draw.randrange(1, 60)))
        assert likeliest_states(text, "BMES", *model) == jieba_itself.viterbi(text, "BMES", *model)


def test_jieba_cuts_by_our_search():
    import jieba

    segment("头痛")
    assert jieba.finalseg.viterbi is likeliest_states
