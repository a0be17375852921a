"""Makers that ask a model: what is grounded is kept, what is not is refused with the reason."""

import json
import re

import pytest

from medcli.core.dataset_folder import open_dataset
from medcli.core.graph import Entity, entities
from tests.building import check_account, made
from tests.conftest import RAW
from tests.makers.service import Fault, serving

GRAPH = RAW / "graph/medical.json"
FIVE = {item.name: item for item in entities(GRAPH) if isinstance(item, Entity)}


def words(service, *more):
    return "--llm", service.url, "--llm-model", "m", *more


def name_in(prompt):
    return re.search("“(.+?)”", prompt).group(1)


def qa(name, attribute, answer, question="{}怎么办？"):
    return {"attribute": attribute, "question": question.format(name), "answer": answer}


def good(name):
    return [qa(name, key, f"{name}：{'、'.join(values)}") for key, values in FIVE[name].attributes.items()][:5]


def graph_script(prompt, times):
    match name_in(prompt):
        case "青云热":
            return f"好的：\n```json\n{json.dumps(good('青云热'), ensure_ascii=False)}\n```"
        case "白露咳":
            return "这不是 JSON"
        case "冬青疹":
            name = "冬青疹"
            return json.dumps(
                [
                    qa(name, "drugs", "可以用冬青膏，也可以用白露糖浆。"),  # another disease's drug
                    qa(name, "drugs", "每天涂冬青膏7次。"),
                    qa(name, "symptoms", "冬青疹会让人不舒服。"),
                    qa(name, "cure_rate", "能治好。"),
                    qa(name, "department", "挂皮肤科。", question="这个病挂什么科？"),
                    qa(name, "department", "挂皮肤科。"),
                ],
                ensure_ascii=False,
            )
        case "霜降腰痛":
            return (
                Fault(500, {"retry-after-ms": "10"}) if times < 2 else json.dumps(good("霜降腰痛"), ensure_ascii=False)
            )
        case name:
            return Fault(429, {"Retry-After": "0.05"}) if not times else json.dumps(good(name), ensure_ascii=False)


def test_answers_that_are_not_in_the_graph_are_refused(med):
    with serving(graph_script) as service:
        done = med("data", "make", "kg", GRAPH, "--name", "g", *words(service))
        assert done.exit_code == 0, done.stderr
        asked = len(service.asked)
        assert asked == 5 + 2 + 1
        again = med("data", "make", "kg", GRAPH, "--name", "g", *words(service))
        assert again.exit_code == 0
        assert len(service.asked) == asked + 0  # even the broken answer is kept, and not paid for twice
    dataset = open_dataset("g")
    check_account(dataset)
    refused = dataset.manifest["refused"]
    assert refused["the model's answer cannot be read"] == 1
    assert refused["not in the record"] == 1
    assert refused["a number is not in the source"] == 1
    assert refused["the answer leaves out what the record says"] == 1
    assert refused["the model asks for what the record does not hold"] == 1
    assert refused["the question does not name the disease"] == 1
    kept = [record for split in ("train", "valid", "test") for record in dataset.records(split)]
    assert len(kept) == 5 + 1 + 5 + 4
    assert "questions asked" in done.stderr


def test_literature_keeps_what_the_document_says(med, tmp_path):
    first = "青云热由青云小体引起，多见于儿童，潜伏期3天，主要表现为发热与手心发青。" * 4
    second = "白露咳多在秋天出现，夜里咳嗽最重，白天较轻，多数病人休息后好转，少数需要就医。" * 4
    (tmp_path / "docs.jsonl").write_text(
        "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in (first, second, "太短")), "utf-8"
    )

    def script(prompt, times):
        if "青云热" in prompt:
            return json.dumps(
                [
                    {"question": "青云热是什么引起的？", "answer": "青云热由青云小体引起，多见于儿童。"},
                    {"question": "它的潜伏期多长？", "answer": "潜伏期3天。"},
                ],
                ensure_ascii=False,
            )
        return json.dumps(
            [{"question": "白露咳怎么治？", "answer": "口服某种药物，手术也行，建议吸氧5天"}], ensure_ascii=False
        )

    with serving(script) as service:
        done = med("data", "make", "literature", tmp_path / "docs.jsonl", *words(service))
    assert done.exit_code == 0, done.stderr
    dataset = open_dataset("docs-dialogues")
    (record,) = (record for split in ("train", "valid", "test") for record in dataset.records(split))
    assert [message.role for message in record.messages] == ["user", "assistant"] * 2
    assert dataset.manifest["refused"] == {"a number is not in the source": 1, "fewer than 100 characters": 1}


