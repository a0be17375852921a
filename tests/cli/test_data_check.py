"""`med data check` as it is typed: pairs, figures, exit code."""

import json

import pytest


def rows(path, *questions):
    lines = [json.dumps({"question": q, "answer": f"关于{q[:6]}的回答"}, ensure_ascii=False) for q in questions]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


ASKED = [
    "孩子三岁半了，最近一个星期夜里总是咳嗽，没有发烧，需要吃消炎药吗",
    "母亲六十二岁，空腹血糖七点八，饮食已经控制了三个月，要不要开始服药",
    "甲状腺结节三类，大小零点六厘米，多长时间需要复查一次彩超呢",
]


@pytest.fixture
def check(med):
    """The Result of `med …`, whose exit code must be the one expected."""

    def run(*words, code=0):
        done = med(*words)
        assert done.exit_code == code, done.stderr
        return done

    return run


@pytest.fixture
def files(project, tmp_path):
    train = rows(
        tmp_path / "train.jsonl",
        "与此无关的一个问题，说的是脚踝扭伤之后应该怎样冷敷",
        "请问：" + ASKED[0].replace("，", " ") + "？",
        ASKED[1],
    )
    return train, rows(tmp_path / "exam.jsonl", *ASKED)


def test_leaks_are_shown_and_exit_3(check, files):
    train, exam = files
    done = check("data", "check", train, "--against", exam, code=3)
    assert "2 leak (66.67%)" in done.stdout
    assert "exam.jsonl: exam-1" in done.stdout.replace("\n", "")
    assert "2 of 3 held-out items" in done.stderr
    assert f"--without {exam}" in done.stderr.replace("\n", "")


def test_json_holds_every_pair(check, files):
    train, exam = files
    table = json.loads(check("data", "check", train, "--against", exam, "--json", code=3).stdout)
    assert [(pair["train"], pair["held_out"]) for pair in table["pairs"]] == [
        ("train-2", "exam.jsonl: exam-1"),
        ("train-3", "exam.jsonl: exam-2"),
    ]
    assert table["records"] == 3
    assert table["items"] == 3
    assert table["share"] == pytest.approx(2 / 3)


def test_what_is_allowed_passes(check, files):
    train, exam = files
    check("data", "check", train, "--against", exam, "--allow", "0.7")
    check("data", "check", train, "--against", exam, "--allow", "0.6", code=3)


def test_a_set_built_without_the_exam_is_clean(check, files):
    train, exam = files
    check("data", "build", train, "--without", exam, "--name", "clean", "--valid", "0", "--test", "0")
    assert "0 leak" in check("data", "check", "clean", "--against", exam).stdout
    check("data", "check", "clean", "--against", "exom", code=2)
    assert "nothing to compare" in check("data", "check", "clean", code=3).stderr
