"""Near-duplicates and leaks, against naive twins that compare everything with everything."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcli.core.fingerprint import bare
from medcli.engine.grams import SIZE, grams_of, similarity
from medcli.engine.leak import HeldOut
from medcli.engine.near import NearDuplicates

CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 800)]
TEXTS = st.lists(st.text(alphabet="头疼三天了怎么办？abc １２ ", max_size=30), max_size=8)


def random_text(generator, length=100):
    return "".join(generator.choices(CHARACTERS, k=length))


def changed(generator, text, times):
    characters = list(text)
    for place in generator.sample(range(len(text)), times):
        characters[place] = generator.choice(CHARACTERS)
    return "".join(characters)


def naive_grams(text):
    text = bare(text)
    text = text.ljust(SIZE, "\0") if text else ""
    return {text[start : start + SIZE] for start in range(len(text) - SIZE + 1)}


def naive_similarity(one, other):
    first, second = naive_grams(one), naive_grams(other)
    return len(first & second) / len(first | second) if first | second else 0.0


def repeats(texts, threshold=0.9):
    near = NearDuplicates(threshold)
    for text in texts:
        near.add(text)
    return near.repeats(lambda index: (texts[index], ""))


@given(TEXTS)
def test_grams_are_those_of_each_text_alone(texts):
    grams = grams_of(texts)
    for index, text in enumerate(texts):
        assert len(np.unique(grams.of(index))) == len(naive_grams(text))
        assert np.array_equal(grams.of(index), grams_of([text]).of(0))


@given(st.text(max_size=40), st.text(max_size=40))
def test_similarity_is_jaccards(one, other):
    grams = grams_of([one, other])
    assert similarity(grams.distinct(0), grams.distinct(1)) == pytest.approx(naive_similarity(one, other))


@pytest.mark.parametrize(("threshold", "times"), [(0.9, 1), (0.8, 2), (0.6, 4), (0.5, 6)])
def test_planted_near_duplicates_are_found_and_nothing_else(threshold, times):
    generator = random.Random(7)
    texts = [random_text(generator, 120) for _ in range(1500)]
    planted = {}
    for source in generator.sample(range(1500), 150):
        planted[len(texts)] = source
        texts.append(changed(generator, texts[source], times))
    expected = {
        copy: source for copy, source in planted.items() if naive_similarity(texts[copy], texts[source]) >= threshold
    }
    found = repeats(texts, threshold)
    assert len(expected) > 100
    assert found.items() <= planted.items()
    assert len(found.keys() & expected.keys()) >= 0.98 * len(expected)
    assert all(naive_similarity(texts[copy], texts[source]) >= threshold for copy, source in found.items())


def test_the_first_of_its_kind_stays_and_chains_end_at_it():
    generator = random.Random(1)
    first = random_text(generator, 300)
    copies = [first, *(changed(generator, first, 1) for _ in range(20))]
    assert repeats(copies) == dict.fromkeys(range(1, 21), 0)


def test_two_answers_to_one_long_question_are_no_duplicates():
    question = random_text(random.Random(2), 400)
    parts = [(question + "多休息", "多休息"), (question + "去医院", "去医院"), (question + "多休息", "多休息")]
    near = NearDuplicates(0.9)
    for whole, _ in parts:
        near.add(whole)
    assert near.repeats(parts.__getitem__) == {2: 0}


def test_texts_without_a_word_repeat_nothing():
    assert repeats(["……", "？！", "", "头疼", "头疼"]) == {4: 3}


EXAM = [
    ("下列哪一种药物最适合用于治疗肺炎链球菌引起的社区获得性肺炎？", "青霉素", "链霉素", "四环素类抗生素", "异烟肼"),
    ("慢性支气管炎急性发作期最主要的治疗措施是什么？", "控制感染并且祛痰止咳", "长期家庭氧疗", "手术切除病灶", "心理"),
    ("钙的正常值是？", "2.1", "3", "9.9", "无"),
]  # fmt: skip


def matches(texts, threshold=0.8, items=EXAM):
    pairs = [(text, text) for text in texts]
    return sorted((match.text, match.item) for match in HeldOut(items).matches(pairs, threshold))


def test_a_leak_bears_shuffled_options_punctuation_and_text_around_it():
    stem, *options = EXAM[1]
    shuffled = (
        f"请回答：{stem.replace('？', '?')}\nA. {options[2]}；B、{options[0]} C.{options[3]}\nD {options[1]}。答案：B"
    )
    assert matches(["与考题无关的一段话，只是说说慢性支气管炎。", shuffled, "", "头疼"]) == [(1, 1)]


def test_a_short_item_leaks_only_whole():
    assert matches(["钙的正常值是多少", "问：钙的正常值是？ A 9.9 B 2.1 C 3 D 无"]) == [(1, 2)]
    assert matches(["头疼三天该怎么办", "头疼三天了怎么办"], items=[("头疼三天了怎么办？",)]) == [(1, 0)]


def test_an_item_whose_grams_stand_in_many_is_still_found():
    items = [
        (f"下列关于疾病的说法当中，哪一项是完全正确的呢，请选择第{number}项", f"选项{number}甲乙丙")
        for number in range(300)
    ]
    assert (0, 299) in matches([" ".join(items[299])], items=items)


def test_leaks_equal_the_naive_twin():
    generator = random.Random(3)
    items = [(random_text(generator, 60),) for _ in range(80)]
    texts = [random_text(generator, 90) for _ in range(80)]
    for number in range(0, 80, 3):
        texts[number] = texts[number][:40] + changed(generator, items[number][0], number % 5) + texts[number][40:]
    expected = [
        (text, item)
        for text in range(80)
        for item in range(80)
        if len(naive_grams(items[item][0]) & naive_grams(texts[text])) / len(naive_grams(items[item][0])) >= 0.8
    ]
    assert len(expected) > 10
    assert matches(texts, items=items) == expected