FORUM = [
    ("医生你好啊，头疼3天了，没有发烧，咋办", "吃点布洛芬吧，每次1片，不要喝酒", "good"),
    ("孩子咳嗽5天", "吃氨溴索，一天2次", "loses"),
    ("肚子疼", "去消化科看看", "turns"),
    ("腰疼", "热敷", "same"),
]


@pytest.fixture
def forum(project):
    path = project / "forum.jsonl"
    path.write_text(
        "\n".join(json.dumps({"instruction": q, "output": a}, ensure_ascii=False) for q, a, _ in FORUM), "utf-8"
    )
    return made(path, valid=0.0, test=0.0)


def test_rewriting_keeps_every_fact(med, forum):
    def script(prompt, times):
        kind = next(kind for question, _, kind in FORUM if question in prompt)
        turns = {
            "good": ["您好，我头疼3天了，没有发烧，该怎么办？", "可以服用布洛芬，每次1片，服药期间不要喝酒。"],
            "loses": ["孩子咳嗽5天了。", "可以服用止咳药，一天2次。"],
            "turns": ["肚子疼怎么办？", "建议去消化科就诊。", "谢谢"],
            "same": ["腰疼", "热敷"],
        }[kind]
        roles = ("user", "assistant", "user")
        rows = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
        return json.dumps(rows, ensure_ascii=False)

    with serving(script) as service:
        done = med("data", "make", "rewrite", forum.name, *words(service))
    assert done.exit_code == 0, done.stderr
    dataset = open_dataset("forum-rewritten")
    (record,) = dataset.records("train")
    assert record.messages[1].content.startswith("可以服用布洛芬")
    assert dataset.manifest["refused"] == {
        "a drug is lost": 1,
        "nothing was changed": 1,
        "the turns are not those of the original": 1,
    }


def answers(path, forum, texts):
    rows = [{"id": record.id, "answer": text} for record in forum.records("train") for text in texts]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def test_pairs_by_closeness_to_the_data_set_s_answer(med, forum, project):
    path = answers(project / "answers.jsonl", forum, ["热敷一下", "多喝热水就好了，别的都不用管"])
    done = med("data", "make", "preference", forum.name, "--answers", path, "--margin", "0.2", "--name", "pairs")
    assert done.exit_code == 0, done.stderr
    dataset = open_dataset("pairs")
    assert dataset.kind == "preference"
    (record,) = dataset.records("train")
    assert (record.prompt[0].content, record.chosen) == ("腰疼", "热敷一下")
    assert dataset.manifest["refused"] == {"the answers are about as good as each other": 3}


def test_pairs_by_a_judge(med, forum, project):
    path = answers(project / "answers.jsonl", forum, ["请去医院", "不用管它"])

    def script(prompt, times):
        if "肚子疼" in prompt:
            return "不知道"
        return '{"score": 9}' if "要评价的回答：\n请去医院" in prompt else '打分：{"score": 2}'

    with serving(script) as service:
        done = med("data", "make", "preference", forum.name, "--answers", path, "--name", "judged", *words(service))
    assert done.exit_code == 0, done.stderr
    dataset = open_dataset("judged")
    assert {(r.chosen, r.rejected) for r in dataset.records("train")} == {("请去医院", "不用管它")}
    assert dataset.manifest["refused"] == {"the judge gave no mark": 1}


def test_one_answer_stands_against_the_data_set_s_own(med, forum, project):
    path = answers(project / "answers.jsonl", forum, ["不用管它"])
    assert med("data", "make", "preference", forum.name, "--answers", path, "--name", "own").exit_code == 0
    assert {r.chosen for r in open_dataset("own").records("train")} == {answer for _, answer, _ in FORUM}


def test_a_model_s_own_answers(med, forum, tiny_folder):
    done = med(
        "data", "make", "preference", forum.name, "--model", tiny_folder, "--samples", 3, "--max-tokens", 8,
        "--device", "cpu", "--margin", 0, "--name", "drawn",
    )  # fmt: skip
    assert done.exit_code in (0, 3), done.stderr  # a random model may say nothing that has a character in common
    assert "drawing answers, 3 of 3" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rewrite forum", "--llm is missing"),
        ("preference forum", "give either --answers or --model"),
        ("preference forum --answers none.jsonl", "there is no such file"),
        ("literature forum.jsonl --llm http://x/v1 --llm-model m", "holds no documents"),
    ],
)
def test_what_is_missing_is_told(med, forum, line, said):
    done = med("data", "make", *line.split())
    assert done.exit_code in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
